//! Cancels and deletes replication jobs; the disk rows stay in either case.

use hub_domain::ids::ReplicationJobId;
use hub_domain::job::{JobEvent, JobStatus};
use hub_domain::replication::ReplicationJob;
use hub_ports::retry_conflicts;

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
    pub async fn delete(&self, id: ReplicationJobId) -> Result<(), ChangeReplicationError> {
        retry_conflicts(|| async {
            let mut work = self.store.begin().await?;
            let found = work.replication(id).await?;
            let status: JobStatus =
                found.ok_or(ChangeReplicationError::NotFound(id))?.state.status();
            if !status.is_terminal() {
                return Err(ChangeReplicationError::Active(id));
            }
            work.delete_replication(id).await?;
            work.commit().await?;
            Ok(())
        })
        .await
    }
}
