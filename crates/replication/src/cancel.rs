//! What users do to a stored job: ask it to stop, or remove its record.

use hub_domain::ids::{ReplicationJobId, VmContextId};
use hub_domain::job::{JobEvent, JobStatus};
use hub_domain::replication::ReplicationJob;
use hub_domain::vm::ContextStatus;
use hub_ports::{StoreError, UnitOfWork, retry_conflicts};

use crate::engine::Replication;
use crate::error::{CancelReplicationError, DeleteReplicationError};

/// Jobs that are read at a time.
const PAGE: u32 = 500;

impl Replication {
    /// Asks a replication to stop: one that waits ends at once, one at work when its token is cancelled as well.
    ///
    /// Asking again changes nothing.
    pub async fn cancel(
        &self,
        id: ReplicationJobId,
    ) -> Result<ReplicationJob, CancelReplicationError> {
        retry_conflicts(|| async move {
            let Some((mut work, mut job)) = self.locked(id).await? else {
                return Err(CancelReplicationError::NotFound(id));
            };
            let status = job.state.status();
            if status == JobStatus::Cancelling {
                return Ok(job);
            }
            let at = self.clock.now();
            job.state = job
                .state
                .clone()
                .apply(JobEvent::CancelRequested, at)
                .map_err(|_| CancelReplicationError::Ended(status))?;
            work.update_replication(&mut job).await?;
            if job.state.status().is_terminal() {
                work.set_vm_status(job.vm, ContextStatus::Discovered, at).await?;
            }
            work.commit().await?;
            Ok(job)
        })
        .await
    }

    /// Removes the record of a replication that has ended; its disk rows stay, linked to no job (trap C11), and so do
    /// its replica images.
    ///
    /// A VM that was ready for failover stays so only while another succeeded replication of it is left to say so.
    pub async fn delete(&self, id: ReplicationJobId) -> Result<(), DeleteReplicationError> {
        retry_conflicts(|| async move {
            let Some((mut work, job)) = self.locked(id).await? else {
                return Err(DeleteReplicationError::NotFound(id));
            };
            let status = job.state.status();
            if !status.is_terminal() {
                return Err(DeleteReplicationError::Active(status));
            }
            work.delete_replication(id).await?;
            let vm = work.vm(job.vm).await?;
            if vm.is_some_and(|vm| vm.status == ContextStatus::ReadyForFailover)
                && !any_succeeded(work.as_mut(), job.vm).await?
            {
                let at = self.clock.now();
                work.set_vm_status(job.vm, ContextStatus::Discovered, at).await?;
            }
            work.commit().await?;
            Ok(())
        })
        .await
    }

    /// A unit of work that has locked the VM of a job, and the job as it is under that lock.
    async fn locked(
        &self,
        id: ReplicationJobId,
    ) -> Result<Option<(Box<dyn UnitOfWork>, ReplicationJob)>, StoreError> {
        // Whose VM it is never changes, so it may be read before the lock; everything else is read after it.
        let Some(job) = self.store.view().await?.replication(id).await? else {
            return Ok(None);
        };
        let mut work = self.store.begin().await?;
        match work.lock_vm(job.vm).await {
            Err(StoreError::Missing(_)) => return Ok(None),
            locked => locked?,
        }
        let job = work.replication(id).await?;
        Ok(job.map(|job| (work, job)))
    }
}

async fn any_succeeded(work: &mut dyn UnitOfWork, vm: VmContextId) -> Result<bool, StoreError> {
    let mut after = None;
    loop {
        let page = work.replications_page(Some(vm), after, PAGE).await?;
        if page.iter().any(|job| job.state.status() == JobStatus::Succeeded) {
            return Ok(true);
        }
        match page.last() {
            Some(last) => after = Some(last.id),
            None => return Ok(false),
        }
    }
}
