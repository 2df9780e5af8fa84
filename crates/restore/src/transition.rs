//! How a stored job moves along: the same for restores and verifications.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use hub_domain::ids::{RestoreJobId, VerificationId};
use hub_domain::job::{JobEvent, JobState, JobStatus};
use hub_domain::restore::{RestoreJob, Verification};
use hub_ports::{Catalogue, RetryConflicts, StoreError, UnitOfWork, retry_conflicts};

use crate::engine::Restore;
use crate::error::CancelError;

/// A kind of job that the catalogue keeps.
#[async_trait]
pub(crate) trait StoredJob: Sized + Send {
    /// What names one.
    type Id: Copy + Send + Sync;

    /// The one with this id.
    async fn read(catalogue: &mut dyn Catalogue, id: Self::Id) -> Result<Self, StoreError>;

    /// Stores what is changed of it.
    async fn update(&mut self, work: &mut dyn UnitOfWork) -> Result<(), StoreError>;

    /// Where it stands.
    fn state(&mut self) -> &mut JobState;
}

#[async_trait]
impl StoredJob for RestoreJob {
    type Id = RestoreJobId;

    async fn read(catalogue: &mut dyn Catalogue, id: RestoreJobId) -> Result<Self, StoreError> {
        catalogue.restore(id).await?.ok_or(StoreError::Missing("the restore"))
    }

    async fn update(&mut self, work: &mut dyn UnitOfWork) -> Result<(), StoreError> {
        work.update_restore(self).await
    }

    fn state(&mut self) -> &mut JobState {
        &mut self.state
    }
}

#[async_trait]
impl StoredJob for Verification {
    type Id = VerificationId;

    async fn read(catalogue: &mut dyn Catalogue, id: VerificationId) -> Result<Self, StoreError> {
        catalogue.verification(id).await?.ok_or(StoreError::Missing("the verification"))
    }

    async fn update(&mut self, work: &mut dyn UnitOfWork) -> Result<(), StoreError> {
        work.update_verification(self).await
    }

    fn state(&mut self) -> &mut JobState {
        &mut self.state
    }
}

impl Restore {
    /// Applies an event; the status afterwards, or `None` where the state does not allow it.
    pub(crate) async fn advance<J: StoredJob>(
        &self,
        id: J::Id,
        event: JobEvent,
    ) -> Result<Option<JobStatus>, StoreError> {
        let lost = AtomicBool::new(false);
        self.patiently(|| async {
            let mut work = self.store.begin().await?;
            let mut job = J::read(work.as_mut(), id).await?;
            let Ok(state) = job.state().clone().apply(event.clone(), self.clock.now()) else {
                // The commit of an earlier try may have been done, and only its answer lost.
                return Ok(lost.load(Ordering::Relaxed).then(|| job.state().status()));
            };
            *job.state() = state;
            job.update(work.as_mut()).await?;
            if let Err(error) = work.commit().await {
                lost.fetch_or(!error.is_conflict(), Ordering::Relaxed);
                return Err(error);
            }
            Ok(Some(job.state().status()))
        })
        .await
    }

    /// Asks a job to stop; one that waits ends at once.
    pub(crate) async fn cancel<J: StoredJob>(&self, id: J::Id) -> Result<J, CancelError> {
        retry_conflicts(|| async {
            let mut work = self.store.begin().await?;
            let mut job = match J::read(work.as_mut(), id).await {
                Err(StoreError::Missing(_)) => return Err(CancelError::NotFound),
                read => read?,
            };
            let status = job.state().status();
            if status == JobStatus::Cancelling {
                return Ok(job);
            }
            *job.state() = job
                .state()
                .clone()
                .apply(JobEvent::CancelRequested, self.clock.now())
                .map_err(|_| CancelError::Ended(status))?;
            job.update(work.as_mut()).await?;
            work.commit().await?;
            Ok(job)
        })
        .await
    }

    /// Changes what a job knows of its work.
    pub(crate) async fn record<J: StoredJob>(
        &self,
        id: J::Id,
        change: impl Fn(&mut J),
    ) -> Result<(), StoreError> {
        self.patiently(|| async {
            let mut work = self.store.begin().await?;
            let mut job = J::read(work.as_mut(), id).await?;
            change(&mut job);
            job.update(work.as_mut()).await?;
            work.commit().await
        })
        .await
    }

    /// Where a job stands.
    pub(crate) async fn status<J: StoredJob>(&self, id: J::Id) -> Result<JobStatus, StoreError> {
        self.patiently(|| async {
            let mut view = self.store.view().await?;
            Ok(J::read(view.as_mut(), id).await?.state().status())
        })
        .await
    }
}
