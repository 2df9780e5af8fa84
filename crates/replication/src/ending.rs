//! Ends a job: the whole VM is ready, or the job failed as a whole and its VM is only discovered.

use hub_domain::disk::DiskKey;
use hub_domain::fault::Fault;
use hub_domain::ids::ReplicationJobId;
use hub_domain::job::{JobEvent, JobStatus};
use hub_domain::replication::ReplicationJob;
use hub_domain::vm::ContextStatus;
use hub_ports::{Classify, StoreError, UnitOfWork, told};
use tokio_util::sync::CancellationToken;

use crate::Replication;

/// How a run ended.
#[derive(Clone, Debug)]
pub(crate) enum Ending {
    /// Every disk is complete.
    Complete,
    /// Somebody asked for it, or the hub stops.
    Stopped,
    /// It cannot go on.
    Fault(Fault),
    /// The VMA takes no more at the moment, and has begun nothing: the job waits in line again.
    Refused,
    /// A machine or a connection was lost, and another attempt is worth it.
    Lost {
        /// How it was lost.
        fault: Fault,
        /// What the next attempt says about it.
        reason: &'static str,
    },
}

impl Ending {
    /// What happens to a job in this state; a job that was asked to stop has been cancelled whatever came after.
    fn event(&self, status: JobStatus, may_go_on: bool) -> JobEvent {
        match self {
            _ if status == JobStatus::Cancelling => JobEvent::Cancelled,
            Self::Complete => JobEvent::Succeeded,
            Self::Stopped if may_go_on => JobEvent::Requeued,
            Self::Stopped => JobEvent::Interrupted(Fault::hub_stopped()),
            Self::Refused => JobEvent::Requeued,
            Self::Fault(fault) | Self::Lost { fault, .. } => JobEvent::Failed(fault.clone()),
        }
    }
}

/// The same fault, told with the disk that it happened to.
pub(crate) fn of_disk(key: &DiskKey, fault: Fault) -> Fault {
    Fault { detail: format!("disk {key}: {}", fault.detail), ..fault }
}

impl Replication {
    /// Ends a job with what is known about its disks, and moves its VM along, in one unit.
    pub(crate) async fn end(
        &self,
        id: ReplicationJobId,
        known: Option<&ReplicationJob>,
        ending: &Ending,
    ) -> Result<(), StoreError> {
        self.patiently(|| async {
            let mut work = self.store.begin().await?;
            let Some(mut job) = work.replication(id).await? else {
                return Ok(());
            };
            let may_go_on = job.attempt.number < self.options.copy_attempts;
            let event = ending.event(job.state.status(), may_go_on);
            if event == JobEvent::Requeued && !matches!(ending, Ending::Refused) {
                job.attempt = job.attempt.next("the hub was stopped; the copy began again");
            }
            self.apply_end(work.as_mut(), &mut job, known, event).await?;
            work.commit().await
        })
        .await
    }

    /// Ends a job that still waits; one that another run has taken to work meanwhile is that run's to end.
    pub(crate) async fn end_waiting(
        &self,
        id: ReplicationJobId,
        ending: &Ending,
    ) -> Result<(), StoreError> {
        self.patiently(|| async {
            let mut work = self.store.begin().await?;
            let Some(mut job) = work.replication(id).await? else {
                return Ok(());
            };
            if job.state.status() != JobStatus::Queued {
                return Ok(());
            }
            let event = ending.event(JobStatus::Queued, false);
            self.apply_end(work.as_mut(), &mut job, None, event).await?;
            work.commit().await
        })
        .await
    }

    /// Ends a job as soon as the catalogue is back: none stays at work with nobody working on it. When the hub stops
    /// before, the next one finds it.
    pub(crate) async fn end_when_it_is_back(
        &self,
        job: &ReplicationJob,
        ending: &Ending,
        cancel: &CancellationToken,
    ) -> Result<(), StoreError> {
        loop {
            let end = self.end(job.id, Some(job), ending);
            match cancel.run_until_cancelled(end).await {
                Some(Err(error)) if error.is_transient() => {
                    tracing::warn!(error = %told(&error), "the catalogue is still away");
                }
                Some(done) => return done,
                None => return Err(StoreError::Unavailable("the hub stops".into())),
            }
        }
    }

    /// The part of an ending inside a unit; a job that has ended stays as it is. Whether it was changed.
    pub(crate) async fn apply_end(
        &self,
        work: &mut dyn UnitOfWork,
        job: &mut ReplicationJob,
        known: Option<&ReplicationJob>,
        event: JobEvent,
    ) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let Ok(state) = job.state.clone().apply(event, now) else {
            return Ok(false);
        };
        match work.lock_vm(job.vm).await {
            Ok(()) | Err(StoreError::Missing(_)) => (),
            Err(error) => return Err(error),
        }
        if let Some(fault) = state.fault() {
            tracing::warn!(job.id = %job.id, code = %fault.code, detail = %fault.detail, "a replication ended badly");
        }
        if let Some(known) = known {
            job.disks.clone_from(&known.disks);
            job.quiescence.clone_from(&known.quiescence);
        }
        job.state = state;
        work.update_replication(job).await?;
        // A broken run leaves its replicas incomplete, so nothing can be failed over to.
        let status = match job.state.status() {
            JobStatus::Succeeded => ContextStatus::ReadyForFailover,
            JobStatus::Cancelling => return Ok(true),
            JobStatus::Queued | JobStatus::Running => ContextStatus::Replicating,
            JobStatus::Failed | JobStatus::Cancelled | JobStatus::Interrupted => {
                ContextStatus::Discovered
            }
        };
        if work.vm(job.vm).await?.is_some() {
            work.set_vm_status(job.vm, status, now).await?;
        }
        Ok(true)
    }
}
