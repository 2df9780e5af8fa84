//! Cancels and deletes replication jobs; the disk rows stay in either case.

use hub_domain::ids::{ReplicationJobId, VmContextId};
use hub_domain::job::{JobEvent, JobStatus};
use hub_domain::replication::ReplicationJob;
use hub_domain::vm::{ContextStatus, VmContext};
use hub_ports::store::all_readable;
use hub_ports::{StoreError, UnitOfWork, retry_conflicts};

use crate::{ChangeReplicationError, Replication};

impl Replication {
    /// Asks a job to stop: a queued one has ended with that, one at work ends within seconds.
    ///
    /// A job that has ended stays as it is. The caller may also cancel the run's token, to be quicker.
    pub async fn cancel(
        &self,
        id: ReplicationJobId,
    ) -> Result<ReplicationJob, ChangeReplicationError> {
        retry_conflicts(|| async {
            let mut work = self.store.begin().await?;
            let found = work.replication(id).await?;
            let mut job = found.ok_or(ChangeReplicationError::NotFound(id))?;
            self.apply_end(work.as_mut(), &mut job, None, JobEvent::CancelRequested).await?;
            work.commit().await?;
            Ok(job)
        })
        .await
    }

    /// Removes a job that has ended; its disks stay with `job_id` NULL (traps C11, D1), and so do the replicas.
    ///
    /// A VM that was ready for failover stays so only while another succeeded job of it is left to say so.
    pub async fn delete(&self, id: ReplicationJobId) -> Result<(), ChangeReplicationError> {
        retry_conflicts(|| async {
            // Whose VM it is never changes; everything else is read under the lock.
            let found = self.store.view().await?.replication(id).await?;
            let vm = found.ok_or(ChangeReplicationError::NotFound(id))?.vm;
            let mut work = self.store.begin().await?;
            match work.lock_vm(vm).await {
                Err(StoreError::Missing(_)) => return Err(ChangeReplicationError::NotFound(id)),
                locked => locked?,
            }
            let found = work.replication(id).await?;
            let status: JobStatus =
                found.ok_or(ChangeReplicationError::NotFound(id))?.state.status();
            if !status.is_terminal() {
                return Err(ChangeReplicationError::Active(id));
            }
            work.delete_replication(id).await?;
            let is_ready = |vm: VmContext| vm.status == ContextStatus::ReadyForFailover;
            if work.vm(vm).await?.is_some_and(is_ready) && !any_succeeded(work.as_mut(), vm).await?
            {
                work.set_vm_status(vm, ContextStatus::Discovered, self.clock.now()).await?;
            }
            work.commit().await?;
            Ok(())
        })
        .await
    }
}

/// Whether a succeeded job of a VM is stored.
async fn any_succeeded(work: &mut dyn UnitOfWork, vm: VmContextId) -> Result<bool, StoreError> {
    /// Jobs that are read at a time.
    const PAGE: u32 = 500;
    let mut after: Option<String> = None;
    loop {
        let page = all_readable(work.replications_page(Some(vm), after.as_deref(), PAGE).await?)?;
        if page.iter().any(|job| job.state.status() == JobStatus::Succeeded) {
            return Ok(true);
        }
        match page.last() {
            Some(last) => after = Some(last.id.to_string()),
            None => return Ok(false),
        }
    }
}
