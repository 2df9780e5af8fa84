//! Disks that stay, grow, move, go, come back, and are replaced.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::capacity::Capacity;
use crate::conditions::DiskConditions;
use crate::disk::DiskKey;
use crate::ids::VmDiskId;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn vm() -> VmContextId {
    VmContextId::from_uuid(Uuid::from_u128(1))
}

fn facts(key: &str, bytes: u64) -> DiskFacts {
    DiskFacts {
        key: DiskKey::new(key).unwrap(),
        backing_uuid: None,
        label: "Hard disk".to_owned(),
        vmdk_path: String::new(),
        datastore: String::new(),
        capacity: Capacity::new(bytes).unwrap(),
        provisioning_type: None,
        bus: None,
        unit_number: None,
        conditions: DiskConditions::default(),
    }
}

fn backed(key: &str, uuid: &str) -> DiskFacts {
    DiskFacts { backing_uuid: Some(uuid.to_owned()), ..facts(key, 512) }
}

fn stored(id: i64, ordinal: u32, facts: DiskFacts) -> VmDisk {
    VmDisk {
        id: VmDiskId::from_raw(id),
        vm: vm(),
        job: None,
        ordinal,
        facts,
        presence: Presence::Present,
        created_at: NOW,
        updated_at: NOW,
    }
}

fn plan(known: &[VmDisk], seen: &[DiskFacts]) -> DiskSync {
    plan_disk_sync(vm(), known, seen, NOW)
}

fn ids(disks: &[VmDisk]) -> Vec<i64> {
    disks.iter().map(|disk| disk.id.as_raw()).collect()
}

#[test]
fn new_disks_get_ordinals_in_the_order_seen() {
    let sync = plan(&[], &[facts("disk-2000", 512), facts("disk-2001", 512)]);
    let ordinals: Vec<u32> = sync.add.iter().map(|disk| disk.ordinal).collect();
    assert_eq!(ordinals, [0, 1]);
    assert!(sync.update.is_empty() && sync.retire.is_empty());
}

#[test]
fn an_unchanged_vm_needs_no_write() {
    let known = [stored(1, 0, facts("disk-2000", 512)), stored(2, 1, backed("disk-2001", "a"))];
    assert!(plan(&known, &[facts("disk-2000", 512), backed("disk-2001", "a")]).is_empty());
    // A source that says less than before has not changed anything either.
    assert!(plan(&known, &[facts("disk-2000", 512), facts("disk-2001", 512)]).is_empty());
}

#[test]
fn trap_d8_a_disk_keeps_its_row_and_no_ordinal_is_used_twice() {
    let known = [stored(1, 0, facts("disk-2000", 512)), stored(2, 1, facts("disk-2001", 512))];
    let sync = plan(&known, &[facts("disk-2001", 1024), facts("disk-2002", 512)]);
    assert_eq!(ids(&sync.update), [2]);
    assert_eq!(sync.update[0].ordinal, 1);
    assert_eq!(sync.add[0].ordinal, 2);
    assert_eq!(ids(&sync.retire), [1]);
}

#[test]
fn a_retired_disk_that_comes_back_is_the_same_row() {
    let mut gone = stored(1, 0, facts("disk-2000", 512));
    gone.presence = Presence::Retired;
    let sync = plan(std::slice::from_ref(&gone), &[facts("disk-2000", 512)]);
    assert_eq!(sync.update[0].presence, Presence::Present);
    assert!(plan(&[gone], &[]).is_empty());
}

#[test]
fn trap_d8_a_key_that_another_backing_has_taken_is_another_disk_s() {
    let known = [stored(1, 0, backed("disk-2000", "old"))];
    let sync = plan(&known, &[backed("disk-2000", "new")]);
    assert_eq!(ids(&sync.retire), [1]);
    assert_eq!(sync.retire[0].facts, known[0].facts);
    assert_eq!((sync.add.len(), sync.add[0].ordinal), (1, 1));
    assert!(sync.update.is_empty());
}

#[test]
fn disks_that_swap_their_keys_keep_their_rows() {
    let known = [stored(1, 0, backed("disk-2000", "a")), stored(2, 1, backed("disk-2001", "b"))];
    let sync = plan(&known, &[backed("disk-2000", "b"), backed("disk-2001", "a")]);
    assert_eq!(ids(&sync.update), [2, 1]);
    assert!(sync.add.is_empty() && sync.retire.is_empty());
}

#[test]
fn a_backing_is_adopted_by_key_and_kept_where_it_is_not_said_again() {
    let known = [stored(1, 0, facts("disk-2000", 512))];
    let adopted = plan(&known, &[backed("disk-2000", "a")]);
    assert_eq!(adopted.update[0].facts.backing_uuid.as_deref(), Some("a"));
    let grown = plan(&adopted.update, &[facts("disk-2000", 1024)]);
    assert_eq!(grown.update[0].facts.backing_uuid.as_deref(), Some("a"));
}

#[test]
fn a_backing_that_two_disks_share_moves_neither() {
    let known = [stored(1, 0, backed("disk-2000", "a")), stored(2, 1, backed("disk-2001", "a"))];
    assert!(plan(&known, &[backed("disk-2000", "a"), backed("disk-2001", "a")]).is_empty());
    let sync = plan(&known, &[backed("disk-2005", "a")]);
    assert_eq!((sync.add.len(), sync.retire.len()), (1, 2));
}

#[test]
fn a_disk_that_comes_back_under_another_key_is_the_same_row() {
    let mut gone = stored(1, 0, backed("disk-2000", "a"));
    gone.presence = Presence::Retired;
    let known = [gone, stored(2, 1, backed("disk-2000", "b"))];
    let sync = plan(&known, &[backed("disk-2000", "b"), backed("disk-2001", "a")]);
    assert_eq!(ids(&sync.update), [1]);
    assert!(sync.add.is_empty() && sync.retire.is_empty());
}

#[test]
fn trap_d8_a_retired_disk_of_unknown_backing_is_not_whatever_has_its_key_now() {
    let mut gone = stored(1, 0, facts("disk-2000", 512));
    gone.presence = Presence::Retired;
    let sync = plan(std::slice::from_ref(&gone), &[backed("disk-2000", "new")]);
    assert_eq!((sync.add.len(), sync.add[0].ordinal), (1, 1));
    assert!(sync.update.is_empty());
    gone.facts = backed("disk-2000", "old");
    let sync = plan(&[gone], &[facts("disk-2000", 512)]);
    assert_eq!((sync.add.len(), sync.update.len()), (1, 0));
}

#[test]
fn a_backing_that_two_retired_disks_share_brings_back_neither() {
    let mut both = [stored(1, 0, backed("disk-2000", "a")), stored(2, 1, backed("disk-2001", "a"))];
    both.iter_mut().for_each(|disk| disk.presence = Presence::Retired);
    let sync = plan(&both, &[backed("disk-2005", "a")]);
    assert_eq!((sync.add.len(), sync.update.len()), (1, 0));
    // In its own place each is itself.
    assert_eq!(ids(&plan(&both, &[backed("disk-2000", "a")]).update), [1]);
}

/// What the catalogue does with a plan.
fn carried_out(known: &[VmDisk], sync: &DiskSync) -> Vec<VmDisk> {
    let mut rows = known.to_vec();
    for changed in sync.changed() {
        let row = rows.iter_mut().find(|row| row.id == changed.id).unwrap();
        *row = changed;
    }
    for new in &sync.add {
        let id = i64::try_from(rows.len()).unwrap();
        rows.push(stored(id, new.ordinal, new.facts.clone()));
    }
    rows
}

/// Disks of one VM at one time: no key twice, as the edge makes sure.
fn seen_disks() -> impl Strategy<Value = Vec<DiskFacts>> {
    let disk = (proptest::option::of(0..4_u8), 1..3_u64);
    proptest::collection::btree_map(0..4_u8, disk, 0..4).prop_map(|disks| {
        let facts = |(key, (uuid, sectors)): (u8, (Option<u8>, u64))| DiskFacts {
            backing_uuid: uuid.map(|it| format!("6000-{it}")),
            ..facts(&format!("disk-{key}"), sectors * 512)
        };
        disks.into_iter().map(facts).collect()
    })
}

proptest! {
    #[test]
    fn whatever_a_source_says_in_whatever_order(history in proptest::collection::vec(seen_disks(), 1..8)) {
        let mut rows: Vec<VmDisk> = Vec::new();
        for seen in history {
            let sync = plan(&rows, &seen);
            let after = carried_out(&rows, &sync);
            // No row is lost, and none gets the blocks of another backing.
            for (old, new) in rows.iter().zip(&after) {
                prop_assert_eq!((old.id, old.ordinal), (new.id, new.ordinal));
                let before = &old.facts.backing_uuid;
                prop_assert!(before.is_none() || *before == new.facts.backing_uuid);
            }
            // What is present is what was seen, each under a key of its own.
            let mut present: Vec<_> = after.iter().filter(|it| it.is_present()).collect();
            present.sort_by(|one, other| one.facts.key.cmp(&other.facts.key));
            prop_assert_eq!(present.len(), seen.len());
            for (row, facts) in present.iter().zip(&seen) {
                prop_assert_eq!((&row.facts.key, row.facts.capacity), (&facts.key, facts.capacity));
                prop_assert!(facts.backing_uuid.is_none() || facts.backing_uuid == row.facts.backing_uuid);
            }
            let ordinals: BTreeSet<u32> = after.iter().map(|it| it.ordinal).collect();
            prop_assert_eq!(ordinals.len(), after.len());
            // The same again is nothing to write.
            prop_assert!(plan(&after, &seen).is_empty());
            rows = after;
        }
    }
}
