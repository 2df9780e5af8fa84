//! Asks a run to stop; the run itself does the stopping.

use hub_domain::backup::BackupJob;
use hub_domain::ids::BackupRunId;
use hub_domain::job::JobEvent;
use hub_ports::retry_conflicts;
use hub_ports::store::readable;

use crate::{Backup, CancelBackupError};

impl Backup {
    /// Marks every unfinished job of a run: queued ones have ended with that, those at work end within seconds.
    ///
    /// A run that has ended stays as it is. The caller may also cancel the run's token, to be quicker.
    pub async fn cancel(&self, run: BackupRunId) -> Result<Vec<BackupJob>, CancelBackupError> {
        retry_conflicts(|| self.try_cancel(run)).await
    }

    async fn try_cancel(&self, run: BackupRunId) -> Result<Vec<BackupJob>, CancelBackupError> {
        let mut work = self.store.begin().await?;
        if work.backup_run(run).await?.is_none() {
            return Err(CancelBackupError::NotFound(run));
        }
        let mut jobs = readable(work.backups_of_run(run).await?);
        let now = self.clock.now();
        for job in &mut jobs {
            if let Ok(state) = job.state.clone().apply(JobEvent::CancelRequested, now) {
                job.state = state;
                work.update_backup(job).await?;
            }
        }
        work.commit().await?;
        Ok(jobs)
    }
}
