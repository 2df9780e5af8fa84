//! The odd cases of planning, each a few lines.

use chrono::TimeDelta;
use uuid::Uuid;

use super::*;
use crate::capacity::Capacity;
use crate::conditions::VmConditions;
use crate::disk::{DiskFacts, DiskKey, Presence};
use crate::ids::{BackupRunId, VmDiskId};
use crate::job::JobState;
use crate::source::CopyBytes;
use crate::time::Timestamp;
use crate::vm::VmFacts;

fn vm() -> VmContextId {
    VmContextId::from_uuid(Uuid::from_u128(1))
}

fn repository() -> RepositoryId {
    RepositoryId::from_uuid(Uuid::from_u128(2))
}

fn key() -> ChainKey {
    ChainKey { vm: vm(), ordinal: 0, repository: repository() }
}

fn id(number: u128) -> BackupJobId {
    BackupJobId::from_uuid(Uuid::from_u128(number))
}

fn disk(capacity: u64) -> VmDisk {
    VmDisk {
        id: VmDiskId::from_raw(7),
        vm: vm(),
        job: None,
        ordinal: 0,
        facts: DiskFacts {
            key: DiskKey::new("disk-2000").unwrap(),
            label: String::new(),
            vmdk_path: String::new(),
            datastore: String::new(),
            capacity: Capacity::new(capacity).unwrap(),
            provisioning_type: None,
            bus: None,
            unit_number: None,
            backing_uuid: None,
            conditions: Default::default(),
        },
        presence: Presence::Present,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

fn point(number: u32, parent: Option<u32>) -> BackupJob {
    let at = Timestamp::UNIX_EPOCH + TimeDelta::seconds(i64::from(number));
    BackupJob {
        id: id(u128::from(number)),
        run: BackupRunId::from_uuid(Uuid::from_u128(u128::from(number))),
        vm: vm(),
        vm_name: "pgtest1".to_owned(),
        ordinal: 0,
        disk: Some(VmDiskId::from_raw(7)),
        disk_key: DiskKey::new("disk-2000").unwrap(),
        repository: repository(),
        policy: None,
        backup_type: if parent.is_some() { BackupType::Incremental } else { BackupType::Full },
        capacity: Capacity::new(1024).unwrap(),
        path: Some("x.qcow2".to_owned()),
        parent: parent.map(|number| id(u128::from(number))),
        change_id: Some(format!("mark-{number}")),
        method: "full".to_owned(),
        method_reason: None,
        quiescence: None,
        read_by: None,
        audited: Default::default(),
        suspicion: None,
        compression: Default::default(),
        proof: None,
        bytes: CopyBytes::default(),
        stored_bytes: 10,
        state: JobState::Succeeded { started: at, finished: at },
        attempt: Default::default(),
        deleting_since: None,
        version: 1,
        created_at: at,
    }
}

#[test]
fn an_incremental_stands_on_the_latest_point_and_its_mark() {
    let plan = plan_disk_backup(
        BackupType::Incremental,
        &disk(1024),
        &[point(1, None), point(3, Some(2)), point(2, Some(1))],
    );
    assert_eq!(plan.parent, Some(id(3)));
    assert_eq!(plan.method, CopyMethod::ChangedSince { change_id: "mark-3".to_owned() });
}

#[test]
fn no_chain_ends_by_its_length_before_the_audit_has_gone_around() {
    let effective = |asked| audit_runs_in_chain(AuditRuns::new(asked).unwrap()).get().get();
    assert_eq!([1, 7, 62, 63, 64, 100, AuditRuns::MAX].map(effective), [1, 7, 62, 63, 63, 63, 63]);
    let mut points = vec![point(1, None)];
    let mut runs = 0;
    while plan_disk_backup(BackupType::Incremental, &disk(1024), &points).parent.is_some() {
        let next = u32::try_from(points.len()).unwrap() + 1;
        points.push(point(next, Some(next - 1)));
        runs += 1;
    }
    assert_eq!(effective(AuditRuns::MAX), runs, "as many as a chain really takes");
}

/// The audit of a chain asks what an incremental would rely on, and nothing else; its length does not matter to it.
#[test]
fn a_chain_is_audited_where_the_mark_of_its_latest_point_would_be_believed() {
    let calm = Preflight::default();
    let asked = |disk: &VmDisk, points: &[BackupJob]| {
        chain_to_audit(disk, points, &calm).map(|(point, mark)| (point.id, mark))
    };
    let mut long = vec![point(1, None)];
    long.extend((2..=64).map(|number| point(number, Some(number - 1))));
    assert_eq!(asked(&disk(1024), &long), Some((id(64), "mark-64".to_owned())));
    assert_eq!(asked(&disk(1024), &[]), None);
    assert_eq!(asked(&disk(2048), &long), None, "a disk that has grown");
    let change = |change: fn(&mut BackupJob)| {
        let mut points = vec![point(1, None), point(2, Some(1))];
        change(&mut points[1]);
        asked(&disk(1024), &points)
    };
    assert_eq!(change(|_| ()), Some((id(2), "mark-2".to_owned())));
    assert_eq!(change(|it| it.change_id = None), None);
    assert_eq!(change(|it| it.disk = Some(VmDiskId::from_raw(8))), None);
    assert_eq!(change(|it| it.suspicion = Some(suspicion(3))), None, "it is in doubt already");
    let vm = VmFacts {
        conditions: VmConditions { consolidation_needed: Some(true), ..VmConditions::default() },
        ..VmFacts::default()
    };
    let disk = disk(1024);
    let hidden = Preflight::of(&vm, [&disk.facts]);
    assert_eq!(chain_to_audit(&disk, &long, &hidden), None, "its changes may go unseen");
}

/// A lie is about every point after it, whichever of them has the mark.
#[test]
fn a_mark_on_any_point_of_a_chain_ends_it() {
    for marked in 0..3 {
        let mut points = vec![point(1, None), point(2, Some(1)), point(3, Some(2))];
        points[marked].suspicion = Some(suspicion(9));
        let plan = plan_disk_backup(BackupType::Incremental, &disk(1024), &points);
        assert_eq!((plan.backup_type, plan.parent), (BackupType::Full, None), "point {marked}");
        assert!(plan.reason.unwrap().contains("left out changes"));
    }
}

#[test]
fn a_chain_without_a_full_at_its_bottom_is_none() {
    let mut points = vec![point(1, None), point(2, Some(1))];
    points[0].backup_type = BackupType::Incremental;
    assert_eq!(chain_to(&points, id(2)), None);
    let plan = plan_disk_backup(BackupType::Incremental, &disk(1024), &points);
    assert_eq!((plan.backup_type, plan.parent), (BackupType::Full, None));
}

/// What a full has found of the chain before it holds for its own mark: it is the word of the same source.
#[test]
fn the_mark_of_a_full_that_found_a_lie_is_not_believed() {
    let mut points = vec![point(1, None), point(2, None)];
    points[0].suspicion = Some(suspicion(2));
    let plan = plan_disk_backup(BackupType::Incremental, &disk(1024), &points);
    assert_eq!((plan.parent, plan.method), (Some(id(2)), CopyMethod::ByDigest));
    assert!(plan.reason.unwrap().contains("left out changes"));
    points.push(point(3, Some(2)));
    let plan = plan_disk_backup(BackupType::Incremental, &disk(1024), &points);
    assert_eq!(plan.method, CopyMethod::ChangedSince { change_id: "mark-3".to_owned() });
}

fn suspicion(found_by: u128) -> Suspicion {
    let (expected, found) = ("00".repeat(32), "ab".repeat(32));
    let lie = crate::audit::Lie { offset: 0, blocks: 1, expected, found };
    Suspicion { found_by: id(found_by), found_at: Timestamp::UNIX_EPOCH, lie }
}

#[test]
fn trap_d45_a_failed_full_is_no_parent() {
    let mut failed = point(1, None);
    failed.state = JobState::Queued;
    let plan = plan_disk_backup(BackupType::Incremental, &disk(1024), &[failed]);
    assert_eq!(plan.backup_type, BackupType::Full);
    assert!(plan.reason.is_some());
}

#[test]
fn trap_d9_another_disk_under_the_same_ordinal_is_no_parent() {
    let mut other = point(1, None);
    other.disk = Some(VmDiskId::from_raw(8));
    let plan = plan_disk_backup(BackupType::Incremental, &disk(1024), &[other]);
    assert_eq!(plan.backup_type, BackupType::Full);
}

#[test]
fn trap_c22_a_grown_disk_stays_incremental_and_is_read_by_digest() {
    let plan = plan_disk_backup(BackupType::Incremental, &disk(2048), &[point(1, None)]);
    assert_eq!(plan.backup_type, BackupType::Incremental);
    assert_eq!(plan.method, CopyMethod::ByDigest);
}

#[test]
fn a_shrunk_disk_and_a_missing_link_and_a_long_chain_start_anew() {
    let shrunk = plan_disk_backup(BackupType::Incremental, &disk(512), &[point(1, None)]);
    assert_eq!(shrunk.backup_type, BackupType::Full);
    let broken = plan_disk_backup(BackupType::Incremental, &disk(1024), &[point(2, Some(1))]);
    assert_eq!(broken.backup_type, BackupType::Full);
    let mut long = vec![point(1, None)];
    long.extend((2..=64).map(|number| point(number, Some(number - 1))));
    let full = plan_disk_backup(BackupType::Incremental, &disk(1024), &long);
    assert_eq!(full.backup_type, BackupType::Full);
    let short = plan_disk_backup(BackupType::Incremental, &disk(1024), &long[..63]);
    assert_eq!(short.backup_type, BackupType::Incremental);
}

#[test]
fn a_cycle_is_no_chain() {
    assert_eq!(chain_to(&[point(1, Some(2)), point(2, Some(1))], id(2)), None);
}

#[test]
fn p10_a_point_with_children_is_needed() {
    let mut running = point(3, Some(2));
    running.state = JobState::Running { started: Timestamp::UNIX_EPOCH };
    let jobs = [point(1, None), point(2, Some(1)), running];
    assert_eq!(children_of(&jobs, id(1)), [id(2)]);
    assert_eq!(children_of(&jobs, id(2)), [id(3)]);
    assert!(children_of(&jobs, id(3)).is_empty());
}

#[test]
fn trap_d17_the_row_counts_the_current_chain() {
    let points = [point(1, None), point(2, Some(1)), point(3, None), point(4, Some(3))];
    let row = summarise_chain(key(), &points).unwrap();
    assert_eq!((row.full, row.latest, row.count, row.stored_bytes), (id(3), id(4), 2, 20));
    assert_eq!(summarise_chain(key(), &[]), None);
}
