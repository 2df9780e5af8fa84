//! Runs a replication from its first step to its end.

use std::sync::atomic::{AtomicBool, Ordering};

use hub_domain::disk::{DiskKey, VmDisk};
use hub_domain::fault::Fault;
use hub_domain::ids::{ReplicationJobId, VmaNodeId};
use hub_domain::job::{JobEvent, JobStatus};
use hub_domain::preflight::Preflight;
use hub_domain::reader_choice::NoReader;
use hub_domain::remarks::{Remarks, Warning};
use hub_domain::replication::{ReplicationJob, ReplicationKind};
use hub_domain::source::{CopyBytes, PreparedTarget};
use hub_domain::vm::VmContext;
use hub_ports::store::{Reader, answering_reader};
use hub_ports::{PrepareReplica, RetryConflicts, StoreError, told};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::ending::{Ending, of_disk};
use crate::engine::{Reach, no_vma};
use crate::{Replication, RunReplicationError};

/// A job at work.
pub(crate) struct Work {
    pub(crate) job: ReplicationJob,
    pub(crate) vm: VmContext,
    pub(crate) reach: Reach,
    pub(crate) disks: Vec<VmDisk>,
    /// The open targets by disk.
    pub(crate) open: Vec<(DiskKey, PreparedTarget)>,
    pub(crate) told_at: Option<Instant>,
    /// What earlier attempts have moved, in the order of the job's disks.
    pub(crate) earlier: Vec<CopyBytes>,
}

impl Work {
    /// Makes it ready for the next attempt; open targets stay open, so that what they hold can be kept.
    fn again(&mut self, reason: &str) {
        self.job.attempt = self.job.attempt.next(reason);
        self.earlier = self.job.disks.iter().map(|disk| disk.bytes).collect();
    }
}

impl Replication {
    /// Runs a started job until it has ended; returns how.
    ///
    /// A VMA that takes no more at the moment leaves it `queued`, to be run again.
    /// `cancel` stops it within seconds: a job that was asked to stop ends `cancelled`; another waits as `queued` for the
    /// next hub, or ends `interrupted` when it has been begun too often.
    /// Dropping the future leaves the job unfinished, for [`recover`](Self::recover).
    pub async fn run(
        &self,
        id: ReplicationJobId,
        cancel: CancellationToken,
    ) -> Result<JobStatus, RunReplicationError> {
        let span = tracing::info_span!("job", job.id = %id, job.kind = "replication");
        // Boxed, so that whoever holds a job does not carry its whole state along.
        Box::pin(self.run_to_its_end(id, &cancel)).instrument(span).await
    }

    async fn run_to_its_end(
        &self,
        id: ReplicationJobId,
        cancel: &CancellationToken,
    ) -> Result<JobStatus, RunReplicationError> {
        let status = self.status(id).await?;
        if matches!(status, JobStatus::Running | JobStatus::Cancelling) {
            return Err(RunReplicationError::AtWork(id));
        }
        if status.is_terminal() {
            return Ok(status);
        }
        if cancel.is_cancelled() {
            // Nobody has taken it to work; the next hub does.
            return Ok(status);
        }
        let lost = AtomicBool::new(false);
        let reader = self.patiently(|| self.reader(id));
        let Some(reader) = cancel.run_until_cancelled(reader).await.transpose()? else {
            return Ok(status);
        };
        match self.patiently(|| self.begin(id, reader.as_ref(), &lost)).await? {
            None => (),
            Some(Err(fault)) => self.end_waiting(id, &Ending::Fault(fault)).await?,
            Some(Ok(mut work)) => {
                let ending = self.replicate(&mut work, cancel).await;
                self.release(&work).await;
                if let Err(error) = self.end(id, Some(&work.job), &ending).await {
                    tracing::error!(error = %told(&error), "the catalogue is away; the job is ended when it is back");
                    self.end_when_it_is_back(&work.job, &ending, cancel).await?;
                }
            }
        }
        let status = self.status(id).await?;
        if status.is_terminal() {
            tracing::info!(status = status.word(), "a replication has ended");
        }
        Ok(status)
    }

    async fn status(&self, id: ReplicationJobId) -> Result<JobStatus, RunReplicationError> {
        let read = || async { self.store.view().await?.replication(id).await };
        let job = self.patiently(read).await?.ok_or(RunReplicationError::NotFound(id))?;
        Ok(job.state.status())
    }

    /// Takes a queued job to work; `None` when it has ended meanwhile, or when another run was first.
    ///
    /// `lost` remembers that the answer to a commit was lost, for only then may a running job be this run's own.
    async fn begin(
        &self,
        id: ReplicationJobId,
        reader: Option<&Result<Reader, NoReader>>,
        lost: &AtomicBool,
    ) -> Result<Option<Result<Work, Fault>>, StoreError> {
        let Some(reader) = reader else { return Ok(None) };
        let mut unit = self.store.begin().await?;
        let Some(mut job) = unit.replication(id).await? else {
            return Ok(None);
        };
        let Some(vm) = unit.vm(job.vm).await? else {
            return Ok(None);
        };
        let reader = match reader {
            Ok(reader) => reader,
            Err(none) => return Ok(Some(Err(no_vma(none)))),
        };
        let reach = match Reach::through(reader.node.clone(), unit.as_mut(), &vm).await? {
            Ok(reach) => reach,
            Err(fault) => return Ok(Some(Err(fault))),
        };
        let mut disks = unit.disks_of(&[vm.id]).await?;
        disks.retain(VmDisk::is_present);
        match job.state.status() {
            JobStatus::Queued => {
                let started = job.state.clone().apply(JobEvent::Started, self.clock.now());
                job.state = started.unwrap_or(job.state);
                // An earlier attempt has read another instant.
                job.quiescence = None;
                job.disks.iter_mut().for_each(|disk| disk.read_by = None);
                // Stored before the order: the next hub has to know whom this one may have ordered.
                job.remarks = remarks(&job, &vm, reader, &disks);
                unit.update_replication(&mut job).await?;
            }
            // The commit of an earlier try was done, only its answer was lost.
            JobStatus::Running if lost.load(Ordering::Relaxed) => (),
            JobStatus::Running
            | JobStatus::Cancelling
            | JobStatus::Succeeded
            | JobStatus::Failed
            | JobStatus::Cancelled
            | JobStatus::Interrupted => return Ok(None),
        }
        if let Err(error) = unit.commit().await {
            if !error.is_conflict() {
                lost.store(true, Ordering::Relaxed);
            }
            return Err(error);
        }
        let (open, told_at) = (Vec::new(), None);
        // A disk that nobody has read yet only says how long it is.
        let earlier = job.disks.iter().map(|disk| disk.bytes).collect();
        Ok(Some(Ok(Work { job, vm, reach, disks, open, told_at, earlier })))
    }

    /// The VMA that a stored job goes through now; nothing where the job or its VM is gone.
    async fn reader(
        &self,
        id: ReplicationJobId,
    ) -> Result<Option<Result<Reader, NoReader>>, StoreError> {
        let mut view = self.store.view().await?;
        let Some(job) = view.replication(id).await? else { return Ok(None) };
        let Some(vm) = view.vm(job.vm).await? else { return Ok(None) };
        drop(view);
        let ordered = job.remarks.ordered(job.attempt.is_first(), vm.vma_node);
        let (store, source) = (self.store.as_ref(), self.source.as_ref());
        answering_reader(store, source, &vm, ordered).await.map(Some)
    }

    /// The same by its id; nothing where there is none.
    pub async fn reader_of(&self, id: ReplicationJobId) -> Result<Option<VmaNodeId>, StoreError> {
        let reader = self.reader(id).await?.and_then(Result::ok);
        Ok(reader.map(|it| it.node.id))
    }

    /// Copies until all is complete or a loss is not worth another attempt.
    async fn replicate(&self, work: &mut Work, cancel: &CancellationToken) -> Ending {
        loop {
            let ending = self.attempt(work, cancel).await;
            let Ending::Lost { fault, reason } = ending else { return ending };
            let attempt = work.job.attempt.number;
            tracing::warn!(
                attempt, code = %fault.code, detail = %fault.detail,
                "a copy was lost and is ordered again"
            );
            match self.patiently(|| self.begin_again(work, reason)).await {
                Ok(true) => work.again(reason),
                Ok(false) => return Ending::Stopped,
                Err(_) => return Ending::Fault(fault),
            }
            let pause = tokio::time::sleep(self.options.attempt_pause * attempt);
            if cancel.run_until_cancelled(pause).await.is_none() {
                return Ending::Stopped;
            }
        }
    }

    /// Writes the next attempt down; false when the job is not at work any more.
    async fn begin_again(&self, known: &Work, reason: &str) -> Result<bool, StoreError> {
        let mut unit = self.store.begin().await?;
        let Some(mut job) = unit.replication(known.job.id).await? else { return Ok(false) };
        if job.state.status() != JobStatus::Running {
            return Ok(false);
        }
        job.attempt = known.job.attempt.next(reason);
        job.disks.clone_from(&known.job.disks);
        unit.update_replication(&mut job).await?;
        unit.commit().await?;
        Ok(true)
    }

    /// One attempt at all disks, the complete ones included: they are of one instant (trap D6).
    async fn attempt(&self, work: &mut Work, cancel: &CancellationToken) -> Ending {
        for index in 0..work.job.disks.len() {
            match cancel.run_until_cancelled(self.prepare(work, index)).await {
                None => return Ending::Stopped,
                Some(Err(fault)) => return Ending::Fault(fault),
                Some(Ok(())) => (),
            }
        }
        self.copy(work, cancel).await
    }

    async fn prepare(&self, work: &mut Work, index: usize) -> Result<(), Fault> {
        let Some(replica) = work.job.disks.get_mut(index) else {
            return Ok(());
        };
        // Another disk may have the key by now, and the VMA knows disks by their keys only (trap D8).
        let same = |disk: &&VmDisk| disk.id == replica.disk && disk.facts.key == replica.key;
        let Some(disk) = work.disks.iter().find(same) else {
            let detail =
                format!("disk {} is gone from the VM; start the replication again", replica.key);
            return Err(Fault::new("replication/disk-gone", detail));
        };
        let order = PrepareReplica {
            vm: work.vm.id,
            disk: disk.id,
            capacity: disk.facts.capacity,
            format: work.job.format,
            // A disk that was complete before a loss is compared, and sent only where it differs.
            incremental: work.job.kind == ReplicationKind::Incremental
                || !work.job.attempt.is_first(),
            resume: !work.job.attempt.is_first(),
        };
        let prepared = self.storage.prepare_replica(&order).await;
        let target = prepared.map_err(|error| of_disk(&replica.key, error.to_fault()))?;
        work.open.retain(|(key, _)| *key != replica.key);
        replica.root = None;
        replica.path = Some(target.path.clone());
        replica.method_reason.clone_from(&target.no_parent_reason);
        work.open.push((replica.key.clone(), target));
        Ok(())
    }

    /// Closes every target that was not sealed.
    async fn release(&self, work: &Work) {
        for (key, target) in &work.open {
            if let Err(error) = self.storage.release_replica(target).await {
                tracing::error!(error = %told(&error), disk.key = %key, "the target of a replica could not be closed");
            }
        }
    }
}

/// What the job says of itself from now on.
fn remarks(job: &ReplicationJob, vm: &VmContext, reader: &Reader, disks: &[VmDisk]) -> Remarks {
    let ordinals = job.disks.iter().map(|disk| disk.ordinal).collect();
    let added = Warning::of_added_disks(disks, &ordinals, job.created_at);
    // The reason of an attempt before holds for this one, which goes where that one went.
    let is_again = Some(reader.node.id) == job.remarks.ordered(job.attempt.is_first(), vm.vma_node);
    let before = job.remarks.of_other_vma().filter(|_| is_again);
    let stands_in = reader.stands_in.as_ref().or(before);
    let warnings: Vec<Warning> = stands_in.cloned().into_iter().chain(added).collect();
    for Warning { code, detail } in &warnings {
        tracing::warn!(vm.name = %vm.facts.name, code, detail, "a replication has a warning");
    }
    // What speaks against a VM speaks so every night, and is no line of the log each time.
    let preflight = Preflight::of(&vm.facts, disks.iter().map(|disk| &disk.facts));
    let concerns = preflight.warnings(job.disks.iter().map(|disk| &disk.key));
    Remarks::at_work(&reader.node, warnings.into_iter().chain(concerns).collect())
}

#[cfg(test)]
mod tests;
