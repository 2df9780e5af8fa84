//! What a hub does first: takes up the jobs that its predecessor left, or ends them, and finishes the deletions it began.

use std::collections::{BTreeMap, BTreeSet};

use hub_domain::access::VmaNode;
use hub_domain::backup::BackupJob;
use hub_domain::ids::{BackupRunId, VmContextId};
use hub_domain::job::{JobEvent, JobStatus};
use hub_ports::store::{Row, readable, unless_unreadable};
use hub_ports::{Catalogue, StoreError, stop_copy, told};
use tokio::task::JoinSet;

use crate::Backup;
use crate::attempts::copy_name;

/// What a recovery found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Runs whose jobs are queued, for the caller to [`run`](Backup::run).
    pub waiting: BTreeSet<BackupRunId>,
    /// Jobs that were at work, and wait now for another attempt.
    pub requeued: usize,
    /// Jobs that were ended as interrupted.
    pub interrupted: usize,
    /// Deletions that were finished.
    pub deleted: usize,
}

impl Backup {
    /// Queues every unfinished job again that may go on, ends the others as `interrupted`, their partial images removed
    /// first, and finishes begun deletions.
    ///
    /// Called once at the start of a hub, before anything is started; calling it again finds the same runs waiting and
    /// changes nothing (trap D38).
    pub async fn recover(&self) -> Result<Recovered, StoreError> {
        let mut view = self.store.view().await?;
        // A row that cannot be read stays as it is: no hub may be kept from starting by it.
        let unfinished = readable(view.unfinished_backups(None).await?);
        let mut deleting = readable(view.deleting_backups().await?);
        drop(view);
        self.stop_copies(&unfinished).await?;
        let mut recovered = Recovered::default();
        for job in &unfinished {
            self.take_over(job, &mut recovered).await?;
        }
        // The newest first: a row goes only when nothing stands on it.
        deleting.sort_by_key(|job| std::cmp::Reverse((job.created_at, job.id)));
        for job in &deleting {
            let repository = self.store.view().await?.repository(job.repository).await;
            let repository = unless_unreadable(repository, UNTOLD)?.flatten();
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

    /// Decides about one job that a predecessor left.
    async fn take_over(
        &self,
        job: &BackupJob,
        recovered: &mut Recovered,
    ) -> Result<(), StoreError> {
        let mut view = self.store.view().await?;
        let siblings = view.backups_of_run(job.run).await?;
        let run = view.backup_run(job.run).await;
        drop(view);
        // One that cannot be read may be sealed; then the others would be of another instant.
        let sealed = |row: &Row<BackupJob>| {
            row.as_ref().map_or(true, |job| job.state.status() == JobStatus::Succeeded)
        };
        // Nor can a run go on that does not say what was asked for.
        let sealed = siblings.iter().any(sealed) || unless_unreadable(run, UNTOLD)?.is_none();
        let status = job.state.status();
        match job.attempt.after_restart(status, sealed, self.options.copy_attempts) {
            Ok(attempt) => {
                recovered.waiting.insert(job.run);
                if status != JobStatus::Queued {
                    let attempt = &attempt;
                    let change = |job: &mut BackupJob| job.attempt.clone_from(attempt);
                    let done = self.patiently(|| self.change(job, JobEvent::Requeued, change));
                    recovered.requeued += usize::from(done.await?);
                }
            }
            Err(fault) => {
                self.remove_partial(job).await?;
                let event = JobEvent::Interrupted(fault);
                let done = self.patiently(|| self.change(job, event.clone(), |_| ()));
                recovered.interrupted += usize::from(done.await?);
            }
        }
        Ok(())
    }

    /// Asks the VMAs to stop pushing into targets that are gone; all at once, so that one that is away delays the
    /// start of a hub by its deadline only, however many runs there are.
    async fn stop_copies(&self, jobs: &[BackupJob]) -> Result<(), StoreError> {
        let begun = jobs.iter().filter(|job| job.state.started_at().is_some());
        let runs: BTreeMap<(BackupRunId, u32), VmContextId> =
            begun.map(|job| ((job.run, job.attempt.number), job.vm)).collect();
        let mut asked = JoinSet::new();
        for ((run, attempt), vm) in runs {
            let mut view = self.store.view().await?;
            let node = unless_unreadable(node_of(view.as_mut(), run, vm).await, UNTOLD)?.flatten();
            let Some(node) = node else { continue };
            let (source, watch) = (self.source.clone(), self.options.watch);
            let id = copy_name(run, attempt);
            asked.spawn(async move { stop_copy(source.as_ref(), &node, &id, watch).await });
        }
        while asked.join_next().await.is_some() {}
        Ok(())
    }

    /// Removes whatever lies in the repository of a job that is no restore point.
    pub(crate) async fn remove_partial(&self, job: &BackupJob) -> Result<(), StoreError> {
        let repository = self.store.view().await?.repository(job.repository).await;
        let repository = unless_unreadable(repository, UNTOLD)?.flatten();
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

    /// Lets something happen to a job; whether it was still possible.
    async fn change(
        &self,
        job: &BackupJob,
        event: JobEvent,
        also: impl Fn(&mut BackupJob),
    ) -> Result<bool, StoreError> {
        let mut work = self.store.begin().await?;
        let Some(mut job) = work.backup(job.id).await? else {
            return Ok(false);
        };
        let Ok(state) = job.state.clone().apply(event, self.clock.now()) else {
            return Ok(false);
        };
        job.state = state;
        also(&mut job);
        work.update_backup(&mut job).await?;
        work.commit().await?;
        Ok(true)
    }
}

/// What is said where a row that cannot be read stands in the way of one job's recovery.
const UNTOLD: &str =
    "what a backup left is not cleared up while a row of the catalogue cannot be read";

/// The VMA that was ordered to copy; a run of an earlier release does not say which it was.
async fn node_of(
    catalogue: &mut dyn Catalogue,
    run: BackupRunId,
    vm: VmContextId,
) -> Result<Option<VmaNode>, StoreError> {
    let ordered = catalogue.backup_run(run).await?.and_then(|run| run.remarks.copied_by);
    let node = match ordered {
        Some(by) => Some(by.vma),
        None => catalogue.vm(vm).await?.and_then(|vm| vm.vma_node),
    };
    match node {
        Some(node) => catalogue.vma_node(node).await,
        None => Ok(None),
    }
}
