//! Ends jobs that did not succeed: undo first, then the named state.

use hub_domain::backup::BackupJob;
use hub_domain::fault::Fault;
use hub_domain::ids::BackupJobId;
use hub_domain::job::{JobEvent, JobStatus};
use hub_ports::{Classify, RetryConflicts, StoreError, told};
use tokio_util::sync::CancellationToken;

use crate::Backup;
use crate::run::Scene;

/// Why what is left of a run ends.
#[derive(Clone, Debug)]
pub(crate) enum Ending {
    /// Nothing is left.
    Nothing,
    /// Somebody asked for it, or the hub stops.
    Stopped,
    /// It cannot go on.
    Fault(Fault),
    /// The VMA takes no more at the moment, and has begun nothing: the job waits in line again.
    Refused,
    /// A machine or a connection was lost, and another attempt is worth it.
    Lost {
        /// How it was lost.
        fault: Fault,
        /// What the next attempt says about it.
        reason: &'static str,
    },
}

impl Ending {
    /// What happens to a job that is in this state; a job that was asked to stop has been cancelled whatever came after.
    fn event(&self, status: JobStatus, may_go_on: bool) -> JobEvent {
        match self {
            _ if status == JobStatus::Cancelling => JobEvent::Cancelled,
            // One that waits has begun nothing, so it may go on whatever its number.
            Self::Stopped if may_go_on || status == JobStatus::Queued => JobEvent::Requeued,
            Self::Stopped => JobEvent::Interrupted(Fault::hub_stopped()),
            Self::Refused => JobEvent::Requeued,
            Self::Fault(fault) | Self::Lost { fault, .. } => JobEvent::Failed(fault.clone()),
            Self::Nothing => JobEvent::Failed(Fault::new(
                "vma/garbled-answer",
                "the VMA ended the copy without a word about this disk",
            )),
        }
    }
}

impl Backup {
    /// Removes what there is of a job's image; a failure is logged, since the job has to end in any case.
    pub(crate) async fn abandon(&self, scene: &Scene, job: &BackupJob) {
        let Some(path) = &job.path else { return };
        if let Err(error) = self.storage.abandon_image(&scene.repository, path).await {
            tracing::error!(
                error = %told(&error), image = %path, repository = %scene.repository.name,
                "an unfinished image could not be removed; remove it by hand"
            );
        }
    }

    /// Closes a job's image and leaves what the next hub can go on with.
    pub(crate) async fn leave(&self, scene: &Scene, job: &BackupJob) {
        let Some(path) = &job.path else { return };
        if let Err(error) = self.storage.leave_image(&scene.repository, path).await {
            tracing::error!(
                error = %told(&error), image = %path, repository = %scene.repository.name,
                "an unfinished image could not be left in order; the next hub begins it anew"
            );
        }
    }

    /// Ends a job, if it has not ended yet.
    pub(crate) async fn end_job(&self, id: BackupJobId, ending: &Ending) -> Result<(), StoreError> {
        self.end_if(id, ending, |_| true).await
    }

    async fn end_if(
        &self,
        id: BackupJobId,
        ending: &Ending,
        may_end: impl Fn(JobStatus) -> bool,
    ) -> Result<(), StoreError> {
        self.patiently(|| async {
            let mut work = self.store.begin().await?;
            let Some(mut job) = work.backup(id).await? else {
                return Ok(());
            };
            if !may_end(job.state.status()) {
                return Ok(());
            }
            let may_go_on = job.attempt.number < self.options.copy_attempts;
            let event = ending.event(job.state.status(), may_go_on);
            if event == JobEvent::Requeued {
                if job.state.status() == JobStatus::Queued {
                    return Ok(());
                }
                if !matches!(ending, Ending::Refused) {
                    job.attempt = job.attempt.next("the hub was stopped; the copy began again");
                }
            }
            let Ok(state) = job.state.clone().apply(event, self.clock.now()) else {
                return Ok(());
            };
            if let Some(fault) = state.fault() {
                tracing::warn!(backup.id = %id, code = %fault.code, detail = %fault.detail, "a backup ended badly");
            }
            job.state = state;
            work.update_backup(&mut job).await?;
            work.commit().await
        })
        .await
    }

    /// Ends the jobs that still wait; one that another run has taken to work meanwhile is that run's to end.
    pub(crate) async fn end_waiting(
        &self,
        jobs: &[BackupJob],
        ending: &Ending,
    ) -> Result<(), StoreError> {
        for job in jobs {
            self.end_if(job.id, ending, |status| status == JobStatus::Queued).await?;
        }
        Ok(())
    }

    /// Ends the jobs of a run whose bookkeeping failed, as soon as the catalogue is back: no job stays at work with
    /// nobody working on it. When the hub stops before, the next one finds them.
    pub(crate) async fn end_when_it_is_back(
        &self,
        jobs: &[BackupJob],
        error: &StoreError,
        cancel: &CancellationToken,
    ) -> Result<(), StoreError> {
        let detail = format!(
            "the catalogue was away for too long while this job was at work: {}; start it again",
            told(error)
        );
        let ending = Ending::Fault(Fault::new("store/unavailable", detail));
        loop {
            match cancel.run_until_cancelled(self.end_all(jobs, &ending)).await {
                Some(Err(error)) if error.is_transient() || error.is_conflict() => {
                    tracing::warn!(error = %told(&error), "the catalogue is still away");
                }
                Some(Ok(())) => return self.remove_what_is_no_point(jobs).await,
                Some(Err(error)) => return Err(error),
                None => return Err(StoreError::Unavailable("the hub stops".into())),
            }
        }
    }

    /// Removes what lies in the repository of jobs that are no points by the catalogue's word.
    async fn remove_what_is_no_point(&self, jobs: &[BackupJob]) -> Result<(), StoreError> {
        for job in jobs {
            let stored = self.patiently(|| async { self.store.view().await?.backup(job.id).await });
            if let Some(job) = stored.await?.filter(|job| !job.is_restore_point()) {
                self.remove_partial(&job).await?;
            }
        }
        Ok(())
    }

    /// Ends all jobs that have not ended yet.
    pub(crate) async fn end_all(
        &self,
        jobs: &[BackupJob],
        ending: &Ending,
    ) -> Result<(), StoreError> {
        for job in jobs {
            self.end_job(job.id, ending).await?;
        }
        Ok(())
    }
}
