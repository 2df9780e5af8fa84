//! What is taken over of a report, and what is not believed.

use hub_domain::capacity::Capacity;
use hub_domain::source::{OrderedDisk, PreparedTarget};
use hub_ports::CopyKind;

use super::*;

fn report(change: impl FnOnce(&mut wire::DiskReport)) -> wire::CopyReport {
    let mut disk = wire::DiskReport {
        key: "disk-2000".to_owned(),
        state: wire::CopyState::Succeeded,
        method: "full".to_owned(),
        method_reason: None,
        reader: None,
        reader_reason: None,
        bytes_total: 1024,
        bytes_done: 1024,
        bytes_read: 512,
        bytes_sent: 512,
        bytes_sent_again: 256,
        reconnects: 1,
        held_back_ms: 0,
        audit: None,
        change_id: Some("mark".to_owned()),
        source_root: Some("ab".repeat(32)),
        error: None,
    };
    change(&mut disk);
    let state = disk.state;
    wire::CopyReport {
        job_id: "job".to_owned(),
        state,
        waiting: None,
        disks: vec![disk],
        error: None,
        snapshot: None,
    }
}

#[test]
fn trap_d8_an_order_names_the_disk_behind_its_key_where_that_is_known() {
    for known in [None, Some("6000c29".to_owned())] {
        let (host, export) = ("hub".to_owned(), "e".to_owned());
        let target = PreparedTarget {
            address: NbdAddress { host, port: 1, export, tls: None },
            path: "p".to_owned(),
            block_size: 65_536,
            parent: None,
            no_parent_reason: None,
            kept_bytes: None,
        };
        let disk = OrderedDisk {
            key: DiskKey::new("disk-2000").unwrap(),
            capacity: Capacity::new(512).unwrap(),
            backing_uuid: known.clone(),
            method: CopyMethod::Full,
            target,
            audit: None,
            chain_audit: None,
        };
        let order = CopyOrder {
            kind: CopyKind::Backup,
            job: "job".to_owned(),
            vm: "vm".to_owned(),
            vcenter_uuid: None,
            credential: None,
            disks: vec![disk],
            quiesce: None,
            rates: Default::default(),
        };
        assert_eq!(order_to_wire(&order).disks[0].backing_uuid, known);
    }
}

#[test]
fn a_good_report_is_taken_over() {
    let status = status_from_wire(report(|disk| disk.audit = Some(audit(|_| ())))).unwrap();
    let (audited, lie) = status.disks[0].audit.clone().unwrap();
    assert_eq!((audited.blocks, audited.bytes, audited.next), (1, 512, 1024));
    assert_eq!(lie.unwrap().offset, 512);
    assert_eq!(status.phase, CopyPhase::Succeeded);
    assert_eq!(status.disks[0].key.as_str(), "disk-2000");
    assert_eq!(
        status.disks[0].bytes,
        CopyBytes { total: 1024, done: 1024, read: 512, sent: 512, again: 256, reconnects: 1 }
    );
    assert_eq!(status.disks[0].change_id.as_deref(), Some("mark"));
}

#[test]
fn a_mark_that_no_catalogue_can_hold_is_none_and_the_copy_is_good() {
    let told = |mark: String| {
        let status = status_from_wire(report(|disk| disk.change_id = Some(mark))).unwrap();
        assert_eq!(status.phase, CopyPhase::Succeeded);
        status.disks[0].change_id.clone()
    };
    assert_eq!(told("ü".repeat(255)), Some("ü".repeat(255)));
    assert_eq!(told("x".repeat(256)), None);
    assert_eq!(told("a\0".to_owned()), None);
}

#[test]
fn only_a_last_word_about_its_snapshot_is_believed() {
    let told = |state: wire::CopyState, left: Option<&str>| {
        let mut report = report(|_| ());
        report.state = state;
        report.snapshot = left.map(|left| wire::SnapshotReport {
            state: left.to_owned(),
            ..wire::SnapshotReport::default()
        });
        status_from_wire(report).unwrap().snapshot_is_gone
    };
    for state in [wire::CopyState::Succeeded, wire::CopyState::Failed] {
        assert!(told(state, Some("removed")) && told(state, Some("none")));
        for not_gone in [None, Some("owed"), Some("present"), Some("Removed"), Some("")] {
            assert!(!told(state, not_gone), "{not_gone:?}");
        }
    }
    assert!(!told(wire::CopyState::Running, Some("none")), "it may be taken yet");
}

#[test]
fn whether_the_guest_came_to_rest_is_told_with_its_own_reason() {
    let told = |state: &str, quiesced: Option<bool>, why: Option<&str>| {
        let snapshot = wire::SnapshotReport {
            state: state.to_owned(),
            quiesced,
            quiesce_reason: why.map(str::to_owned),
            reason: Some("it could not be removed".to_owned()),
            ..wire::SnapshotReport::default()
        };
        let report = wire::CopyReport { snapshot: Some(snapshot), ..report(|_| ()) };
        status_from_wire(report).unwrap().quiescence
    };
    let expected = |quiesced, reason: Option<&str>| {
        Some(Quiescence { quiesced, reason: reason.map(str::to_owned) })
    };
    let why = Some("no tools in the guest");
    for state in ["present", "removed", "owed"] {
        assert_eq!(told(state, Some(true), None), expected(true, None));
        assert_eq!(told(state, Some(true), why), expected(true, None));
        assert_eq!(told(state, Some(false), why), expected(false, why));
        assert_eq!(told(state, Some(false), None), expected(false, None));
    }
    assert_eq!(told("none", None, why), None);
    assert_eq!(status_from_wire(report(|_| ())).unwrap().quiescence, None);
    let long = "\0y".repeat(100_000);
    let cut = told("present", Some(false), Some(&long)).unwrap().reason.unwrap();
    assert_eq!(cut, "y".repeat(2000), "it is stored with every point");
}

#[test]
fn what_a_copy_waits_for_is_told_until_it_has_ended() {
    let told = |state: wire::CopyState, waiting: &str| {
        let waiting = Some(waiting.to_owned());
        status_from_wire(wire::CopyReport { state, waiting, ..report(|_| ()) }).unwrap().waiting
    };
    let place = "waits for a place at host a";
    for state in [wire::CopyState::Queued, wire::CopyState::Running] {
        assert_eq!(told(state, place).as_deref(), Some(place));
        assert_eq!(told(state, &"y".repeat(9_000)).map(|it| it.len()), Some(2000));
    }
    assert_eq!(told(wire::CopyState::Failed, place), None);
}

#[test]
fn the_way_to_a_disk_is_kept_short() {
    let read_by = |reader: &str, reason: Option<&str>| {
        let report = report(|disk| {
            disk.reader = Some(reader.to_owned());
            disk.reader_reason = reason.map(str::to_owned);
        });
        status_from_wire(report).unwrap().disks.remove(0).read_by.unwrap()
    };
    let told = read_by("vddk", Some("VDDK is set up"));
    assert_eq!((told.reader.as_str(), told.reason.as_deref()), ("vddk", Some("VDDK is set up")));
    let told = read_by(&"v\0".repeat(9_000), Some(&"y".repeat(9_000)));
    assert_eq!((told.reader, told.reason.map(|it| it.len())), ("v".repeat(100), Some(2000)));
    assert_eq!(read_by("https", None).reason, None);
    assert_eq!(status_from_wire(report(|_| ())).unwrap().disks[0].read_by, None);
}

fn audit(change: impl FnOnce(&mut wire::AuditReport)) -> wire::AuditReport {
    let (expected, found) = ("00".repeat(32), "ab".repeat(32));
    let lie = Some(wire::Lie { offset: 512, blocks: 1, expected, found });
    let mut audit = wire::AuditReport { blocks: 1, bytes: 512, next: 1024, lie };
    change(&mut audit);
    audit
}

fn change(audit: &mut wire::AuditReport, change: impl FnMut(&mut wire::Lie)) {
    audit.lie.iter_mut().for_each(change);
}

type Break = (&'static str, fn(&mut wire::DiskReport));

#[test]
fn nothing_out_of_bounds_is_believed() {
    let breaks: [Break; 9] = [
        ("beyond reason", |disk| disk.bytes_read = u64::MAX),
        ("no digest", |disk| disk.source_root = Some("x".repeat(64))),
        ("without a root", |disk| disk.source_root = None),
        ("unknown to this hub", |disk| disk.method = "magic".to_owned()),
        ("empty", |disk| disk.key = " ".to_owned()),
        ("beyond reason", |disk| disk.audit = Some(audit(|it| it.next = u64::MAX))),
        ("no change", |disk| disk.audit = Some(audit(|it| change(it, |lie| lie.blocks = 0)))),
        ("no change", |disk| disk.audit = Some(audit(|it| change(it, |lie| lie.found.clear())))),
        ("relies on", |disk| {
            disk.method = "changed_since".to_owned();
            disk.audit = Some(audit(|_| ()));
        }),
    ];
    for (expected, change) in breaks {
        let error = status_from_wire(report(change)).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn trap_d11_a_report_names_each_disk_once() {
    let mut twice = report(|_| ());
    twice.disks.push(twice.disks[0].clone());
    assert!(status_from_wire(twice).unwrap_err().contains("twice"));
}

#[test]
fn a_long_fault_is_cut() {
    let mut failed = report(|disk| disk.state = wire::CopyState::Failed);
    failed.error = Some(wire::Fault { code: "source/x".to_owned(), detail: "y".repeat(100_000) });
    let status = status_from_wire(failed).unwrap();
    assert_eq!(status.fault.map(|fault| fault.detail.len()), Some(2000));
}
