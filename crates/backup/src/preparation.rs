//! Begins the jobs of a run and prepares an image for each disk.

use std::sync::atomic::{AtomicBool, Ordering};

use hub_domain::audit::{AuditOrder, Audited};
use hub_domain::backup::{BackupJob, BackupType};
use hub_domain::chain::{audit_from, audit_runs_in_chain, plan_disk_backup};
use hub_domain::disk::VmDisk;
use hub_domain::fault::Fault;
use hub_domain::ids::BackupJobId;
use hub_domain::job::{JobEvent, JobStatus};
use hub_domain::remarks::{Remarks, Warning};
use hub_domain::source::{CopyBytes, CopyMethod, DiskCopyStatus, PreparedTarget};
use hub_ports::{ParentImage, PrepareImage, RetryConflicts, StorageError, StoreError, UnitOfWork};
use tokio::time::Instant;

use crate::Backup;
use crate::chain_audits::AuditedChain;
use crate::ending::Ending;
use crate::run::Scene;
use crate::start::preflight;

/// One disk of a run at work.
pub(crate) struct DiskWork {
    /// Its job as it was written last; progress writes go on from the catalogue.
    pub(crate) job: BackupJob,
    /// What was asked of the storage.
    pub(crate) order: PrepareImage,
    /// The id of the disk behind the key when its job began; nothing is read of another one.
    pub(crate) backing_uuid: Option<String>,
    /// How the blocks are found in a fresh image.
    pub(crate) method: CopyMethod,
    /// How the source's word about changes is audited, where the method relies on it.
    pub(crate) audit: Option<AuditOrder>,
    /// Which chain is audited instead, where the whole disk is read.
    pub(crate) chain: Option<AuditedChain>,
    /// Whether the audit of this job was heard of, in whatever attempt.
    pub(crate) audit_heard: bool,
    /// Whether the image keeps what an earlier attempt brought.
    pub(crate) kept: bool,
    /// What earlier attempts have moved.
    pub(crate) earlier: CopyBytes,
    /// The VMA's last word, once it has copied the disk; it is sealed when all disks have come so far.
    pub(crate) copied: Option<DiskCopyStatus>,
    /// What its copy was lost by, when that is worth another attempt.
    pub(crate) lost: Option<Fault>,
    /// The open image, once it is prepared.
    pub(crate) target: Option<PreparedTarget>,
    /// Whether its job has ended, or its image must not be touched any more.
    pub(crate) settled: bool,
    /// When its progress was written last.
    pub(crate) told_at: Option<Instant>,
}

impl Backup {
    /// Takes the queued jobs of a run to work, planned anew on what is stored now; none, when another run was first.
    ///
    /// `lost` remembers that the answer to a commit was lost, for only then may running jobs be this run's own.
    pub(crate) async fn begin_jobs(
        &self,
        scene: &Scene,
        jobs: &[BackupJob],
        lost: &AtomicBool,
    ) -> Result<Result<Vec<DiskWork>, Fault>, StoreError> {
        let mut work = self.store.begin().await?;
        match work.lock_vm(scene.vm.id).await {
            Err(StoreError::Missing(_)) => {
                let detail = "the VM is not under management any more";
                return Ok(Err(Fault::new("vm/not-found", detail)));
            }
            done => done?,
        }
        let disks = work.disks_of(&[scene.vm.id]).await?;
        let mut is_first = true;
        let mut begun = Vec::with_capacity(jobs.len());
        for job in jobs {
            let Some(job) = work.backup(job.id).await? else { continue };
            match job.state.status() {
                JobStatus::Queued => (),
                // The commit of an earlier try was done, only its answer was lost.
                JobStatus::Running if lost.load(Ordering::Relaxed) => (),
                JobStatus::Running
                | JobStatus::Cancelling
                | JobStatus::Succeeded
                | JobStatus::Failed
                | JobStatus::Cancelled
                | JobStatus::Interrupted => continue,
            }
            if std::mem::take(&mut is_first) {
                // Stored before the order: the next hub has to know whom this one may have ordered.
                work.remark(scene.run.id, &remarks(scene, jobs, &disks)).await?;
            }
            begun.extend(self.begin_job(work.as_mut(), scene, job, &disks).await?);
        }
        if let Err(error) = work.commit().await {
            if !error.is_conflict() {
                lost.store(true, Ordering::Relaxed);
            }
            return Err(error);
        }
        Ok(Ok(begun))
    }

    async fn begin_job(
        &self,
        work: &mut dyn UnitOfWork,
        scene: &Scene,
        mut job: BackupJob,
        disks: &[VmDisk],
    ) -> Result<Option<DiskWork>, StoreError> {
        let now = self.clock.now();
        let same = |disk: &&VmDisk| {
            Some(disk.id) == job.disk && disk.is_present() && disk.facts.key == job.disk_key
        };
        let preflight = preflight(&scene.vm, disks);
        let found = match disks.iter().find(same) {
            None => Err(Fault::new(
                "backup/disk-gone",
                "the disk is gone from the VM since the backup was asked for; start it again",
            )),
            Some(disk) => {
                match preflight.vm_blocked().or(preflight.disk_blocked(&disk.facts.key)) {
                    Some(concern) => Err(Fault::new(concern.code(), concern.sentence())),
                    None => Ok(disk),
                }
            }
        };
        let disk = match found {
            Ok(disk) => disk,
            Err(fault) => {
                if let Ok(state) = job.state.clone().apply(JobEvent::Failed(fault), now) {
                    job.state = state;
                    work.update_backup(&mut job).await?;
                }
                return Ok(None);
            }
        };
        let key = job.chain_key();
        let points = work.backups_of_chain(key).await?;
        let plan = plan_disk_backup(scene.run.backup_type, disk, &points)
            .weighed(&preflight, &disk.facts.key);
        let order = PrepareImage {
            repository: scene.repository.clone(),
            point: job.id,
            vm: job.vm,
            disk: disk.id,
            capacity: disk.facts.capacity,
            parent: plan.parent.and_then(|parent| parent_image(&points, parent)),
            resume: !job.attempt.is_first(),
        };
        job.backup_type = plan.backup_type;
        job.parent = plan.parent;
        job.method = plan.method.word().to_owned();
        job.method_reason = plan.reason;
        (job.quiescence, job.read_by) = (None, None);
        if plan.backup_type == BackupType::Full {
            // Whatever an earlier attempt has found, it is of the chain that this one does not stand on.
            job.suspicion = None;
        }
        job.audited = Audited { next: audit_from(&points), ..Audited::default() };
        job.capacity = disk.facts.capacity;
        job.compression = scene.repository.settings.compression;
        // Stored before the image exists, so that whatever dies in between leaves nothing that nobody knows of.
        job.path = Some(order.path());
        if let Ok(state) = job.state.clone().apply(JobEvent::Started, now) {
            job.state = state;
        }
        work.update_backup(&mut job).await?;
        let method = plan.method;
        let runs = audit_runs_in_chain(scene.run.audit_runs.unwrap_or(self.options.audit_runs));
        let audit = AuditOrder { runs, from: job.audited.next };
        let chain = AuditedChain::of(disk, &points, &preflight, &scene.repository);
        let relies = matches!(method, CopyMethod::ChangedSince { .. });
        Ok(Some(DiskWork {
            earlier: job.bytes,
            job,
            order,
            backing_uuid: disk.facts.backing_uuid.clone(),
            method,
            audit: relies.then_some(audit),
            chain,
            audit_heard: false,
            kept: false,
            copied: None,
            lost: None,
            target: None,
            settled: false,
            told_at: None,
        }))
    }

    /// Prepares the image of a disk; a disk that cannot be prepared ends its own job only.
    ///
    /// May be dropped at any await: a disk that is not settled then is abandoned and ended with its run.
    pub(crate) async fn prepare(
        &self,
        scene: &Scene,
        disk: &mut DiskWork,
    ) -> Result<(), StoreError> {
        if disk.order.resume && disk.audit_is_open() {
            self.abandon(scene, &disk.job).await;
        }
        let mut prepared = self.storage.prepare_image(&disk.order).await;
        if let (Ok(target), Some(_)) = (&prepared, &disk.order.parent)
            && target.parent.is_none()
        {
            let reason = target
                .no_parent_reason
                .clone()
                .unwrap_or_else(|| "the parent point cannot be read".to_owned());
            self.abandon(scene, &disk.job).await;
            disk.method = CopyMethod::Full;
            disk.audit = None;
            disk.order.parent = None;
            // The manifest is made from this one, and has to say why as well.
            disk.job.method_reason = Some(reason.clone());
            prepared = match self.patiently(|| self.make_full(disk.job.id, &reason)).await? {
                true => self.storage.prepare_image(&disk.order).await,
                false => Err(StorageError::Cancelled),
            };
        }
        match prepared {
            Ok(target) => {
                disk.kept = false;
                if let Some(bytes) = target.kept_bytes {
                    disk.keeps(bytes);
                }
                disk.target = Some(target);
                self.offer_chain(disk).await;
            }
            Err(error) => {
                self.abandon(scene, &disk.job).await;
                self.end_job(disk.job.id, &Ending::Fault(error.to_fault())).await?;
                disk.settled = true;
            }
        }
        Ok(())
    }

    /// Makes a full of an incremental whose parent cannot be stood upon; whether the job is still at work.
    async fn make_full(&self, id: BackupJobId, reason: &str) -> Result<bool, StoreError> {
        let mut work = self.store.begin().await?;
        let Some(mut job) = work.backup(id).await? else {
            return Ok(false);
        };
        if job.state.status() != JobStatus::Running {
            return Ok(false);
        }
        job.backup_type = BackupType::Full;
        job.parent = None;
        job.method = CopyMethod::Full.word().to_owned();
        job.method_reason = Some(reason.to_owned());
        // What an earlier attempt has found is of the chain that it stood on.
        job.suspicion = None;
        work.update_backup(&mut job).await?;
        work.commit().await?;
        Ok(true)
    }
}

/// What the run says of itself from now on.
fn remarks(scene: &Scene, jobs: &[BackupJob], disks: &[VmDisk]) -> Remarks {
    let ordinals = jobs.iter().map(|job| job.ordinal).collect();
    let added = Warning::of_added_disks(disks, &ordinals, scene.run.created_at);
    let warnings: Vec<Warning> = scene.stands_in.iter().cloned().chain(added).collect();
    for Warning { code, detail } in &warnings {
        tracing::warn!(run.id = %scene.run.id, vm.name = %scene.vm.facts.name, code, detail, "a backup has a warning");
    }
    // What speaks against a VM speaks so every night, and is no line of the log each time.
    let concerns = preflight(&scene.vm, disks).warnings(jobs.iter().map(|job| &job.disk_key));
    Remarks::at_work(&scene.node, warnings.into_iter().chain(concerns).collect())
}

fn parent_image(points: &[BackupJob], parent: BackupJobId) -> Option<ParentImage> {
    let job = points.iter().find(|point| point.id == parent)?;
    Some(ParentImage { point: parent, path: job.path.clone()? })
}
