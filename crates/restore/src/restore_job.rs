//! Restores of a whole disk to a file.

use hub_domain::ids::{BackupJobId, RestoreJobId};
use hub_domain::job::{JobEvent, JobState, JobStatus};
use hub_domain::restore::{RestoreFormat, RestoreJob};
use hub_ports::store::readable;
use hub_ports::{PointLocation, RestoreOutput, StoreError, retry_conflicts, told};
use tokio_util::sync::CancellationToken;

use crate::engine::Restore;
use crate::error::{CancelError, PointError, StartRestoreError};
use crate::fault::{ending, unreadable};
use crate::point;
use crate::tracking::{Tracked, saving};

/// Longest file name, in bytes; file systems allow 255, and unfinished files have a longer one.
const MAX_FILE_NAME: usize = 200;

/// Asks for a restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreRequest {
    /// The point to restore.
    pub point: BackupJobId,
    /// What the file becomes.
    pub format: RestoreFormat,
    /// Its name below the restore directory; `<point>.<format>` unless given.
    pub file_name: Option<String>,
}

impl Restore {
    /// Stores a new restore, or returns the same one that is at work (promise P8); `true` for a new one.
    pub async fn start_restore(
        &self,
        request: &RestoreRequest,
    ) -> Result<(RestoreJob, bool), StartRestoreError> {
        let default = || format!("{}.{}", request.point, request.format.word());
        let file_name = request.file_name.clone().unwrap_or_else(default);
        if !is_plain(&file_name) {
            return Err(StartRestoreError::FileName(file_name));
        }
        retry_conflicts(|| async {
            let mut work = self.store.begin().await?;
            let point = point::hold(work.as_mut(), request.point).await?;
            for running in readable(work.unfinished_restores().await?) {
                if running.file_name == file_name {
                    let same = running.point == request.point && running.format == request.format;
                    return if same {
                        Ok((running, false))
                    } else {
                        Err(StartRestoreError::FileInUse(file_name.clone()))
                    };
                }
            }
            let job = RestoreJob {
                id: RestoreJobId::from_uuid(self.ids.new_id()),
                point: request.point,
                format: request.format,
                file_name: file_name.clone(),
                bytes_total: point.capacity.bytes(),
                bytes_done: 0,
                state: JobState::Queued,
                version: 0,
                created_at: self.clock.now(),
            };
            work.insert_restore(&job).await?;
            work.commit().await?;
            Ok((job, true))
        })
        .await
    }

    /// Does the work of a stored restore; returns when it has ended.
    pub async fn run_restore(
        &self,
        id: RestoreJobId,
        cancel: CancellationToken,
    ) -> Result<(), StoreError> {
        let started = self.advance::<RestoreJob>(id, JobEvent::Started).await?;
        if !matches!(started, Some(JobStatus::Running | JobStatus::Cancelling)) {
            return Ok(());
        }
        let (job, location) = match self.patiently(|| self.located(id)).await? {
            Ok(found) => found,
            Err(error) => {
                return self.advance::<RestoreJob>(id, unreadable(&error)).await.map(drop);
            }
        };
        let output = RestoreOutput { format: job.format, file_name: job.file_name };
        let tracked = Tracked::default();
        let work = self.storage.restore_point(&location, &output, &tracked, &cancel);
        let save = || async {
            if let Err(error) = self.record_restore(id, tracked.done()).await {
                tracing::warn!(job.id = %id, error = %told(&error),
                    "progress of a restore could not be stored");
            }
        };
        let event = match saving(self.options, &cancel, work, save).await {
            Ok(file) => {
                self.record_restore(id, file.bytes).await?;
                JobEvent::Succeeded
            }
            Err(error) => {
                if let Err(left) = self.storage.abandon_restore(&output).await {
                    tracing::warn!(job.id = %id, error = %told(&left),
                        "what a failed restore left could not be removed");
                }
                ending(&error, self.status::<RestoreJob>(id).await?)
            }
        };
        self.advance::<RestoreJob>(id, event).await.map(drop)
    }

    async fn located(
        &self,
        id: RestoreJobId,
    ) -> Result<Result<(RestoreJob, PointLocation), PointError>, StoreError> {
        let mut view = self.store.view().await?;
        let job = view.restore(id).await?.ok_or(StoreError::Missing("the restore"))?;
        let located = async {
            let found = point::find(view.as_mut(), job.point).await?;
            point::locate(view.as_mut(), &found).await
        };
        match located.await {
            Err(PointError::Store(error)) => Err(error),
            located => Ok(located.map(|location| (job, location))),
        }
    }

    async fn record_restore(&self, id: RestoreJobId, done: u64) -> Result<(), StoreError> {
        let further = |job: &mut RestoreJob| {
            job.bytes_done = job.bytes_done.max(done).min(job.bytes_total);
        };
        self.record(id, further).await
    }

    /// Asks a restore to stop; one that waits ends at once.
    pub async fn cancel_restore(&self, id: RestoreJobId) -> Result<RestoreJob, CancelError> {
        self.cancel(id).await
    }
}

/// A name that stays in its directory and hides nothing.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_FILE_NAME
        && !name.starts_with('.')
        && !name.ends_with(".partial")
        && !name.chars().any(|letter| letter.is_control() || matches!(letter, '/' | '"'))
}
