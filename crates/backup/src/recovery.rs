//! What a hub does first: ends the jobs that its predecessor left, and finishes the deletions it began.

use std::collections::BTreeMap;

use hub_domain::backup::BackupJob;
use hub_domain::fault::Fault;
use hub_domain::ids::{BackupRunId, VmContextId};
use hub_domain::job::JobEvent;
use hub_ports::{StoreError, stop_copy, told};
use tokio::task::JoinSet;

use crate::Backup;

/// What a recovery found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Jobs that were ended as interrupted.
    pub interrupted: usize,
    /// Deletions that were finished.
    pub deleted: usize,
}

impl Backup {
    /// Ends every unfinished job as `interrupted`, its partial image removed first, and finishes begun deletions.
    ///
    /// Called once at the start of a hub, before anything is started; calling it again finds nothing (trap D38).
    pub async fn recover(&self) -> Result<Recovered, StoreError> {
        let mut view = self.store.view().await?;
        let unfinished = view.unfinished_backups(None).await?;
        let mut deleting = view.deleting_backups().await?;
        drop(view);
        self.stop_copies(&unfinished).await?;
        let mut recovered = Recovered::default();
        for job in &unfinished {
            self.remove_partial(job).await?;
            recovered.interrupted += usize::from(self.patiently(|| self.interrupt(job)).await?);
        }
        // The newest first: a row goes only when nothing stands on it.
        deleting.sort_by_key(|job| std::cmp::Reverse((job.created_at, job.id)));
        for job in &deleting {
            let repository = self.store.view().await?.repository(job.repository).await?;
            let Some(repository) = repository else { continue };
            match self.finish_deletion(job, &repository).await {
                Ok(()) => recovered.deleted += 1,
                Err(error) => tracing::error!(
                    backup.id = %job.id, error = %told(&error),
                    "a begun deletion could not be finished; delete the backup again"
                ),
            }
        }
        Ok(recovered)
    }

    /// Asks the VMAs to stop pushing into targets that are gone; all at once, so that one that is away delays the
    /// start of a hub by its deadline only, however many runs there are.
    async fn stop_copies(&self, jobs: &[BackupJob]) -> Result<(), StoreError> {
        let begun = jobs.iter().filter(|job| job.state.started_at().is_some());
        let runs: BTreeMap<BackupRunId, VmContextId> = begun.map(|job| (job.run, job.vm)).collect();
        let mut asked = JoinSet::new();
        for (run, vm) in runs {
            let mut view = self.store.view().await?;
            let node = view.vm(vm).await?.and_then(|vm| vm.vma_node);
            let Some(node) = node else { continue };
            let Some(node) = view.vma_node(node).await? else { continue };
            let (source, id, watch) = (self.source.clone(), run.to_string(), self.options.watch);
            asked.spawn(async move { stop_copy(source.as_ref(), &node, &id, watch).await });
        }
        while asked.join_next().await.is_some() {}
        Ok(())
    }

    async fn remove_partial(&self, job: &BackupJob) -> Result<(), StoreError> {
        let repository = self.store.view().await?.repository(job.repository).await?;
        if let (Some(repository), Some(path)) = (repository, &job.path)
            && let Err(error) = self.storage.abandon_image(&repository, path).await
        {
            tracing::error!(
                error = %told(&error), image = %path, repository = %repository.name,
                "an unfinished image could not be removed; remove it by hand"
            );
        }
        Ok(())
    }

    /// Whether the job was still unfinished.
    async fn interrupt(&self, job: &BackupJob) -> Result<bool, StoreError> {
        let mut work = self.store.begin().await?;
        let Some(mut job) = work.backup(job.id).await? else {
            return Ok(false);
        };
        let event = JobEvent::Interrupted(Fault::hub_restarted());
        let Ok(state) = job.state.clone().apply(event, self.clock.now()) else {
            return Ok(false);
        };
        job.state = state;
        work.update_backup(&mut job).await?;
        work.commit().await?;
        Ok(true)
    }
}
