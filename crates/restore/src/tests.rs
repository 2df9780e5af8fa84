//! The engine over doubles: each path, each fault, each odd moment.

mod deletions;
mod exports;
mod outages;
mod restores;
mod verifications;

use std::sync::Arc;

use anyhow::{Context, Result};
use hub_domain::backup::{BackupJob, BackupRun, BackupType};
use hub_domain::capacity::Capacity;
use hub_domain::disk::DiskKey;
use hub_domain::ids::{BackupJobId, BackupRunId, VmContextId, VmDiskId};
use hub_domain::job::JobState;
use hub_domain::remarks::Remarks;
use hub_domain::repository::Repository;
use hub_domain::source::CopyBytes;
use hub_domain::time::Timestamp;
use hub_ports::{
    BackupStorage, ParentImage, PointIdentity, PrepareImage, SealImage, Store, UnitOfWork,
};
use hub_testkit::{FixedClock, MemBackupStorage, MemStore, SeqIds, Steps, fixtures};
use uuid::Uuid;

use crate::{ExportRegistry, Options, Restore};

struct Fixture {
    engine: Restore,
    store: Arc<MemStore>,
    storage: Arc<MemBackupStorage>,
    clock: Arc<FixedClock>,
    steps: Steps,
    catalogue: Steps,
    repository: Repository,
}

const VM: VmContextId = VmContextId::from_uuid(Uuid::from_u128(1));

fn point_id(number: u128) -> BackupJobId {
    BackupJobId::from_uuid(Uuid::from_u128(0x1000 + number))
}

impl Fixture {
    /// A catalogue and a storage with a chain of two points.
    async fn new() -> Result<Self> {
        let steps = Steps::default();
        let catalogue = Steps::default();
        let store = Arc::new(MemStore::with_steps(catalogue.clone()));
        let storage = Arc::new(MemBackupStorage::with_steps(steps.clone()));
        let clock = Arc::new(FixedClock::at(Timestamp::UNIX_EPOCH));
        let repository = fixtures::repository(2, "default");
        let mut work = store.begin().await?;
        work.insert_repository(&repository).await?;
        work.commit().await?;
        let engine = Restore {
            store: store.clone(),
            storage: storage.clone(),
            clock: clock.clone(),
            ids: Arc::new(SeqIds::default()),
            exports: ExportRegistry::default(),
            options: Options::default(),
        };
        let fixture = Self { engine, store, storage, clock, steps, catalogue, repository };
        fixture.add_point(1, None).await?;
        fixture.add_point(2, Some(1)).await?;
        fixture.steps.heal();
        fixture.catalogue.heal();
        Ok(fixture)
    }

    async fn add_point(&self, number: u128, parent: Option<u128>) -> Result<()> {
        let mut job = queued(number, parent, &self.repository)?;
        let order = PrepareImage {
            resume: false,
            repository: self.repository.clone(),
            point: job.id,
            vm: VM,
            disk: VmDiskId::from_raw(7),
            capacity: job.capacity,
            parent: parent.map(|number| {
                let path = format!("{VM}/disk-7/{}.qcow2", point_id(number));
                ParentImage { point: point_id(number), path }
            }),
        };
        let target = self.storage.prepare_image(&order).await?;
        job.path = Some(target.path.clone());
        let identity = identity(&job);
        let order = SealImage { target, source_root: "root".to_owned(), identity };
        self.storage.seal_image(&order).await?;
        let now = Timestamp::UNIX_EPOCH;
        job.state = JobState::Succeeded { started: now, finished: now };
        let mut work = self.store.begin().await?;
        work.insert_backup_run(&run_of(&job), &[job]).await?;
        Ok(work.commit().await?)
    }

    async fn change_point(&self, number: u128, change: impl FnOnce(&mut BackupJob)) -> Result<()> {
        let mut work: Box<dyn UnitOfWork> = self.store.begin().await?;
        let mut job = work.backup(point_id(number)).await?.context("the point")?;
        change(&mut job);
        work.update_backup(&mut job).await?;
        Ok(work.commit().await?)
    }
}

fn queued(number: u128, parent: Option<u128>, repository: &Repository) -> Result<BackupJob> {
    Ok(BackupJob {
        id: point_id(number),
        run: BackupRunId::from_uuid(Uuid::from_u128(0x2000 + number)),
        vm: VM,
        vm_name: "pgtest1".to_owned(),
        ordinal: 0,
        disk: None,
        disk_key: DiskKey::new("disk-2000")?,
        repository: repository.id,
        policy: None,
        backup_type: if parent.is_some() { BackupType::Incremental } else { BackupType::Full },
        capacity: Capacity::new(1 << 20)?,
        path: None,
        parent: parent.map(point_id),
        change_id: None,
        method: "full".to_owned(),
        method_reason: None,
        quiescence: None,
        read_by: None,
        audited: Default::default(),
        suspicion: None,
        compression: Default::default(),
        proof: None,
        bytes: CopyBytes::default(),
        stored_bytes: 0,
        state: JobState::Queued,
        attempt: Default::default(),
        deleting_since: None,
        version: 0,
        created_at: Timestamp::UNIX_EPOCH,
    })
}

fn run_of(job: &BackupJob) -> BackupRun {
    BackupRun {
        id: job.run,
        vm: job.vm,
        vm_name: job.vm_name.clone(),
        repository: job.repository,
        policy: None,
        backup_type: job.backup_type,
        tags: Vec::new(),
        rate: None,
        audit_runs: None,
        quiesce: None,
        remarks: Remarks::default(),
        created_at: job.created_at,
    }
}

fn identity(job: &BackupJob) -> PointIdentity {
    PointIdentity {
        point: job.id,
        vm: job.vm,
        vm_name: job.vm_name.clone(),
        vmware_vm_id: "vm-1".to_owned(),
        vcenter_host: fixtures::VCENTER.to_owned(),
        ordinal: job.ordinal,
        disk_key: job.disk_key.clone(),
        backup_type: job.backup_type,
        method: job.method.clone(),
        method_reason: None,
        change_id: None,
        parent: job.parent,
        created_at: job.created_at,
    }
}
