//! Verifications: every block of a point, or of a chain, compared with its manifest.

use hub_domain::backup::BackupJob;
use hub_domain::ids::{BackupJobId, VerificationId};
use hub_domain::job::{JobEvent, JobState, JobStatus};
use hub_domain::restore::{PointVerdict, Verification, VerificationScope};
use hub_ports::store::readable;
use hub_ports::{PointLocation, StorageError, StoreError, retry_conflicts, told};
use tokio_util::sync::CancellationToken;

use crate::engine::Restore;
use crate::error::{CancelError, PointError, StartVerificationError};
use crate::fault::{ending, unreadable};
use crate::point;
use crate::tracking::{Tracked, saving};

impl Restore {
    /// Stores a new verification, or returns the same one that is at work (promise P8); `true` for a new one.
    pub async fn start_verification(
        &self,
        id: BackupJobId,
        scope: VerificationScope,
    ) -> Result<(Verification, bool), StartVerificationError> {
        retry_conflicts(|| async {
            let mut work = self.store.begin().await?;
            let tip = point::hold(work.as_mut(), id).await?;
            let same = |job: &Verification| job.point == id && job.scope == scope;
            let unfinished = readable(work.unfinished_verifications().await?);
            if let Some(running) = unfinished.into_iter().find(same) {
                return Ok((running, false));
            }
            let points = match scope {
                VerificationScope::Point => vec![tip],
                VerificationScope::Chain => point::chain(work.as_mut(), &tip).await?,
            };
            let job = Verification {
                id: VerificationId::from_uuid(self.ids.new_id()),
                point: id,
                scope,
                bytes_total: points.iter().map(|point| point.capacity.bytes()).sum(),
                bytes_done: 0,
                verdicts: Vec::new(),
                state: JobState::Queued,
                version: 0,
                created_at: self.clock.now(),
            };
            work.insert_verification(&job).await?;
            work.commit().await?;
            Ok((job, true))
        })
        .await
    }

    /// Does the work of a stored verification; returns when it has ended.
    pub async fn run_verification(
        &self,
        id: VerificationId,
        cancel: CancellationToken,
    ) -> Result<(), StoreError> {
        let started = self.advance::<Verification>(id, JobEvent::Started).await?;
        if !matches!(started, Some(JobStatus::Running | JobStatus::Cancelling)) {
            return Ok(());
        }
        let event = match self.verify_all(id, &cancel).await {
            Ok(()) => JobEvent::Succeeded,
            Err(RunError::Storage(error)) => ending(&error, self.status::<Verification>(id).await?),
            Err(RunError::Point(PointError::Store(error)) | RunError::Store(error)) => {
                return Err(error);
            }
            Err(RunError::Point(error)) => unreadable(&error),
        };
        self.advance::<Verification>(id, event).await.map(drop)
    }

    async fn verify_all(
        &self,
        id: VerificationId,
        cancel: &CancellationToken,
    ) -> Result<(), RunError> {
        let mut before = 0;
        for location in self.patiently(|| self.points_of(id)).await?? {
            let tracked = Tracked::default();
            let work = self.storage.verify_point(&location, &tracked, cancel);
            let save = || async {
                let done = before + tracked.done();
                if let Err(error) = self.record_verified(id, done, None).await {
                    tracing::warn!(job.id = %id, error = %told(&error),
                        "progress of a verification could not be stored");
                }
            };
            let mut verdict = saving(self.options, cancel, work, save).await?;
            if !verdict.is_good() {
                tracing::error!(job.id = %id, point.id = %verdict.point,
                    "a restore point is not what its manifest says");
            }
            let read = || async { self.store.view().await?.backup(location.point).await };
            let point = self.patiently(read).await?;
            verdict.suspect = point.as_ref().is_some_and(BackupJob::is_suspect);
            before += point.map_or(0, |point| point.capacity.bytes());
            self.record_verified(id, before, Some(verdict)).await?;
        }
        Ok(())
    }

    async fn points_of(
        &self,
        id: VerificationId,
    ) -> Result<Result<Vec<PointLocation>, PointError>, StoreError> {
        match self.locate_points(id).await {
            Err(PointError::Store(error)) => Err(error),
            located => Ok(located),
        }
    }

    async fn locate_points(&self, id: VerificationId) -> Result<Vec<PointLocation>, PointError> {
        let mut view = self.store.view().await?;
        let job = view.verification(id).await?.ok_or(StoreError::Missing("the verification"))?;
        let tip = point::find(view.as_mut(), job.point).await?;
        let points = match job.scope {
            VerificationScope::Point => vec![tip],
            VerificationScope::Chain => point::chain(view.as_mut(), &tip).await?,
        };
        let mut locations = Vec::with_capacity(points.len());
        for found in &points {
            locations.push(point::locate(view.as_mut(), found).await?);
        }
        Ok(locations)
    }

    /// Stores how far it is, and a verdict that is new.
    async fn record_verified(
        &self,
        id: VerificationId,
        done: u64,
        verdict: Option<PointVerdict>,
    ) -> Result<(), StoreError> {
        let further = |job: &mut Verification| {
            job.bytes_done = job.bytes_done.max(done).min(job.bytes_total);
            // A commit whose answer was lost has stored it already.
            let is_new = |new: &PointVerdict| job.verdicts.iter().all(|it| it.point != new.point);
            let new = verdict.clone().filter(is_new);
            job.verdicts.extend(new);
        };
        self.record(id, further).await
    }

    /// Asks a verification to stop; one that waits ends at once.
    pub async fn cancel_verification(
        &self,
        id: VerificationId,
    ) -> Result<Verification, CancelError> {
        self.cancel(id).await
    }
}

/// Why the work of a verification stopped.
enum RunError {
    Storage(StorageError),
    Point(PointError),
    Store(StoreError),
}

impl From<StorageError> for RunError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl From<PointError> for RunError {
    fn from(error: PointError) -> Self {
        Self::Point(error)
    }
}

impl From<StoreError> for RunError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
