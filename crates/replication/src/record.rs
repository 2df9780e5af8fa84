//! What a run writes to the catalogue: its beginning, how far it is, and its end.

use hub_domain::fault::Fault;
use hub_domain::ids::{ReplicationJobId, VmContextId};
use hub_domain::job::{JobEvent, JobState, JobStatus};
use hub_domain::replication::{ReplicaDisk, ReplicationJob};
use hub_domain::vm::ContextStatus;
use hub_ports::{StoreError, retry_conflicts};
use tokio::time::Instant;

use crate::engine::Replication;
use crate::fault::{RunFault, fault_of};

const GONE: StoreError = StoreError::Missing("the replication");

/// How a job ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Every replica is complete.
    Complete,
    /// It cannot succeed.
    Failed(Fault),
    /// Its token was cancelled: by a user, whose wish is stored then, or by a hub that stops.
    Stopped,
    /// A hub that is gone had left it.
    Recovered,
}

impl Ending {
    /// The event for a job that stands so.
    fn event(&self, status: JobStatus) -> JobEvent {
        match self {
            Self::Complete => JobEvent::Succeeded,
            Self::Failed(fault) => JobEvent::Failed(fault.clone()),
            Self::Stopped if status == JobStatus::Cancelling => JobEvent::Cancelled,
            Self::Stopped => JobEvent::Interrupted(fault_of(&RunFault::HubStopped)),
            Self::Recovered => JobEvent::Interrupted(fault_of(&RunFault::HubRestarted)),
        }
    }

    /// Where the VM stands then: a run that did not complete has made its replicas incomplete.
    fn standing(&self) -> ContextStatus {
        match self {
            Self::Complete => ContextStatus::ReadyForFailover,
            Self::Failed(_) | Self::Stopped | Self::Recovered => ContextStatus::Discovered,
        }
    }
}

impl Replication {
    /// Marks a queued job as at work; `None` where it is not queued any more.
    pub(crate) async fn begin(
        &self,
        id: ReplicationJobId,
    ) -> Result<Option<ReplicationJob>, StoreError> {
        self.patiently(|| async move {
            let mut work = self.store.begin().await?;
            let mut job = work.replication(id).await?.ok_or(GONE)?;
            let Ok(state) = job.state.clone().apply(JobEvent::Started, self.clock.now()) else {
                return Ok(None);
            };
            job.state = state;
            work.update_replication(&mut job).await?;
            work.commit().await?;
            Ok(Some(job))
        })
        .await
    }

    /// Stores how far the disks are, and returns where the job stands; an ended one is not touched.
    pub(crate) async fn save(
        &self,
        id: ReplicationJobId,
        disks: &[ReplicaDisk],
    ) -> Result<JobStatus, StoreError> {
        retry_conflicts(|| async move {
            let mut work = self.store.begin().await?;
            let mut job = work.replication(id).await?.ok_or(GONE)?;
            let status = job.state.status();
            if !status.is_terminal() && merge(&mut job.disks, disks) {
                work.update_replication(&mut job).await?;
                work.commit().await?;
            }
            Ok(status)
        })
        .await
    }

    /// Ends a job with all that its run has found out, and its VM's status with it; one that has ended is not touched.
    pub(crate) async fn end(
        &self,
        id: ReplicationJobId,
        vm: VmContextId,
        disks: &[ReplicaDisk],
        ending: &Ending,
    ) -> Result<(), StoreError> {
        let ended = self.patiently(|| self.try_end(id, vm, disks, ending)).await?;
        if let Some(state) = ended {
            let status = state.status().word();
            match state.fault() {
                Some(fault) => tracing::info!(job.id = %id, vm.id = %vm, job.status = status,
                    fault.code = fault.code, fault.detail = fault.detail, "a replication ended"),
                None => tracing::info!(job.id = %id, vm.id = %vm, job.status = status,
                    "a replication ended"),
            }
        }
        Ok(())
    }

    async fn try_end(
        &self,
        id: ReplicationJobId,
        vm: VmContextId,
        disks: &[ReplicaDisk],
        ending: &Ending,
    ) -> Result<Option<JobState>, StoreError> {
        let mut work = self.store.begin().await?;
        work.lock_vm(vm).await?;
        let mut job = work.replication(id).await?.ok_or(GONE)?;
        let at = self.clock.now();
        let event = ending.event(job.state.status());
        let Ok(state) = job.state.clone().apply(event, at) else {
            return Ok(None);
        };
        job.state = state.clone();
        merge(&mut job.disks, disks);
        work.update_replication(&mut job).await?;
        work.set_vm_status(vm, ending.standing(), at).await?;
        work.commit().await?;
        Ok(Some(state))
    }

    /// Runs a unit of work again while the database is away, for a limited time: a job that cannot write its end
    /// would seem to be at work until the hub is restarted.
    pub(crate) async fn patiently<T, F, Fut>(&self, unit: F) -> Result<T, StoreError>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<T, StoreError>>,
    {
        let given_up = Instant::now() + self.options.store_timeout;
        loop {
            match retry_conflicts(&unit).await {
                Err(StoreError::Unavailable(cause)) if Instant::now() < given_up => {
                    tracing::debug!(error = %cause, "the database is away; it is tried again");
                    tokio::time::sleep(self.options.poll_interval).await;
                }
                done => return done,
            }
        }
    }
}

/// Brings stored disks up to date; whether anything changed. Nothing that is known is forgotten (trap D24).
fn merge(stored: &mut [ReplicaDisk], known: &[ReplicaDisk]) -> bool {
    let mut changed = false;
    for disk in stored {
        let Some(news) = known.iter().find(|it| it.disk == disk.disk) else { continue };
        let merged = ReplicaDisk {
            path: news.path.clone().or_else(|| disk.path.clone()),
            method: news.method.clone().or_else(|| disk.method.clone()),
            method_reason: news.method_reason.clone().or_else(|| disk.method_reason.clone()),
            bytes: disk.bytes.max(news.bytes),
            root: news.root.clone().or_else(|| disk.root.clone()),
            ..disk.clone()
        };
        changed |= merged != *disk;
        *disk = merged;
    }
    changed
}
