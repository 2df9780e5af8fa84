//! Ends a job: the whole VM is ready, or the job failed as a whole and its VM is only discovered.

use hub_domain::disk::DiskKey;
use hub_domain::fault::Fault;
use hub_domain::ids::ReplicationJobId;
use hub_domain::job::{JobEvent, JobStatus};
use hub_domain::replication::ReplicationJob;
use hub_domain::vm::ContextStatus;
use hub_ports::{StoreError, UnitOfWork};

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
}

impl Ending {
    /// What happens to a job in this state; a job that was asked to stop has been cancelled whatever came after.
    fn event(&self, status: JobStatus) -> JobEvent {
        match self {
            _ if status == JobStatus::Cancelling => JobEvent::Cancelled,
            Self::Complete => JobEvent::Succeeded,
            Self::Stopped => JobEvent::Interrupted(Fault::hub_stopped()),
            Self::Fault(fault) => JobEvent::Failed(fault.clone()),
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
            let event = ending.event(job.state.status());
            self.apply_end(work.as_mut(), &mut job, known, event).await?;
            work.commit().await
        })
        .await
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
        }
        job.state = state;
        work.update_replication(job).await?;
        // A broken run leaves its replicas incomplete, so nothing can be failed over to.
        let status = match job.state.status() {
            JobStatus::Succeeded => ContextStatus::ReadyForFailover,
            JobStatus::Cancelling => return Ok(true),
            JobStatus::Queued
            | JobStatus::Running
            | JobStatus::Failed
            | JobStatus::Cancelled
            | JobStatus::Interrupted => ContextStatus::Discovered,
        };
        if work.vm(job.vm).await?.is_some() {
            work.set_vm_status(job.vm, status, now).await?;
        }
        Ok(true)
    }
}
