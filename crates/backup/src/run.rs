//! Runs a backup from its first step to its end: everything between is in the modules beside this one.

use std::sync::atomic::{AtomicBool, Ordering};

use hub_domain::access::{Credential, VmaNode};
use hub_domain::backup::{BackupJob, BackupRun, run_status};
use hub_domain::fault::Fault;
use hub_domain::ids::{BackupRunId, VmaNodeId};
use hub_domain::job::JobStatus;
use hub_domain::reader_choice::NoReader;
use hub_domain::remarks::Warning;
use hub_domain::repository::Repository;
use hub_domain::vm::VmContext;
use hub_ports::store::{Reader, all_readable, answering_reader, login_through};
use hub_ports::{StoreError, retry_patiently, told};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::ending::Ending;
use crate::preparation::DiskWork;
use crate::{Backup, RunBackupError};

/// Everything outside the jobs that a run needs.
pub(crate) struct Scene {
    pub(crate) run: BackupRun,
    pub(crate) vm: VmContext,
    pub(crate) node: VmaNode,
    pub(crate) credential: Option<Credential>,
    pub(crate) repository: Repository,
    /// Why it is not the VM's own VMA that copies.
    pub(crate) stands_in: Option<Warning>,
}

impl Backup {
    /// Runs a started run until every job of it has ended; returns how the whole ended.
    ///
    /// A VMA that takes no more at the moment leaves them `queued`, to be run again.
    /// `cancel` stops it within seconds: jobs that were asked to stop end `cancelled`; others wait as `queued` for the
    /// next hub, or end `interrupted` when they have been begun too often.
    /// Dropping the future leaves the jobs unfinished, for [`recover`](Self::recover).
    pub async fn run(
        &self,
        id: BackupRunId,
        cancel: CancellationToken,
    ) -> Result<JobStatus, RunBackupError> {
        let span = tracing::info_span!("job", job.id = %id, job.kind = "backup");
        // Boxed, so that whoever holds a job does not carry its whole state along.
        Box::pin(self.run_to_its_end(id, &cancel)).instrument(span).await
    }

    async fn run_to_its_end(
        &self,
        id: BackupRunId,
        cancel: &CancellationToken,
    ) -> Result<JobStatus, RunBackupError> {
        let (run, jobs) =
            self.patiently(|| self.load(id)).await?.ok_or(RunBackupError::NotFound(id))?;
        let status = |status| jobs.iter().any(|job| job.state.status() == status);
        if status(JobStatus::Running) || status(JobStatus::Cancelling) {
            return Err(RunBackupError::AtWork(id));
        }
        if jobs.iter().any(|job| !job.state.status().is_terminal()) {
            let scene = self.patiently(|| self.scene(&run, &jobs));
            let done = match cancel.run_until_cancelled(scene).await.transpose()? {
                None => self.end_waiting(&jobs, &Ending::Stopped).await,
                Some(Err(fault)) => self.end_waiting(&jobs, &Ending::Fault(fault)).await,
                Some(Ok(scene)) => self.protect(&scene, &jobs, cancel).await,
            };
            if let Err(error) = done {
                tracing::error!(error = %told(&error), "the catalogue is away; the jobs of this run are ended when it is back");
                self.end_when_it_is_back(&jobs, &error, cancel).await?;
            }
        }
        // A run that waited for its next attempt and was cancelled meanwhile has files of the last one.
        for job in jobs.iter().filter(|job| job.state.status() == JobStatus::Cancelled) {
            self.remove_partial(job).await?;
        }
        let ended = self.patiently(|| self.load(id)).await?;
        let Some((_, jobs)) = ended else { return Ok(JobStatus::Failed) };
        let status = run_status(&jobs);
        let waits = |job: &BackupJob| {
            job.state.status() == JobStatus::Queued || job.state.status().is_terminal()
        };
        if !status.is_terminal() && jobs.iter().all(waits) {
            tracing::info!("a backup run waits for its turn, or for the next start of the hub");
            return Ok(JobStatus::Queued);
        }
        if !status.is_terminal() {
            return Err(RunBackupError::AtWork(id));
        }
        tracing::info!(status = status.word(), "a backup run has ended");
        Ok(status)
    }

    /// Prepares, copies and completes; whatever happens, no unsealed image stays but one that the next hub goes on with.
    async fn protect(
        &self,
        scene: &Scene,
        jobs: &[BackupJob],
        cancel: &CancellationToken,
    ) -> Result<(), StoreError> {
        let lost = AtomicBool::new(false);
        let mut disks = match self.patiently(|| self.begin_jobs(scene, jobs, &lost)).await? {
            Ok(disks) => disks,
            Err(fault) if lost.load(Ordering::Relaxed) => {
                return self.end_all(jobs, &Ending::Fault(fault)).await;
            }
            Err(fault) => return self.end_waiting(jobs, &Ending::Fault(fault)).await,
        };
        let ending = self.copy_through_losses(scene, &mut disks, cancel).await;
        let may_go_on = matches!(ending, Ok(Ending::Stopped));
        let is_refused = matches!(ending, Ok(Ending::Refused));
        // Of a cancelled run nothing is there any more when it is said to have ended.
        let is_cancelled = self.is_asked_to_stop(scene).await;
        // Only a later attempt looks for what an earlier one has left.
        let is_left = |disk: &DiskWork| {
            !is_cancelled && (may_go_on || is_refused && !disk.job.attempt.is_first())
        };
        for disk in disks.iter().filter(|disk| !disk.settled) {
            if is_left(disk) {
                self.leave(scene, &disk.job).await;
            } else {
                self.abandon(scene, &disk.job).await;
            }
        }
        let ending = ending?;
        for disk in disks.iter().filter(|disk| !disk.settled) {
            self.end_job(disk.job.id, &ending).await?;
            if is_left(disk) && !self.waits(&disk.job).await? {
                self.abandon(scene, &disk.job).await;
            }
        }
        Ok(())
    }

    /// One attempt at all disks that are not complete.
    pub(crate) async fn prepare_and_copy(
        &self,
        scene: &Scene,
        disks: &mut [DiskWork],
        cancel: &CancellationToken,
    ) -> Result<Ending, StoreError> {
        let ending = self.attempt(scene, disks, cancel).await;
        self.withdraw_chains(disks).await;
        ending
    }

    async fn attempt(
        &self,
        scene: &Scene,
        disks: &mut [DiskWork],
        cancel: &CancellationToken,
    ) -> Result<Ending, StoreError> {
        for disk in disks.iter_mut().filter(|disk| !disk.settled) {
            match cancel.run_until_cancelled(self.prepare(scene, disk)).await {
                None => return Ok(Ending::Stopped),
                Some(prepared) => prepared?,
            }
        }
        if disks.iter().all(|disk| disk.settled) {
            return Ok(Ending::Nothing);
        }
        self.copy(scene, disks, cancel).await
    }

    /// Whether a job is in the queue again.
    async fn waits(&self, job: &BackupJob) -> Result<bool, StoreError> {
        let read = || async { self.store.view().await?.backup(job.id).await };
        let job = self.patiently(read).await?;
        Ok(job.is_some_and(|job| job.state.status() == JobStatus::Queued))
    }

    async fn load(
        &self,
        id: BackupRunId,
    ) -> Result<Option<(BackupRun, Vec<BackupJob>)>, StoreError> {
        let mut view = self.store.view().await?;
        match view.backup_run(id).await? {
            None => Ok(None),
            Some(run) => Ok(Some((run, all_readable(view.backups_of_run(id).await?)?))),
        }
    }

    /// What the run needs, or what of it is missing.
    async fn scene(
        &self,
        run: &BackupRun,
        jobs: &[BackupJob],
    ) -> Result<Result<Scene, Fault>, StoreError> {
        let mut view = self.store.view().await?;
        let Some(vm) = view.vm(run.vm).await? else {
            return Ok(Err(Fault::new("vm/not-found", "the VM is not under management any more")));
        };
        let Some(repository) = view.repository(run.repository).await? else {
            return Ok(Err(Fault::new("repository/not-found", "the repository was removed")));
        };
        let credential = match vm.credential {
            None => None,
            Some(id) => match view.credential(id).await? {
                None => {
                    let detail = "the login of the VM's source was removed; add the VM again";
                    return Ok(Err(Fault::new("credential/not-found", detail)));
                }
                found => found,
            },
        };
        drop(view);
        let Reader { node, stands_in } = match self.reader(run, jobs, &vm).await? {
            Ok(reader) => reader,
            Err(none) => return Ok(Err(Fault::new("vm/no-vma", none.to_string()))),
        };
        let credential = match credential {
            None => None,
            Some(login) => {
                let mut view = self.store.view().await?;
                Some(login_through(view.as_mut(), login, &node, Some(&vm)).await?)
            }
        };
        // The reason of an attempt before holds for this one, which goes where that one went.
        let stands_in = stands_in.or_else(|| {
            let is_again = Some(node.id) == ordered(run, jobs, &vm);
            run.remarks.of_other_vma().filter(|_| is_again).cloned()
        });
        Ok(Ok(Scene { run: run.clone(), vm, node, credential, repository, stands_in }))
    }

    async fn reader(
        &self,
        run: &BackupRun,
        jobs: &[BackupJob],
        vm: &VmContext,
    ) -> Result<Result<Reader, NoReader>, StoreError> {
        let (store, source) = (self.store.as_ref(), self.source.as_ref());
        answering_reader(store, source, vm, ordered(run, jobs, vm)).await
    }

    /// The VMA that a stored run would go through now; nothing where there is none, or the run or its VM is gone.
    pub async fn reader_of(&self, id: BackupRunId) -> Result<Option<VmaNodeId>, StoreError> {
        let Some((run, jobs)) = self.load(id).await? else { return Ok(None) };
        let Some(vm) = self.store.view().await?.vm(run.vm).await? else { return Ok(None) };
        Ok(self.reader(&run, &jobs, &vm).await?.ok().map(|it| it.node.id))
    }

    /// Runs something on the catalogue through conflicts and while the database is away.
    pub(crate) async fn patiently<T, F, Fut>(&self, unit: F) -> Result<T, StoreError>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, StoreError>>,
    {
        retry_patiently(self.options.store_patience, unit).await
    }
}

/// The VMA that an order of this run may have reached.
fn ordered(run: &BackupRun, jobs: &[BackupJob], vm: &VmContext) -> Option<VmaNodeId> {
    run.remarks.ordered(jobs.iter().all(|job| job.attempt.is_first()), vm.vma_node)
}

#[cfg(test)]
mod tests;
