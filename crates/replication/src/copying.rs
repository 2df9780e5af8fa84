//! Orders one copy for all disks, follows it, and seals each replica that both ends agree on.

use hub_domain::fault::Fault;
use hub_domain::job::JobStatus;
use hub_domain::limits::CopyRates;
use hub_domain::owed::{OwedBy, OwedCleanup};
use hub_domain::replication::ReplicationJob;
use hub_domain::source::{
    CopyMethod, CopyPhase, CopyStatus, DiskCopyStatus, OrderedDisk, method_reason,
};
use hub_ports::{
    Classify, CopyKind, CopyOrder, CopyWatch, OwedCleanups, OwedOptions, StoreError, owe, stop_copy,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Replication;
use crate::ending::{Ending, of_disk};
use crate::run::Work;

impl Replication {
    /// Copies all prepared disks under one order.
    pub(crate) async fn copy(&self, work: &mut Work, cancel: &CancellationToken) -> Ending {
        let cleanups = OwedCleanups {
            store: self.store.clone(),
            source: self.source.clone(),
            clock: self.clock.clone(),
            options: OwedOptions::default(),
        };
        let settled = cleanups.before_copy(&work.reach.node, &work.vm);
        if cancel.run_until_cancelled(settled).await.is_none() {
            return Ending::Stopped;
        }
        let owed = work.reach.node.takes_snapshots().then(|| self.owed(work));
        if let Some(owed) = &owed
            && let Err(error) = self.patiently(|| owe(self.store.as_ref(), owed)).await
        {
            // Nothing is ordered that could not be cleaned up after (promise P3).
            return Ending::Fault(Fault::new(error.code(), error.to_string()));
        }
        let ending = match self.follow(work, cancel).await {
            Ok(Some(ending)) => ending,
            Ok(None) => Ending::Stopped,
            Err(fault) if fault.is_for_later() => Ending::Refused,
            Err(fault) => {
                match work.job.attempt.worth_another(&fault, self.options.copy_attempts) {
                    Some(reason) => Ending::Lost { fault, reason },
                    None => Ending::Fault(fault),
                }
            }
        };
        if !matches!(ending, Ending::Complete) {
            let (source, job) = (self.source.as_ref(), copy_name(&work.job));
            stop_copy(source, &work.reach.node, &job, self.options.watch).await;
        }
        if let Some(owed) = &owed {
            cleanups.after_copy(&work.reach.node, &owed.copy).await;
        }
        ending
    }

    fn owed(&self, work: &Work) -> OwedCleanup {
        let (copy, by) = (copy_name(&work.job), OwedBy::Replication(work.job.id));
        let credential = work.reach.credential.as_ref().map(|it| it.id);
        let (node, at) = (work.reach.node.id, self.clock.now());
        OwedCleanup::of_copy(&copy, by, &work.vm, node, credential, at)
    }

    /// Waits on the VMA and on the storage are cut short by a cancellation; `None` when they were.
    async fn follow(
        &self,
        work: &mut Work,
        cancel: &CancellationToken,
    ) -> Result<Option<Ending>, Fault> {
        // As it is now: another attempt must not bring back a limit that was changed since the job began.
        let rates = self.rates.rates(self.store.as_ref(), &work.reach.node, work.job.rate).await;
        let order = order(work, rates);
        let node = work.reach.node.clone();
        let start = CopyWatch::start(self.source.as_ref(), &node, &order, self.options.watch);
        let Some(started) = cancel.run_until_cancelled(start).await else {
            return Ok(None);
        };
        let mut watch = started?;
        let listener = self.waits.listen(work.job.id.as_uuid());
        loop {
            let Some(heard) = cancel.run_until_cancelled(watch.next()).await else {
                return Ok(None);
            };
            if let Some(status) = heard? {
                listener.hear(&status);
                let Some(heard) = cancel.run_until_cancelled(self.hear(work, &status)).await else {
                    return Ok(None);
                };
                heard?;
                if work.open.is_empty() {
                    return Ok(Some(Ending::Complete));
                }
                if status.phase.is_terminal() {
                    let silent = || {
                        let detail = "the VMA ended the copy without a word about every disk";
                        Fault::new("vma/garbled-answer", detail)
                    };
                    return Err(status.fault.unwrap_or_else(silent));
                }
                self.tell_progress(work).await;
            }
            if self.is_asked_to_stop(work).await {
                return Ok(None);
            }
        }
    }

    /// Takes in a report; a disk that failed fails the job, since half a VM cannot be failed over to.
    async fn hear(&self, work: &mut Work, status: &CopyStatus) -> Result<(), Fault> {
        work.job.quiescence.clone_from(&status.quiescence);
        for report in &status.disks {
            let mut disks = work.job.disks.iter_mut().zip(&work.earlier);
            let Some((replica, earlier)) = disks.find(|(it, _)| it.key == report.key) else {
                continue;
            };
            replica.bytes = replica.bytes.max(report.bytes.after(*earlier));
            replica.method = Some(report.method.clone());
            replica.method_reason =
                method_reason(replica.method_reason.as_deref(), report.method_reason.as_deref());
            replica.read_by.clone_from(&report.read_by);
            match report.phase {
                CopyPhase::Queued | CopyPhase::Running => (),
                CopyPhase::Succeeded => self.seal(work, report).await?,
                CopyPhase::Failed | CopyPhase::Cancelled => {
                    let fault = report.fault.clone().unwrap_or_else(|| ended_by_vma(report.phase));
                    let fault = as_the_hub_knows_it(fault);
                    return Err(of_disk(&report.key, fault));
                }
            }
        }
        Ok(())
    }

    async fn seal(&self, work: &mut Work, report: &DiskCopyStatus) -> Result<(), Fault> {
        let Some(place) = work.open.iter().position(|(key, _)| *key == report.key) else {
            return Ok(());
        };
        let Some(source_root) = &report.source_root else {
            let detail = "the VMA finished a disk without the digest of what it read";
            return Err(Fault::new("vma/garbled-answer", detail));
        };
        let Some((_, target)) = work.open.get(place) else {
            return Ok(());
        };
        let sealed = self.storage.seal_replica(target, source_root).await;
        let root = sealed.map_err(|error| of_disk(&report.key, error.to_fault()))?;
        work.open.remove(place);
        for replica in work.job.disks.iter_mut().filter(|it| it.key == report.key) {
            replica.root = Some(root.clone());
        }
        Ok(())
    }

    /// Writes progress down now and then; when that fails, the next report makes it good.
    async fn tell_progress(&self, work: &mut Work) {
        let due = |at: Instant| at.elapsed() >= self.options.progress_interval;
        if !work.told_at.is_none_or(due) {
            return;
        }
        work.told_at = Some(Instant::now());
        let told = async {
            let mut unit = self.store.begin().await?;
            let Some(mut job) = unit.replication(work.job.id).await? else { return Ok(()) };
            if job.state.status() != JobStatus::Running {
                return Ok(());
            }
            job.disks.clone_from(&work.job.disks);
            job.quiescence.clone_from(&work.job.quiescence);
            unit.update_replication(&mut job).await?;
            unit.commit().await
        };
        let told: Result<(), StoreError> = told.await;
        if let Err(error) = told {
            tracing::debug!(error = %error, "progress was not written");
        }
    }

    /// Whether somebody asked the job to stop, perhaps through another hub; a catalogue that is away asks nothing.
    async fn is_asked_to_stop(&self, work: &Work) -> bool {
        let asked = async {
            let job = self.store.view().await?.replication(work.job.id).await?;
            Ok(job.is_none_or(|job| job.state.status() == JobStatus::Cancelling))
        };
        let asked: Result<bool, StoreError> = asked.await;
        asked.unwrap_or(false)
    }
}

/// What a copy is called at the VMA: every attempt has a name of its own, since each is another order.
pub(crate) fn copy_name(job: &ReplicationJob) -> String {
    match job.attempt.number {
        0 | 1 => job.id.to_string(),
        number => format!("{}.{number}", job.id),
    }
}

fn order(work: &Work, rates: CopyRates) -> CopyOrder {
    let ordered = |(key, target): &(_, hub_domain::source::PreparedTarget)| {
        let disk = work.disks.iter().find(|disk| disk.facts.key == *key)?;
        // Only digests of what the replica holds allow to send less than everything.
        let method = if target.parent.is_some() { CopyMethod::ByDigest } else { CopyMethod::Full };
        let capacity = disk.facts.capacity;
        Some(OrderedDisk {
            key: key.clone(),
            capacity,
            backing_uuid: disk.facts.backing_uuid.clone(),
            method,
            target: target.clone(),
            audit: None,
            chain_audit: None,
        })
    };
    CopyOrder {
        kind: CopyKind::Replication,
        job: copy_name(&work.job),
        vm: work.vm.facts.vmware_vm_id.clone(),
        vcenter_uuid: work.vm.facts.vcenter_uuid.clone(),
        credential: work.reach.credential.clone(),
        disks: work.open.iter().filter_map(ordered).collect(),
        quiesce: work.job.quiesce,
        rates,
    }
}

/// A full target is the hub's replica directory: the VMA cannot know which.
fn as_the_hub_knows_it(fault: Fault) -> Fault {
    if fault.code != "target/no-space" {
        return fault;
    }
    let detail =
        "the hub's replica directory is full; free space, then start the replication again";
    Fault::new("repository/full", detail)
}

fn ended_by_vma(phase: CopyPhase) -> Fault {
    if phase == CopyPhase::Cancelled {
        Fault::new("vma/copy-cancelled", "the copy was cancelled at the VMA; start it again")
    } else {
        Fault::new("vma/copy-failed", "the VMA gave no reason; look at its log")
    }
}
