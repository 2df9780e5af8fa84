//! Orders one copy for all disks of a run and follows it.

use hub_domain::fault::Fault;
use hub_domain::job::JobStatus;
use hub_domain::owed::{OwedBy, OwedCleanup};
use hub_domain::source::{
    CopyMethod, CopyPhase, CopyStatus, DiskCopyStatus, OrderedDisk, method_reason,
};
use hub_ports::store::readable;
use hub_ports::{
    CopyKind, CopyOrder, CopyWatch, OwedCleanups, OwedOptions, StoreError, owe, stop_copy,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Backup;
use crate::attempts::{copy_name, newest_attempt};
use crate::audits::say_what_was_not_audited;
use crate::ending::Ending;
use crate::preparation::DiskWork;
use crate::run::Scene;

impl Backup {
    /// Copies all prepared disks under one order, so that they stand at one instant (trap D6).
    pub(crate) async fn copy(
        &self,
        scene: &Scene,
        disks: &mut [DiskWork],
        cancel: &CancellationToken,
    ) -> Result<Ending, StoreError> {
        let job = copy_name(scene.run.id, newest_attempt(disks));
        let owes = scene.node.takes_snapshots();
        if owes {
            let settled = self.owed_cleanups();
            let settled = settled.before_copy(&scene.node, &scene.vm);
            if cancel.run_until_cancelled(settled).await.is_none() {
                return Ok(Ending::Stopped);
            }
            // Durable before the order goes out: from then on a snapshot may be there (promise P3).
            let (by, at) = (OwedBy::Backup(scene.run.id), self.clock.now());
            let credential = scene.credential.as_ref().map(|it| it.id);
            let owed = OwedCleanup::of_copy(&job, by, &scene.vm, scene.node.id, credential, at);
            self.patiently(|| owe(self.store.as_ref(), &owed)).await?;
        }
        let followed = self.follow(scene, &job, disks, cancel).await;
        if !matches!(followed, Ok(Ending::Nothing)) {
            stop_copy(self.source.as_ref(), &scene.node, &job, self.options.watch).await;
        }
        if owes {
            self.owed_cleanups().after_copy(&scene.node, &job).await;
        }
        followed
    }

    fn owed_cleanups(&self) -> OwedCleanups {
        OwedCleanups {
            store: self.store.clone(),
            source: self.source.clone(),
            clock: self.clock.clone(),
            options: OwedOptions::default(),
        }
    }

    /// Waits on the VMA and on the storage are cut short by a cancellation; what is sealed is still recorded.
    async fn follow(
        &self,
        scene: &Scene,
        job: &str,
        disks: &mut [DiskWork],
        cancel: &CancellationToken,
    ) -> Result<Ending, StoreError> {
        // As it is now: another attempt must not bring back a limit that was changed since the run began.
        let rates = self.rates.rates(self.store.as_ref(), &scene.node, scene.run.rate).await;
        let order = CopyOrder {
            kind: CopyKind::Backup,
            job: job.to_owned(),
            vm: scene.vm.facts.vmware_vm_id.clone(),
            vcenter_uuid: scene.vm.facts.vcenter_uuid.clone(),
            credential: scene.credential.clone(),
            disks: disks.iter().filter_map(ordered).collect(),
            quiesce: scene.run.quiesce,
            rates,
        };
        let source = self.source.as_ref();
        let start = CopyWatch::start(source, &scene.node, &order, self.options.watch);
        let Some(started) = cancel.run_until_cancelled(start).await else {
            return Ok(Ending::Stopped);
        };
        let mut watch = match started {
            Ok(watch) => watch,
            Err(fault) => return Ok(self.ending_by(disks, fault)),
        };
        let listener = self.waits.listen(scene.run.id.as_uuid());
        loop {
            match cancel.run_until_cancelled(watch.next()).await {
                None => return Ok(Ending::Stopped),
                Some(Err(fault)) => return Ok(self.ending_by(disks, fault)),
                Some(Ok(None)) => (),
                Some(Ok(Some(status))) => {
                    listener.hear(&status);
                    self.hear(scene, disks, &status).await?;
                    if status.phase.is_terminal() || disks.iter().all(DiskWork::has_ended) {
                        return self.settle(scene, disks, status.fault, cancel).await;
                    }
                }
            }
            if self.is_asked_to_stop(scene).await {
                return Ok(Ending::Stopped);
            }
        }
    }

    async fn hear(
        &self,
        scene: &Scene,
        disks: &mut [DiskWork],
        status: &CopyStatus,
    ) -> Result<(), StoreError> {
        for disk in disks.iter_mut().filter(|disk| !disk.has_ended()) {
            let about = |report: &&DiskCopyStatus| report.key == disk.job.disk_key;
            let Some(report) = status.disks.iter().find(about) else { continue };
            disk.job.bytes = disk.job.bytes.max(report.bytes.after(disk.earlier));
            disk.job.quiescence.clone_from(&status.quiescence);
            disk.job.read_by.clone_from(&report.read_by);
            self.hear_of_audit(disk, report).await?;
            match report.phase {
                CopyPhase::Queued | CopyPhase::Running => self.tell_progress(disk, report).await,
                CopyPhase::Succeeded => disk.copied = Some(disk.believed(report)),
                CopyPhase::Failed | CopyPhase::Cancelled => {
                    let fault = report.fault.clone().unwrap_or_else(|| ended_by_vma(report.phase));
                    if self.worth_another(disk, &fault).is_some() {
                        disk.lost = Some(fault);
                        continue;
                    }
                    disk.settled = true;
                    self.abandon(scene, &disk.job).await;
                    let fault = as_the_hub_knows_it(fault, &scene.repository.name);
                    self.end_job(disk.job.id, &Ending::Fault(fault)).await?;
                }
            }
        }
        Ok(())
    }

    /// Seals what was copied, after the last disk: until then a loss could still ask for another instant of all.
    async fn settle(
        &self,
        scene: &Scene,
        disks: &mut [DiskWork],
        fault: Option<Fault>,
        cancel: &CancellationToken,
    ) -> Result<Ending, StoreError> {
        let lost = disks.iter().find_map(|disk| disk.lost.clone());
        if let Some(fault) = lost {
            return Ok(self.ending_by(disks, fault));
        }
        say_what_was_not_audited(scene, disks);
        for disk in disks.iter_mut().filter(|disk| !disk.settled) {
            let Some(report) = disk.copied.take() else { continue };
            self.complete(scene, disk, &report, cancel).await?;
            if cancel.is_cancelled() {
                return Ok(Ending::Stopped);
            }
        }
        Ok(fault.map_or(Ending::Nothing, Ending::Fault))
    }

    /// The end of a copy by a fault that is not one disk's: another attempt, where it is worth one.
    fn ending_by(&self, disks: &[DiskWork], fault: Fault) -> Ending {
        if fault.is_for_later() {
            return Ending::Refused;
        }
        let reason = disks
            .iter()
            .filter(|disk| !disk.settled)
            .find_map(|disk| self.worth_another(disk, &fault));
        match reason {
            Some(reason) => Ending::Lost { fault, reason },
            None => Ending::Fault(fault),
        }
    }

    fn worth_another(&self, disk: &DiskWork, fault: &Fault) -> Option<&'static str> {
        disk.job.attempt.worth_another(fault, self.options.copy_attempts)
    }

    /// Writes progress down now and then; when that fails, the next report makes it good (trap D24).
    async fn tell_progress(&self, disk: &mut DiskWork, report: &DiskCopyStatus) {
        let due = |at: Instant| at.elapsed() >= self.options.progress_interval;
        if !disk.told_at.is_none_or(due) {
            return;
        }
        disk.told_at = Some(Instant::now());
        let told = async {
            let mut work = self.store.begin().await?;
            let Some(mut job) = work.backup(disk.job.id).await? else { return Ok(()) };
            if job.state.status() != JobStatus::Running {
                return Ok(());
            }
            job.bytes = job.bytes.max(disk.job.bytes);
            job.attempt = disk.job.attempt.clone();
            job.audited = disk.job.audited;
            job.quiescence.clone_from(&disk.job.quiescence);
            job.read_by.clone_from(&disk.job.read_by);
            job.method.clone_from(&report.method);
            job.method_reason =
                method_reason(job.method_reason.as_deref(), report.method_reason.as_deref());
            work.update_backup(&mut job).await?;
            work.commit().await
        };
        let told: Result<(), StoreError> = told.await;
        if let Err(error) = told {
            tracing::debug!(error = %error, "progress was not written");
        }
    }

    /// Whether somebody asked the run to stop, perhaps through another hub; a catalogue that is away asks nothing.
    pub(crate) async fn is_asked_to_stop(&self, scene: &Scene) -> bool {
        let asked = async {
            let mut view = self.store.view().await?;
            let jobs = readable(view.backups_of_run(scene.run.id).await?);
            Ok(jobs.iter().any(|job| job.state.status() == JobStatus::Cancelling))
        };
        let asked: Result<bool, StoreError> = asked.await;
        asked.unwrap_or(false)
    }
}

fn ordered(disk: &DiskWork) -> Option<OrderedDisk> {
    let target = disk.target.clone().filter(|_| !disk.settled)?;
    Some(OrderedDisk {
        key: disk.job.disk_key.clone(),
        capacity: disk.order.capacity,
        backing_uuid: disk.backing_uuid.clone(),
        // What is kept is of another instant, so only its digests say what may stay.
        method: if disk.kept { CopyMethod::ByDigest } else { disk.method.clone() },
        target,
        audit: disk.audit.filter(|_| !disk.kept),
        chain_audit: disk.chain.as_ref().and_then(|it| it.order(disk.job.audited.next)),
    })
}

impl DiskWork {
    /// Whether nothing more is heard about it in this attempt.
    fn has_ended(&self) -> bool {
        self.settled || self.lost.is_some() || self.copied.is_some()
    }
}

/// A full target is a full repository: the VMA cannot know which.
fn as_the_hub_knows_it(fault: Fault, repository: &str) -> Fault {
    if fault.code != "target/no-space" {
        return fault;
    }
    let detail = format!(
        "repository {repository} is full; free space or choose another repository, then start the backup again"
    );
    Fault::new("repository/full", detail)
}

fn ended_by_vma(phase: CopyPhase) -> Fault {
    if phase == CopyPhase::Cancelled {
        Fault::new("vma/copy-cancelled", "the copy was cancelled at the VMA; start it again")
    } else {
        Fault::new("vma/copy-failed", "the VMA gave no reason; look at its log")
    }
}
