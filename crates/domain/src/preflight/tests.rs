//! Each concern by the condition that raises it, and by none other.

use std::collections::BTreeSet;

use super::*;
use crate::capacity::Capacity;
use crate::conditions::{DiskConditions, VmConditions, VmSnapshot};

fn key(text: &str) -> DiskKey {
    DiskKey::new(text).unwrap()
}

fn disk(conditions: DiskConditions) -> DiskFacts {
    DiskFacts {
        key: key("disk-2000"),
        backing_uuid: None,
        label: String::new(),
        vmdk_path: String::new(),
        datastore: String::new(),
        capacity: Capacity::new(512).unwrap(),
        provisioning_type: None,
        bus: None,
        unit_number: None,
        conditions,
    }
}

/// A VM that nothing speaks against.
fn good() -> (VmFacts, DiskFacts) {
    let conditions = VmConditions {
        hardware_version: Some("vmx-19".to_owned()),
        template: Some(false),
        snapshots: Some(Vec::new()),
        tracking_supported: Some(true),
        tracking_enabled: Some(true),
        consolidation_needed: Some(false),
        encrypted: Some(false),
        fault_tolerance: Some("notConfigured".to_owned()),
        connection: Some("connected".to_owned()),
        tools: Some("guestToolsRunning".to_owned()),
        quiesced: Some(true),
        reads_snapshots: Some(false),
        refusal: None,
        networks: Vec::new(),
    };
    let of_disk = DiskConditions {
        mode: Some("persistent".to_owned()),
        sharing: Some("none".to_owned()),
        rdm: Some("none".to_owned()),
        has_change_id: Some(true),
        reader: Some("https".to_owned()),
        ..DiskConditions::default()
    };
    let power_state = Some("poweredOn".to_owned());
    (VmFacts { conditions, power_state, ..VmFacts::default() }, disk(of_disk))
}

fn snapshot(name: &str) -> VmSnapshot {
    VmSnapshot {
        id: name.to_owned(),
        name: name.to_owned(),
        created: None,
        parent: None,
        quiesced: None,
    }
}

/// The kinds found when something of the good VM is another.
fn kinds(change: impl FnOnce(&mut VmConditions, &mut DiskConditions)) -> Vec<ConcernKind> {
    let (mut vm, mut disk) = good();
    change(&mut vm.conditions, &mut disk.conditions);
    Preflight::of(&vm, [&disk]).concerns.into_iter().map(|it| it.kind).collect()
}

#[test]
fn nothing_speaks_against_a_plain_vm_or_one_whose_source_says_nothing() {
    assert_eq!(kinds(|_, _| ()), []);
    assert_eq!(
        kinds(|vm, disk| (*vm, *disk) = (VmConditions::default(), DiskConditions::default())),
        []
    );
    // A folder says its hardware version and nothing else.
    let old = |vm: &mut VmConditions, _: &mut DiskConditions| {
        *vm =
            VmConditions { hardware_version: Some("vmx-4".to_owned()), ..VmConditions::default() };
    };
    assert_eq!(kinds(old), []);
}

#[test]
fn each_condition_of_a_vm_is_its_own_concern() {
    use ConcernKind as Kind;
    assert_eq!(kinds(|vm, _| vm.template = Some(true)), [Kind::Template]);
    assert_eq!(kinds(|vm, _| vm.encrypted = Some(true)), [Kind::Encrypted]);
    let running = |vm: &mut VmConditions| vm.fault_tolerance = Some("a new word".to_owned());
    assert_eq!(kinds(|vm, _| running(vm)), [Kind::FaultTolerance]);
    assert_eq!(kinds(|vm, _| vm.consolidation_needed = Some(true)), [Kind::ConsolidationNeeded]);
    assert_eq!(kinds(|vm, _| vm.tracking_supported = Some(false)), [Kind::TrackingNotSupported]);
    assert_eq!(kinds(|vm, _| vm.tracking_enabled = Some(false)), [Kind::TrackingOff]);
    let old = |vm: &mut VmConditions| vm.hardware_version = Some("vmx-04".to_owned());
    assert_eq!(kinds(|vm, _| old(vm)), [Kind::HardwareVersion]);
    let (vm, _) = good();
    let none = Preflight::of(&vm, []);
    assert_eq!(none.vm_blocked().map(Concern::code), Some("preflight/no-disks"));
}

#[test]
fn snapshots_of_others_warn_and_keep_tracking_from_being_switched_on() {
    use ConcernKind as Kind;
    let four = || Some(["a", "b", "c", "d"].map(snapshot).to_vec());
    for reads in [Some(true), None] {
        let found = |enabled| {
            kinds(|vm, _| {
                vm.snapshots = four();
                (vm.tracking_enabled, vm.reads_snapshots) = (Some(enabled), reads);
            })
        };
        assert_eq!(found(true), [Kind::SnapshotsExist]);
        assert_eq!(found(false), [Kind::SnapshotsForbidTracking, Kind::TrackingOff]);
    }
    let (mut vm, disk) = good();
    vm.conditions.snapshots = four();
    vm.conditions.reads_snapshots = Some(true);
    let detail = &Preflight::of(&vm, [&disk]).concerns[0].detail;
    assert_eq!(detail, "it has snapshots already: a, b, c, 1 more");
}

/// What is asked of the reader here fails its job in any case, so that the job must not begin.
#[test]
fn a_reader_without_deltas_is_blocked_by_snapshots_of_others_and_not_by_ours() {
    let some = |name: &'static str| kinds(|vm, _| vm.snapshots = Some(vec![snapshot(name)]));
    assert_eq!(some("before the update"), [ConcernKind::SnapshotsForbidReading]);
    assert_eq!(some("sendense-hub job 7"), []);
    let (mut vm, disk) = good();
    vm.conditions.snapshots = Some(["sendense-hub job 7", "theirs"].map(snapshot).to_vec());
    let found = Preflight::of(&vm, [&disk]);
    let blocked = found.vm_blocked().unwrap();
    assert_eq!(blocked.detail, "it has snapshots already: theirs");
    assert!(blocked.sentence().contains("VDDK"), "{}", blocked.sentence());
}

#[test]
fn what_the_reader_refuses_is_blocked_once_with_its_reason() {
    use ConcernKind as Kind;
    let refused = |change: fn(&mut DiskConditions)| {
        kinds(|_, disk| {
            disk.refusal = Some("its file is sparse".to_owned());
            change(disk);
        })
    };
    assert_eq!(refused(|_| ()), [Kind::ReaderCannot]);
    assert_eq!(refused(|disk| disk.has_change_id = Some(false)), [Kind::ReaderCannot]);
    assert_eq!(refused(|disk| disk.rdm = Some("virtual".to_owned())), [Kind::ReaderCannot]);
    assert_eq!(refused(|disk| disk.rdm = Some("physical".to_owned())), [Kind::PhysicalRdm]);
    let (vm, mut disk) = good();
    disk.conditions.refusal = Some("its file is sparse".to_owned());
    let found = Preflight::of(&vm, [&disk]);
    let detail = &found.disk_blocked(&disk.key).unwrap().detail;
    assert_eq!(detail, "disk disk-2000 cannot be read by https: its file is sparse");
    let unseen = |vm: &mut VmConditions| vm.refusal = Some("no datacenter".to_owned());
    assert_eq!(kinds(|vm, _| unseen(vm)), [Kind::ReaderCannot]);
}

#[test]
fn a_host_that_is_lost_blocks_and_tools_that_do_not_run_warn_where_they_are_needed() {
    use ConcernKind as Kind;
    for state in ["disconnected", "inaccessible", "orphaned", "invalid", "a new word"] {
        let found = kinds(|vm, _| vm.connection = Some(state.to_owned()));
        assert_eq!(found, [Kind::HostDisconnected], "{state}");
    }
    let idle = |vm: &mut VmConditions| vm.tools = Some("guestToolsNotRunning".to_owned());
    assert_eq!(kinds(|vm, _| idle(vm)), [Kind::CannotQuiesce]);
    let not_asked = kinds(|vm, _| {
        idle(vm);
        vm.quiesced = Some(false);
    });
    assert_eq!(not_asked, []);
    let (mut off, disk) = good();
    idle(&mut off.conditions);
    off.power_state = Some("poweredOff".to_owned());
    assert_eq!(Preflight::of(&off, [&disk]).concerns, [], "a guest that is off is at rest");
}

#[test]
fn nobody_is_told_to_remove_a_snapshot_that_a_job_of_ours_has_taken() {
    use ConcernKind as Kind;
    let run = "sendense-hub job 01a20a0e-3d19-70f6-a6d5-cc66298a7736-2";
    for tracked in [true, false] {
        let found = |names: &[&str]| {
            kinds(|vm, _| {
                vm.snapshots = Some(names.iter().copied().map(snapshot).collect());
                vm.tracking_enabled = Some(tracked);
            })
        };
        assert_eq!(found(&[run]), found(&[]), "tracked: {tracked}");
        for theirs in ["sendense-hub job", "sendense-hub job ", "sendense-hub job of mine", "x"] {
            assert_eq!(found(&[run, theirs]), found(&[theirs]));
            assert_ne!(found(&[theirs]), found(&[]), "{theirs}");
        }
    }
    let (mut vm, disk) = good();
    vm.conditions.snapshots = Some([run, "theirs"].map(snapshot).to_vec());
    vm.conditions.reads_snapshots = Some(true);
    let said = Preflight::of(&vm, [&disk]);
    assert_eq!(said.concerns[0].kind, Kind::SnapshotsExist);
    assert_eq!(said.concerns[0].detail, "it has snapshots already: theirs");
}

#[test]
fn each_condition_of_a_disk_is_its_own_concern() {
    use ConcernKind as Kind;
    let mode = |word: &'static str| kinds(|_, disk| disk.mode = Some(word.to_owned()));
    assert_eq!(mode("independent_persistent"), [Kind::IndependentDisk]);
    assert_eq!(mode("independent_nonpersistent"), [Kind::IndependentDisk]);
    assert_eq!(mode("nonpersistent"), [Kind::NonpersistentDisk]);
    assert_eq!(mode("a new word"), []);
    let rdm = |word: &'static str| kinds(|_, disk| disk.rdm = Some(word.to_owned()));
    assert_eq!(rdm("physical"), [Kind::PhysicalRdm]);
    assert_eq!(rdm("virtual"), [Kind::VirtualRdm]);
    let shared = |word: &'static str| kinds(|_, disk| disk.sharing = Some(word.to_owned()));
    for word in ["multi_writer", "virtual_bus", "physical_bus"] {
        assert_eq!(shared(word), [Kind::SharedDisk]);
    }
}

/// Trap U8: tracking that is set begins with the next snapshot or power cycle, and until then it tells nothing.
#[test]
fn trap_u8_tracking_that_is_set_and_not_active_is_a_full_read_with_a_remedy() {
    let (vm, mut disk) = good();
    disk.conditions.has_change_id = Some(false);
    let found = Preflight::of(&vm, [&disk]);
    assert!(found.vm_blocked().is_none() && found.disk_blocked(&disk.key).is_none());
    let concern = found.full_read(&disk.key).unwrap();
    assert_eq!(concern.code(), "preflight/tracking-not-active");
    assert!(concern.kind.remedy().contains("snapshot"), "{}", concern.kind.remedy());
    // Where tracking is off, no disk tells anything, and that is the one thing to say.
    let off = |vm: &mut VmConditions, disk: &mut DiskConditions| {
        (vm.tracking_enabled, disk.has_change_id) = (Some(false), Some(false));
    };
    assert_eq!(kinds(off), [ConcernKind::TrackingOff]);
}

/// Trap C24: what cannot be tracked is not waited for.
#[test]
fn trap_c24_a_disk_that_is_left_out_does_not_make_the_others_doubtful() {
    let (vm, good) = good();
    let mut left_out = good.clone();
    left_out.key = key("disk-2001");
    left_out.conditions.mode = Some("independent_persistent".to_owned());
    left_out.conditions.has_change_id = Some(false);
    let found = Preflight::of(&vm, [&good, &left_out]);
    assert_eq!(found.vm_blocked(), None);
    assert_eq!((found.disk_blocked(&good.key), found.full_read(&good.key)), (None, None));
    let blocked = found.disk_blocked(&left_out.key).unwrap();
    assert_eq!(blocked.code(), "preflight/independent-disk");
    assert!(blocked.sentence().contains("disk-2001"), "{}", blocked.sentence());
    assert_eq!(found.full_read(&left_out.key), None);
}

#[test]
fn a_doubt_about_the_vm_is_one_about_each_disk() {
    let (mut vm, disk) = good();
    vm.conditions.consolidation_needed = Some(true);
    let found = Preflight::of(&vm, [&disk]);
    let code = found.full_read(&disk.key).map(Concern::code);
    assert_eq!(code, Some("preflight/consolidation-needed"));
}

#[test]
fn every_concern_has_a_code_of_its_own_and_says_what_to_do() {
    let codes: BTreeSet<&str> = ConcernKind::ALL.into_iter().map(ConcernKind::code).collect();
    assert_eq!(codes.len(), ConcernKind::ALL.len());
    for kind in ConcernKind::ALL {
        assert!(!kind.remedy().is_empty() && !kind.remedy().ends_with('.'), "{kind:?}");
        let blocks = kind.effect() == Effect::Blocked;
        assert_eq!(blocks, kind.severity() == Severity::Error, "{kind:?}");
    }
}
