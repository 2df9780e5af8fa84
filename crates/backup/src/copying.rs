//! Orders one copy for all disks of a run and follows it.

use hub_domain::fault::Fault;
use hub_domain::job::JobStatus;
use hub_domain::source::{CopyPhase, CopyStatus, DiskCopyStatus, OrderedDisk};
use hub_ports::{CopyKind, CopyOrder, CopyWatch, StoreError, stop_copy};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Backup;
use crate::ending::Ending;
use crate::preparation::DiskWork;
use crate::run::Scene;

impl Backup {
    /// Copies all prepared disks under one order, so that they stand at one instant (trap D6).
    pub(crate) async fn copy(
        &self,
        scene: &Scene,
        disks: &mut [DiskWork],
        cancel: &CancellationToken,
    ) -> Result<Ending, StoreError> {
        let followed = self.follow(scene, disks, cancel).await;
        if !matches!(followed, Ok(Ending::Nothing)) {
            let job = scene.run.id.to_string();
            stop_copy(self.source.as_ref(), &scene.node, &job, self.options.watch).await;
        }
        followed
    }

    /// Waits on the VMA and on the storage are cut short by a cancellation; what is sealed is still recorded.
    async fn follow(
        &self,
        scene: &Scene,
        disks: &mut [DiskWork],
        cancel: &CancellationToken,
    ) -> Result<Ending, StoreError> {
        let order = CopyOrder {
            kind: CopyKind::Backup,
            job: scene.run.id.to_string(),
            vm: scene.vm.facts.vmware_vm_id.clone(),
            credential: scene.credential.clone(),
            disks: disks.iter().filter_map(ordered).collect(),
        };
        let source = self.source.as_ref();
        let start = CopyWatch::start(source, &scene.node, &order, self.options.watch);
        let Some(started) = cancel.run_until_cancelled(start).await else {
            return Ok(Ending::Stopped);
        };
        let mut watch = match started {
            Ok(watch) => watch,
            Err(fault) => return Ok(Ending::Fault(fault)),
        };
        loop {
            match cancel.run_until_cancelled(watch.next()).await {
                None => return Ok(Ending::Stopped),
                Some(Err(fault)) => return Ok(Ending::Fault(fault)),
                Some(Ok(None)) => (),
                Some(Ok(Some(status))) => {
                    self.hear(scene, disks, &status, cancel).await?;
                    if disks.iter().all(|disk| disk.settled) {
                        return Ok(Ending::Nothing);
                    }
                    if cancel.is_cancelled() {
                        return Ok(Ending::Stopped);
                    }
                    if status.phase.is_terminal() {
                        return Ok(status.fault.map_or(Ending::Nothing, Ending::Fault));
                    }
                }
            }
            if self.is_asked_to_stop(scene).await {
                return Ok(Ending::Stopped);
            }
        }
    }

    async fn hear(
        &self,
        scene: &Scene,
        disks: &mut [DiskWork],
        status: &CopyStatus,
        cancel: &CancellationToken,
    ) -> Result<(), StoreError> {
        for disk in disks.iter_mut().filter(|disk| !disk.settled) {
            let about = |report: &&DiskCopyStatus| report.key == disk.job.disk_key;
            let Some(report) = status.disks.iter().find(about) else { continue };
            disk.job.bytes = disk.job.bytes.max(report.bytes);
            match report.phase {
                CopyPhase::Queued | CopyPhase::Running => self.tell_progress(disk, report).await,
                CopyPhase::Succeeded => self.complete(scene, disk, report, cancel).await?,
                CopyPhase::Failed | CopyPhase::Cancelled => {
                    let fault = report.fault.clone().unwrap_or_else(|| ended_by_vma(report.phase));
                    disk.settled = true;
                    self.abandon(scene, &disk.job).await;
                    self.end_job(disk.job.id, &Ending::Fault(fault)).await?;
                }
            }
        }
        Ok(())
    }

    /// Writes progress down now and then; when that fails, the next report makes it good (trap D24).
    async fn tell_progress(&self, disk: &mut DiskWork, report: &DiskCopyStatus) {
        let due = |at: Instant| at.elapsed() >= self.options.progress_interval;
        if !disk.told_at.is_none_or(due) {
            return;
        }
        disk.told_at = Some(Instant::now());
        let told = async {
            let mut work = self.store.begin().await?;
            let Some(mut job) = work.backup(disk.job.id).await? else { return Ok(()) };
            if job.state.status() != JobStatus::Running {
                return Ok(());
            }
            job.bytes = job.bytes.max(disk.job.bytes);
            job.method.clone_from(&report.method);
            job.method_reason = report.method_reason.clone().or(job.method_reason);
            work.update_backup(&mut job).await?;
            work.commit().await
        };
        let told: Result<(), StoreError> = told.await;
        if let Err(error) = told {
            tracing::debug!(error = %error, "progress was not written");
        }
    }

    /// Whether somebody asked the run to stop, perhaps through another hub; a catalogue that is away asks nothing.
    async fn is_asked_to_stop(&self, scene: &Scene) -> bool {
        let asked = async {
            let mut view = self.store.view().await?;
            let jobs = view.backups_of_run(scene.run.id).await?;
            Ok(jobs.iter().any(|job| job.state.status() == JobStatus::Cancelling))
        };
        let asked: Result<bool, StoreError> = asked.await;
        asked.unwrap_or(false)
    }
}

fn ordered(disk: &DiskWork) -> Option<OrderedDisk> {
    let target = disk.target.clone().filter(|_| !disk.settled)?;
    Some(OrderedDisk {
        key: disk.job.disk_key.clone(),
        capacity: disk.order.capacity,
        method: disk.method.clone(),
        target,
    })
}

fn ended_by_vma(phase: CopyPhase) -> Fault {
    if phase == CopyPhase::Cancelled {
        Fault::new("vma/copy-cancelled", "the copy was cancelled at the VMA; start it again")
    } else {
        Fault::new("vma/copy-failed", "the VMA gave no reason; look at its log")
    }
}
