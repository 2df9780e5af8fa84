//! Deletes a backup: out of the catalogue's sight first, then its files, then its row (promise P10).

use hub_domain::backup::BackupJob;
use hub_domain::chain::children_of;
use hub_domain::ids::BackupJobId;
use hub_domain::repository::Repository;
use hub_ports::store::Unreadable;
use hub_ports::{StoreError, UnitOfWork, retry_conflicts};

use crate::completion::{lock_if_there, put_chain};
use crate::{Backup, DeleteBackupError};

impl Backup {
    /// Deletes a backup that nothing stands on; when it returns, image, manifest and row are gone.
    ///
    /// Whatever stops it in between, the point is no restore point any more, and the same call or
    /// [`recover`](Self::recover) goes on.
    ///
    /// Restores and verifications of the point are in the catalogue, and refuse it. Exports are not: this engine knows
    /// none, and whoever reads one is left with files that are gone. A caller that exports points as well withholds the
    /// point first (`withhold_point` of the restore engine) and holds that until this has returned, as the hub's API does.
    pub async fn delete(&self, id: BackupJobId) -> Result<(), DeleteBackupError> {
        let (job, repository) = retry_conflicts(|| self.begin_deletion(id)).await?;
        self.finish_deletion(&job, &repository).await
    }

    async fn begin_deletion(
        &self,
        id: BackupJobId,
    ) -> Result<(BackupJob, Repository), DeleteBackupError> {
        let not_found = || DeleteBackupError::NotFound(id);
        let mut view = self.store.view().await?;
        let seen = view.backup(id).await?.ok_or_else(not_found)?;
        drop(view);
        let mut work = self.store.begin().await?;
        lock_if_there(work.as_mut(), &seen).await?;
        let mut job = work.backup(id).await?.ok_or_else(not_found)?;
        let repository = work
            .repository(job.repository)
            .await?
            .ok_or(DeleteBackupError::RepositoryNotFound(job.repository))?;
        self.check_deletable(work.as_mut(), &job).await?;
        if job.deleting_since.is_some() {
            return Ok((job, repository));
        }
        let all = work.backups_of_chain(job.chain_key()).await?;
        // What failed on top of this point stays as history; it stands on nothing.
        for mut failed in all.into_iter().filter(|other| other.parent == Some(id)) {
            failed.parent = None;
            work.update_backup(&mut failed).await?;
        }
        job.deleting_since = Some(self.clock.now());
        work.update_backup(&mut job).await?;
        put_chain(work.as_mut(), job.chain_key()).await?;
        work.commit().await?;
        Ok((job, repository))
    }

    async fn check_deletable(
        &self,
        work: &mut dyn UnitOfWork,
        job: &BackupJob,
    ) -> Result<(), DeleteBackupError> {
        if !job.state.status().is_terminal() {
            return Err(DeleteBackupError::Active(job.id));
        }
        let all = work.backups_of_chain(job.chain_key()).await?;
        let mut children = children_of(&all, job.id);
        // A child on its way out still needs this row until its own is gone.
        let leaving =
            |other: &&BackupJob| other.parent == Some(job.id) && other.deleting_since.is_some();
        children.extend(all.iter().filter(leaving).map(|other| other.id));
        if !children.is_empty() {
            return Err(DeleteBackupError::HasChildren { children });
        }
        // What cannot be read may be at work on this point, unless it says that it is of another.
        let may_be = |row: &Unreadable| row.may_be_of(&job.id);
        let restored = work.unfinished_restores().await?;
        let restored =
            restored.iter().any(|it| it.as_ref().map_or_else(may_be, |it| it.point == job.id));
        let verified = work.unfinished_verifications().await?;
        let verified =
            verified.iter().any(|it| it.as_ref().map_or_else(may_be, |it| it.point == job.id));
        if restored || verified {
            return Err(DeleteBackupError::InUse(job.id));
        }
        Ok(())
    }

    /// The part after the point of no return; may be run any number of times.
    pub(crate) async fn finish_deletion(
        &self,
        job: &BackupJob,
        repository: &Repository,
    ) -> Result<(), DeleteBackupError> {
        if let Some(path) = &job.path {
            self.storage.delete_image(repository, path).await?;
        }
        self.patiently(|| self.remove_row(job.id)).await?;
        tracing::info!(backup.id = %job.id, "a backup was deleted");
        Ok(())
    }

    async fn remove_row(&self, id: BackupJobId) -> Result<(), StoreError> {
        let mut work = self.store.begin().await?;
        if work.backup(id).await?.is_none() {
            return Ok(());
        }
        work.delete_backup(id).await?;
        work.commit().await
    }
}

#[cfg(test)]
mod tests;
