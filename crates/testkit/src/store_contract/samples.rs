//! Values that the behaviours store: small, complete, and different in every field.

use chrono::TimeDelta;
use hub_domain::attempt::Attempt;
use hub_domain::audit::{AuditRuns, Audited};
use hub_domain::backup::{BackupJob, BackupRun, BackupType, Proof};
use hub_domain::capacity::Capacity;
use hub_domain::compression::{Compression, ZstdLevel};
use hub_domain::disk::{NewDisk, VmDisk};
use hub_domain::ids::{
    BackupJobId, BackupRunId, PolicyId, ReplicationJobId, RestoreJobId, VerificationId, VmContextId,
};
use hub_domain::job::JobState;
use hub_domain::limits::ByteRate;
use hub_domain::remarks::{Remarks, Warning};
use hub_domain::replication::{ReplicaDisk, ReplicaFormat, ReplicationJob, ReplicationKind};
use hub_domain::repository::Repository;
use hub_domain::restore::{
    Mismatch, PointVerdict, RestoreFormat, RestoreJob, Verification, VerificationScope,
};
use hub_domain::source::{CopyBytes, Quiescence, ReadBy};
use hub_domain::time::Timestamp;
use hub_domain::vm::VmContext;
use hub_ports::{Store, StoreError};
use uuid::Uuid;

use crate::fixtures::{self, BIG, SMALL};

/// A moment with microseconds, so that a database that drops them is found out.
pub fn at(second: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH
        + TimeDelta::seconds(1_790_000_000 + second)
        + TimeDelta::microseconds(123_457)
}

/// A VM whose name and ids follow from a number.
pub fn vm(number: u128) -> VmContext {
    let facts = fixtures::vm_facts(&format!("vm-{number}"), &format!("source-{number}"));
    VmContext { created_at: at(1), updated_at: at(2), ..fixtures::vm_context(number, facts, None) }
}

/// The two disks of the acceptance stories.
pub fn two_disks(vm: VmContextId) -> anyhow::Result<Vec<NewDisk>> {
    Ok(vec![
        NewDisk { vm, ordinal: 0, facts: fixtures::disk("disk-2000", BIG)? },
        NewDisk { vm, ordinal: 1, facts: fixtures::disk("disk-2001", SMALL)? },
    ])
}

/// Stores a VM with two disks.
pub async fn add_vm(store: &dyn Store, number: u128) -> anyhow::Result<VmContext> {
    let vm = vm(number);
    let mut work = store.begin().await?;
    work.insert_vms(std::slice::from_ref(&vm)).await?;
    work.insert_disks(&two_disks(vm.id)?, at(3)).await?;
    work.commit().await?;
    Ok(vm)
}

/// The stored disks of a VM.
pub async fn disks(store: &dyn Store, vm: VmContextId) -> Result<Vec<VmDisk>, StoreError> {
    store.view().await?.disks_of(&[vm]).await
}

/// Stores a repository.
pub async fn add_repository(store: &dyn Store, number: u128) -> anyhow::Result<Repository> {
    let repository = fixtures::repository(number, &format!("repository-{number}"));
    let mut work = store.begin().await?;
    work.insert_repository(&repository).await?;
    work.commit().await?;
    Ok(repository)
}

/// A replication of some disks.
pub fn replication(number: u128, vm: VmContextId, disks: &[VmDisk]) -> ReplicationJob {
    let disks = disks.iter().map(|disk| ReplicaDisk {
        disk: disk.id,
        ordinal: disk.ordinal,
        key: disk.facts.key.clone(),
        path: Some(format!("{vm}/{}.raw", disk.ordinal)),
        method: Some("by_digest".to_owned()),
        method_reason: Some("the source gives no change id".to_owned()),
        read_by: Some(ReadBy { reader: "https".to_owned(), reason: None }),
        bytes: CopyBytes {
            total: 4096,
            done: 2048,
            read: 1024,
            sent: 512,
            again: 64,
            reconnects: 2,
        },
        root: Some("ab".repeat(32)),
    });
    ReplicationJob {
        id: ReplicationJobId::from_uuid(Uuid::from_u128(number)),
        vm,
        kind: ReplicationKind::Incremental,
        format: ReplicaFormat::Qcow2,
        rate: ByteRate::new(1_000_000).ok(),
        quiesce: Some(true),
        quiescence: Some(Quiescence { quiesced: true, reason: None }),
        state: JobState::Running { started: at(5) },
        attempt: Attempt::default().next("the VMA was restarted"),
        remarks: remarks(),
        disks: disks.collect(),
        version: 0,
        created_at: at(4),
    }
}

/// Stores a replication of the present disks of a VM and links them.
pub async fn replicate(
    store: &dyn Store,
    number: u128,
    vm: VmContextId,
) -> anyhow::Result<ReplicationJob> {
    let job = replication(number, vm, &disks(store, vm).await?);
    let mut work = store.begin().await?;
    work.lock_vm(vm).await?;
    work.insert_replication(&job).await?;
    work.link_disks(vm, job.id, at(6)).await?;
    work.commit().await?;
    Ok(job)
}

/// Remarks with everything in them.
pub fn remarks() -> Remarks {
    let warnings = vec![
        Warning::new("vm/other-vma", "VMA Ж does not answer\n'quoted'"),
        Warning::new("backup/disk-added", "disk-2002"),
    ];
    Remarks::at_work(&fixtures::vma_node(3, "site \"b\""), warnings)
}

/// A run of full backups of a VM.
pub fn run(number: u128, vm: &VmContext, repository: &Repository) -> BackupRun {
    BackupRun {
        id: BackupRunId::from_uuid(Uuid::from_u128(number)),
        vm: vm.id,
        vm_name: vm.facts.name.clone(),
        repository: repository.id,
        policy: Some(PolicyId::from_uuid(Uuid::from_u128(77))),
        backup_type: BackupType::Full,
        tags: vec!["nightly".to_owned(), "Ж \"quoted\"".to_owned()],
        rate: ByteRate::new(ByteRate::MAX).ok(),
        audit_runs: AuditRuns::new(AuditRuns::MAX).ok(),
        quiesce: Some(false),
        remarks: remarks(),
        created_at: at(7),
    }
}

/// A completed backup of one disk within a run.
pub fn point(number: u128, run: &BackupRun, disk: &VmDisk) -> anyhow::Result<BackupJob> {
    Ok(BackupJob {
        id: BackupJobId::from_uuid(Uuid::from_u128(number)),
        run: run.id,
        vm: run.vm,
        vm_name: run.vm_name.clone(),
        ordinal: disk.ordinal,
        disk: Some(disk.id),
        disk_key: disk.facts.key.clone(),
        repository: run.repository,
        policy: run.policy,
        backup_type: BackupType::Full,
        capacity: Capacity::new(disk.facts.capacity.bytes())?,
        path: Some(format!("{}/{number}.qcow2", run.vm)),
        parent: None,
        change_id: Some(format!("{}/7", "ü".repeat(253))),
        method: "full".to_owned(),
        method_reason: Some("no completed backup".to_owned()),
        quiescence: Some(Quiescence { quiesced: false, reason: Some("Ж: no tools".to_owned()) }),
        read_by: Some(ReadBy {
            reader: "vddk".to_owned(),
            reason: Some("it is set up".to_owned()),
        }),
        audited: Audited { blocks: 7, bytes: BIG, next: BIG },
        suspicion: None,
        compression: Compression::Zstd(ZstdLevel::new(7)?),
        proof: Some(Proof { source_root: "ab".repeat(32), stored_root: "cd".repeat(32) }),
        bytes: CopyBytes {
            total: BIG,
            done: BIG,
            read: 4096,
            sent: 512,
            again: 128,
            reconnects: 1,
        },
        stored_bytes: 1_000,
        state: JobState::Succeeded { started: at(8), finished: at(9) },
        attempt: Attempt::default().next("the hub was restarted"),
        deleting_since: None,
        version: 0,
        created_at: at(7),
    })
}

/// The same as an incremental that stands on another point.
pub fn standing_on(parent: &BackupJob, number: u128) -> BackupJob {
    BackupJob {
        id: BackupJobId::from_uuid(Uuid::from_u128(number)),
        backup_type: BackupType::Incremental,
        parent: Some(parent.id),
        path: Some(format!("{}/{number}.qcow2", parent.vm)),
        ..parent.clone()
    }
}

/// A VM with two disks, a repository, and a run with a full of each disk.
pub struct BackedUp {
    /// The VM.
    pub vm: VmContext,
    /// Where its images lie.
    pub repository: Repository,
    /// The run.
    pub run: BackupRun,
    /// Its jobs, by ordinal.
    pub jobs: Vec<BackupJob>,
}

/// Stores [`BackedUp`] with ids that follow from a number.
pub async fn back_up(store: &dyn Store, number: u128) -> anyhow::Result<BackedUp> {
    let vm = add_vm(store, number).await?;
    let repository = add_repository(store, number).await?;
    let run = run(number, &vm, &repository);
    let disks = disks(store, vm.id).await?;
    let mut jobs = Vec::new();
    for (place, disk) in (0_u128..).zip(&disks) {
        jobs.push(point(number * 100 + place, &run, disk)?);
    }
    let mut work = store.begin().await?;
    work.insert_backup_run(&run, &jobs).await?;
    work.commit().await?;
    Ok(BackedUp { vm, repository, run, jobs })
}

/// A restore of a point.
pub fn restore(number: u128, point: BackupJobId) -> RestoreJob {
    RestoreJob {
        id: RestoreJobId::from_uuid(Uuid::from_u128(number)),
        point,
        format: RestoreFormat::Vmdk,
        file_name: "Ж, restored.vmdk".to_owned(),
        bytes_total: BIG,
        bytes_done: 4096,
        state: JobState::Queued,
        version: 0,
        created_at: at(10),
    }
}

/// A verification that found one bad run of bytes.
pub fn verification(number: u128, point: BackupJobId) -> Verification {
    Verification {
        id: VerificationId::from_uuid(Uuid::from_u128(number)),
        point,
        scope: VerificationScope::Chain,
        bytes_total: BIG,
        bytes_done: BIG,
        verdicts: vec![PointVerdict {
            point,
            ordinal: 1,
            blocks_checked: 1_000,
            bad_blocks: 1,
            mismatches: vec![Mismatch { offset: 65_536, len: 512, what: "differs".to_owned() }],
            damage: Some("a table is torn".to_owned()),
            suspect: true,
        }],
        state: JobState::Running { started: at(11) },
        version: 0,
        created_at: at(10),
    }
}
