//! What a look at a disk makes of what was known of it.

use hub_block::trail::{self, Step};
use hub_vsphere::{Backing, BackingKind};

use super::*;

fn disk(change_id: Option<&str>, capacity_bytes: u64) -> Disk {
    let backing = Backing {
        kind: BackingKind::Flat,
        file_name: "[store] web/web.vmdk".into(),
        datastore: None,
        uuid: Some("a backing".into()),
        change_id: change_id.map(str::to_owned),
        mode: None,
        sharing: None,
        thin: None,
        eager: None,
        parent: None,
        encrypted: false,
    };
    let label = "Hard disk 1".into();
    Disk {
        key: 2000,
        label,
        capacity_bytes,
        controller: None,
        unit: None,
        backing,
        used_bytes: None,
    }
}

fn look() -> Look {
    Look { tracked: true, ..Look::default() }
}

fn beside() -> Look {
    Look { beside: Some("beside a snapshot".into()), ..look() }
}

fn caught(why: &str) -> Caught {
    let lie = Lie { offset: 65_536, blocks: 2, expected: "0".repeat(64), found: "a".repeat(64) };
    Caught { why: why.to_owned(), change_id: "the mark".to_owned(), lie }
}

fn known(all: &[(Disk, Look)]) -> TrackRecord {
    let empty = TrackRecord::default();
    all.iter().fold(empty, |it, (disk, look)| it.after(std::slice::from_ref(disk), look))
}

/// A disk, whether it is doubted, and whether it is, too, once it was seen as it is now without a snapshot.
#[test]
fn trap_u3_a_doubt_lasts_as_long_as_the_tracking_that_it_is_about() {
    let (a, later, b) = (Some("52 00/3"), Some("52 00/9"), Some("52 01/1"));
    let grown = Look { grown: ["disk-2000".to_owned()].into(), ..look() };
    let off = Look::default();
    for (what, before, now, doubted) in [
        ("seen first beside a snapshot", vec![(disk(a, 1), beside())], disk(later, 1), true),
        ("another since", vec![(disk(a, 1), beside())], disk(b, 1), false),
        ("seen alone first", vec![(disk(a, 1), look())], disk(later, 1), false),
        (
            "alone, then beside",
            vec![(disk(a, 1), look()), (disk(later, 1), beside())],
            disk(later, 1),
            false,
        ),
        ("another, beside", vec![(disk(a, 1), look()), (disk(b, 1), beside())], disk(b, 1), true),
        ("grown", vec![(disk(a, 1), look())], disk(later, 2), true),
        (
            "grown, and seen so",
            vec![(disk(a, 1), look()), (disk(later, 2), look())],
            disk(later, 2),
            true,
        ),
        ("grown and started anew", vec![(disk(a, 1), look())], disk(b, 2), false),
        ("grown since its parent", vec![(disk(a, 2), grown)], disk(later, 2), true),
        ("silent beside a snapshot", vec![(disk(None, 1), beside())], disk(a, 1), true),
        (
            "off and on again, silent beside a snapshot",
            vec![(disk(a, 1), look()), (disk(None, 1), off.clone()), (disk(None, 1), beside())],
            disk(b, 1),
            true,
        ),
        (
            "silent, then heard",
            vec![(disk(None, 1), beside()), (disk(a, 1), look())],
            disk(later, 1),
            true,
        ),
        (
            "silent, then another",
            vec![(disk(None, 1), beside()), (disk(a, 1), look())],
            disk(b, 1),
            false,
        ),
        (
            "silent, then off",
            vec![(disk(None, 1), beside()), (disk(a, 1), off.clone())],
            disk(later, 1),
            false,
        ),
        (
            "doubted, then off",
            vec![(disk(a, 1), beside()), (disk(None, 1), off)],
            disk(later, 1),
            true,
        ),
        ("shrunk", vec![(disk(a, 2), look())], disk(later, 1), true),
        (
            "silent beside, and not tracked at all",
            vec![(disk(None, 1), Look { tracked: false, ..beside() })],
            disk(a, 1),
            false,
        ),
        ("never seen", vec![], disk(a, 1), false),
    ] {
        let after = known(&before).after(std::slice::from_ref(&now), &look());
        assert_eq!(after.doubt(&now).is_some(), doubted, "{what}: {after:?}");
    }
}

#[test]
fn a_doubt_is_durable_and_of_one_vm_of_one_vcenter() {
    let place = tempfile::tempdir().unwrap();
    let records = TrackRecords::open(place.path()).unwrap();
    let now = disk(Some("52 00/3"), 1);
    let record = records.of("vc-1", "web");
    assert_eq!(record.doubt(&now), None);
    let doubted =
        record.after(std::slice::from_ref(&now), &look()).doubted(&now, &caught(&"ä".repeat(900)));
    records.keep(doubted.clone()).unwrap();
    let again = TrackRecords::open(place.path()).unwrap();
    assert_eq!(again.of("vc-1", "web"), doubted);
    assert_eq!(again.of("vc-1", "web").doubt(&now), Some("ä".repeat(MAX_DOUBT).as_str()));
    for (source, vm) in [("vc-2", "web"), ("vc-1", "mail")] {
        assert_eq!(again.of(source, vm).doubt(&now), None);
    }
    // A disk that is gone leaves nothing.
    assert_eq!(doubted.after(&[], &look()).disks.len(), 0);
}

#[test]
fn a_record_that_cannot_be_read_or_written_is_no_empty_one() {
    let place = tempfile::tempdir().unwrap();
    let records = TrackRecords::open(place.path()).unwrap();
    fs::write(place.path().join(DIRECTORY).join("x.json"), "{").unwrap();
    assert!(TrackRecords::open(place.path()).is_err());
    fs::remove_dir_all(place.path()).unwrap();
    let now = disk(Some("52 00/3"), 1);
    records.keep(records.of("vc-1", "web").doubted(&now, &caught("why"))).unwrap_err();
    assert_eq!(records.of("vc-1", "web").doubt(&now), None, "nothing is known that is not on disk");
}

/// Nobody is told of a lie but who asked; he asks again with the same mark, whatever became of the tracking.
#[test]
fn trap_u36_what_was_found_outlives_the_tracking_and_is_about_one_mark() {
    let place = tempfile::tempdir().unwrap();
    let records = TrackRecords::open(place.path()).unwrap();
    let first = disk(Some("52 00/3"), 1);
    records.doubt(&records.of("vc-1", "web"), &first, &caught("why")).unwrap();
    let records = TrackRecords::open(place.path()).unwrap();
    let mut record = records.of("vc-1", "web");
    for (now, doubted) in [
        (disk(Some("52 00/9"), 1), true),
        (disk(None, 1), false),
        (disk(Some("52 01/1"), 1), false),
    ] {
        record = record.after(std::slice::from_ref(&now), &look());
        assert_eq!(record.doubt(&now).is_some(), doubted);
        assert_eq!(record.caught(&now, "the mark"), Some(&caught("why").lie));
        assert_eq!(record.caught(&now, "another"), None);
    }
}

/// Also for who asks before it has looked.
#[test]
fn a_doubt_is_told_of_its_own_tracking_and_of_no_other() {
    let (a, b) = (disk(Some("52 00/3"), 1), disk(Some("52 01/1"), 1));
    let doubted = TrackRecord::default().doubted(&a, &caught("why"));
    assert_eq!((doubted.doubt(&a), doubted.doubt(&b)), (Some("why"), None));
    assert_eq!(doubted.doubt(&disk(None, 1)), None, "it tells of no tracking");
    assert_eq!(doubted.after(std::slice::from_ref(&b), &look()).doubt(&b), None);
    let silent = known(&[(disk(None, 1), beside())]);
    assert!(silent.doubt(&a).is_some(), "it is the one that is heard next");
}

#[test]
fn a_doubt_follows_its_disk_to_another_key_and_stays_with_no_other_disk() {
    let a = disk(Some("52 00/3"), 1);
    let doubted = known(&[(a.clone(), beside())]);
    let moved = Disk { key: 2001, ..a.clone() };
    let mut other = a;
    other.backing.uuid = Some("another backing".into());
    let after = doubted.after(&[moved.clone(), other.clone()], &look());
    assert!(after.doubt(&moved).is_some());
    assert_eq!(after.doubt(&other), None);
}

#[test]
fn a_reason_is_kept_in_a_bounded_length_wherever_it_comes_from() {
    let why = Look { beside: Some("ä".repeat(900)), ..look() };
    for seen in [disk(None, 1), disk(Some("52 00/3"), 1)] {
        let kept = known(&[(seen, why.clone())]);
        let doubt = kept.disks.values().next().and_then(|it| it.doubt.clone()).unwrap();
        assert_eq!(doubt.chars().count(), MAX_DOUBT);
    }
}

/// Each VM of each vCenter has a file of its own, and what a write has left behind is none.
#[test]
fn records_are_kept_apart_and_read_again_together() {
    let place = tempfile::tempdir().unwrap();
    let trail = trail::follow(place.path());
    let records = TrackRecords::open(place.path()).unwrap();
    let synced =
        |step: &Step| matches!(step, Step::DirectorySynced { path } if path == place.path());
    assert!(trail.steps().iter().any(|(_, it)| synced(it)), "the directory has its name durably");
    let now = disk(Some("52 00/3"), 1);
    let all = [("vc-1", "web"), ("vc-1", "mail"), ("vc-2", "web")];
    for (source, vm) in all {
        let why = caught(&format!("{source} {vm}"));
        records.keep(records.of(source, vm).doubted(&now, &why)).unwrap();
    }
    let directory = place.path().join(DIRECTORY);
    fs::write(directory.join("cut off.new"), "{").unwrap();
    let again = TrackRecords::open(place.path()).unwrap();
    for (source, vm) in all {
        let why = format!("{source} {vm}");
        assert_eq!(again.of(source, vm).doubt(&now), Some(why.as_str()));
        assert_eq!(records.of(source, vm).doubt(&now), Some(why.as_str()));
    }
    let long = fs::File::create(directory.join("long.json")).unwrap();
    long.set_len(MAX_RECORD + 1).unwrap();
    let error = TrackRecords::open(place.path()).err().unwrap().to_string();
    assert!(error.contains(DIRECTORY), "{error}");
    let source = "a record is too long";
    assert!(read(&directory).unwrap_err().to_string().contains(source));
}
