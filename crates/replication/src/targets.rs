//! The targets of a run: prepared before the copy, then each either sealed or released.

use hub_domain::job::JobStatus;
use hub_domain::replication::ReplicationKind;
use hub_domain::source::CopyStatus;
use hub_ports::{PrepareReplica, StoreError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::disk_run::{DiskRun, Due};
use crate::engine::Replication;
use crate::fault::{fault_of, of_disk};
use crate::run::{Run, Stop};

impl Replication {
    /// Opens a target for every disk; all of them before the copy is ordered, so that none is missing in it.
    pub(crate) async fn prepare(
        &self,
        run: &mut Run,
        cancel: &CancellationToken,
    ) -> Result<(), Stop> {
        for disk in &mut run.disks {
            let order = PrepareReplica {
                vm: run.vm,
                disk: disk.record.disk,
                capacity: disk.capacity,
                format: run.format,
                incremental: run.kind == ReplicationKind::Incremental,
            };
            let prepared = self.replicas.prepare_replica(&order);
            let target = stoppable(cancel, prepared)
                .await?
                .map_err(|error| Stop::Fault(of_disk(&disk.record.key, fault_of(&error))))?;
            disk.prepared(target);
        }
        self.save_progress(run, When::Now).await
    }

    /// Does what a report asks for: seals what has arrived, releases what has failed. Whether anything was done.
    pub(crate) async fn settle(
        &self,
        run: &mut Run,
        status: &CopyStatus,
        cancel: &CancellationToken,
    ) -> Result<bool, Stop> {
        let mut settled = false;
        for report in &status.disks {
            let disk = run.disks.iter_mut().find(|disk| disk.record.key == report.key);
            let Some(disk) = disk else { continue };
            match disk.due(report) {
                Due::Nothing => continue,
                Due::Seal(root) => self.seal(disk, &root, cancel).await?,
                Due::Release => {
                    if let Some(fault) = &report.fault {
                        disk.failed(fault.clone());
                    }
                    self.release(disk).await;
                }
            }
            settled = true;
        }
        Ok(settled)
    }

    /// Completes a replica; when the two ends do not agree, or the storage fails, it stays incomplete.
    async fn seal(
        &self,
        disk: &mut DiskRun,
        source_root: &str,
        cancel: &CancellationToken,
    ) -> Result<(), Stop> {
        let Some(target) = &disk.target else { return Ok(()) };
        match stoppable(cancel, self.replicas.seal_replica(target, source_root)).await? {
            Ok(root) => disk.sealed(root),
            Err(error) => {
                disk.failed(fault_of(&error));
                self.release(disk).await;
            }
        }
        Ok(())
    }

    async fn release(&self, disk: &mut DiskRun) {
        let Some(target) = disk.target.take() else { return };
        if let Err(error) = self.replicas.release_replica(&target).await {
            tracing::warn!(disk.id = %disk.record.disk, error = &error as &dyn std::error::Error,
                "the target of a replica could not be closed");
        }
    }

    /// Closes every target that is still open.
    pub(crate) async fn release_all(&self, run: &mut Run) {
        for disk in &mut run.disks {
            self.release(disk).await;
        }
    }

    /// Stores how far the run is, and stops it where its job was ended or asked to stop by somebody else.
    ///
    /// A save that fails is not the run's failure: the next one, or the end, tells the same and more.
    pub(crate) async fn save_progress(&self, run: &mut Run, when: When) -> Result<(), Stop> {
        let due = run.saved.is_none_or(|saved| saved.elapsed() >= self.options.progress_interval);
        if when == When::Due && !due {
            return Ok(());
        }
        run.saved = Some(Instant::now());
        match self.save(run.id, &run.records()).await {
            Ok(JobStatus::Running) => Ok(()),
            // Cancelling, or ended under us; the end of the run reads it again.
            Ok(_) | Err(StoreError::Missing(_)) => Err(Stop::Asked),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "progress of a replication could not be stored"
                );
                Ok(())
            }
        }
    }
}

/// When progress is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// If the last time is long enough ago.
    Due,
    /// Whenever it was the last time.
    Now,
}

/// Waits for `work`, or for the wish to stop, which comes first where both are there; `work` is dropped then.
pub(crate) async fn stoppable<T>(
    cancel: &CancellationToken,
    work: impl Future<Output = T>,
) -> Result<T, Stop> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(Stop::Asked),
        done = work => Ok(done),
    }
}
