//! Makes a restore point of a copied disk: proof, durable image, then the catalogue (promise P1).

use hub_domain::backup::{BackupJob, Proof};
use hub_domain::chain::{ChainKey, summarise_chain};
use hub_domain::fault::Fault;
use hub_domain::job::{JobEvent, JobStatus};
use hub_domain::source::{DiskCopyStatus, method_reason};
use hub_ports::{PointIdentity, SealImage, SealedImage, StoreError, UnitOfWork};
use tokio_util::sync::CancellationToken;

use crate::Backup;
use crate::ending::Ending;
use crate::preparation::DiskWork;
use crate::run::Scene;

impl Backup {
    /// Seals the image of a disk and makes it visible; a disk that cannot be completed ends its own job only.
    ///
    /// A cancellation cuts the sealing short and leaves the disk unsettled; what is sealed is recorded.
    pub(crate) async fn complete(
        &self,
        scene: &Scene,
        disk: &mut DiskWork,
        report: &DiskCopyStatus,
        cancel: &CancellationToken,
    ) -> Result<(), StoreError> {
        let sealing = cancel.run_until_cancelled(self.seal(scene, disk, report)).await;
        let Some(sealing) = sealing else { return Ok(()) };
        let sealed = match sealing {
            Ok(sealed) => sealed,
            Err(fault) => {
                disk.settled = true;
                self.abandon(scene, &disk.job).await;
                return self.end_job(disk.job.id, &Ending::Fault(fault)).await;
            }
        };
        // From here on the catalogue may know the point even if it did not say so: only its word allows to undo.
        disk.settled = true;
        disk.sent_after_that();
        if !self.patiently(|| self.record(disk, report, &sealed)).await? {
            self.abandon(scene, &disk.job).await;
            self.end_job(disk.job.id, &Ending::Stopped).await?;
        }
        Ok(())
    }

    async fn seal(
        &self,
        scene: &Scene,
        disk: &DiskWork,
        report: &DiskCopyStatus,
    ) -> Result<(Proof, SealedImage), Fault> {
        let garbled = |detail| Fault::new("vma/garbled-answer", detail);
        let source_root = report
            .source_root
            .clone()
            .ok_or_else(|| garbled("the VMA finished a disk without the digest of what it read"))?;
        let target = disk.target.clone().ok_or_else(|| garbled("the disk was never ordered"))?;
        let order = SealImage {
            target,
            source_root: source_root.clone(),
            identity: identity(scene, disk, report),
        };
        let sealed = self.storage.seal_image(&order).await.map_err(|error| error.to_fault())?;
        let proof = Proof { source_root, stored_root: sealed.stored_root.clone() };
        if !proof.agrees() {
            let detail =
                "the hub stored other bytes than the VMA read; nothing of this copy is kept";
            return Err(Fault::new("backup/proof-mismatch", detail));
        }
        Ok((proof, sealed))
    }

    /// Makes the point visible with its chain in one unit (traps C4, C29, D17); whether the job was still at work.
    async fn record(
        &self,
        disk: &DiskWork,
        report: &DiskCopyStatus,
        (proof, sealed): &(Proof, SealedImage),
    ) -> Result<bool, StoreError> {
        let mut work = self.store.begin().await?;
        lock_if_there(work.as_mut(), &disk.job).await?;
        let Some(mut job) = work.backup(disk.job.id).await? else {
            return Ok(false);
        };
        if job.state.status() == JobStatus::Succeeded {
            return Ok(true);
        }
        let Ok(state) = job.state.clone().apply(JobEvent::Succeeded, self.clock.now()) else {
            return Ok(false);
        };
        job.state = state;
        job.proof = Some(proof.clone());
        job.stored_bytes = sealed.stored_bytes;
        job.bytes = job.bytes.max(disk.job.bytes);
        job.attempt = disk.job.attempt.clone();
        job.audited = disk.job.audited;
        job.quiescence.clone_from(&disk.job.quiescence);
        job.read_by.clone_from(&disk.job.read_by);
        job.change_id.clone_from(&report.change_id);
        job.method.clone_from(&report.method);
        job.method_reason =
            method_reason(job.method_reason.as_deref(), report.method_reason.as_deref());
        let key = job.chain_key();
        work.update_backup(&mut job).await?;
        put_chain(work.as_mut(), key).await?;
        work.commit().await?;
        tracing::info!(backup.id = %job.id, disk.ordinal = job.ordinal, stored_bytes = job.stored_bytes, "a restore point is complete");
        Ok(true)
    }
}

/// Locks the VM of a backup; a point outlives its VM, and is then guarded by its version alone.
pub(crate) async fn lock_if_there(
    work: &mut dyn UnitOfWork,
    job: &BackupJob,
) -> Result<(), StoreError> {
    match work.lock_vm(job.vm).await {
        Ok(()) | Err(StoreError::Missing(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Brings the chain row of a key up to date with the points of this unit.
pub(crate) async fn put_chain(work: &mut dyn UnitOfWork, key: ChainKey) -> Result<(), StoreError> {
    let points = work.backups_of_chain(key).await?;
    match summarise_chain(key, &points) {
        Some(chain) => work.put_chain(&chain).await,
        None => work.remove_chain(key).await,
    }
}

fn identity(scene: &Scene, disk: &DiskWork, report: &DiskCopyStatus) -> PointIdentity {
    let job = &disk.job;
    let parent = disk.order.parent.as_ref().map(|parent| parent.point);
    PointIdentity {
        point: job.id,
        vm: job.vm,
        vm_name: job.vm_name.clone(),
        vmware_vm_id: scene.vm.facts.vmware_vm_id.clone(),
        vcenter_host: scene.vm.facts.vcenter_host.clone(),
        ordinal: job.ordinal,
        disk_key: job.disk_key.clone(),
        backup_type: if parent.is_some() {
            job.backup_type
        } else {
            hub_domain::backup::BackupType::Full
        },
        method: report.method.clone(),
        method_reason: method_reason(job.method_reason.as_deref(), report.method_reason.as_deref()),
        change_id: report.change_id.clone(),
        parent,
        created_at: job.created_at,
    }
}
