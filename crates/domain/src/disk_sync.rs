//! The planner that keeps the stored disks of a VM true to the seen ones.

use std::collections::{BTreeMap, BTreeSet};

use crate::disk::{DiskFacts, NewDisk, Presence, VmDisk};
use crate::ids::VmContextId;
use crate::time::Timestamp;

/// What has to change so that the stored disks of a VM say what the source says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskSync {
    /// Disks to insert, after the others are written: they may take the keys of those.
    pub add: Vec<NewDisk>,
    /// Disks whose facts changed or that came back, as they shall be.
    pub update: Vec<VmDisk>,
    /// Disks that the source has no more, as they shall be.
    pub retire: Vec<VmDisk>,
}

impl DiskSync {
    /// Whether nothing has to be written.
    pub fn is_empty(&self) -> bool {
        self.add.is_empty() && self.update.is_empty() && self.retire.is_empty()
    }

    /// The stored disks that change, as they shall be.
    pub fn changed(&self) -> Vec<VmDisk> {
        self.retire.iter().chain(&self.update).cloned().collect()
    }
}

/// Plans the change from the known disks of a VM to the seen ones.
///
/// A disk is known by the id of its backing, then by its key; a key that another backing has taken is another disk's,
/// and the old one is retired. A known disk keeps its row and its ordinal whatever else changes; a new one gets the next
/// free ordinal in the order seen, and no ordinal is used twice, so that a chain never gets another disk's blocks
/// (traps D7, D8).
pub fn plan_disk_sync(
    vm: VmContextId,
    known: &[VmDisk],
    seen: &[DiskFacts],
    at: Timestamp,
) -> DiskSync {
    let mut sync = DiskSync::default();
    let mut ordinals = known.iter().map(|disk| disk.ordinal + 1).max().unwrap_or(0)..;
    let found = recognised(known, seen);
    for (place, facts) in seen.iter().enumerate() {
        let Some(old) = found.get(&place) else {
            let new = |ordinal| NewDisk { vm, ordinal, facts: facts.clone() };
            sync.add.extend(ordinals.next().map(new));
            continue;
        };
        let facts = merged(facts, &old.facts);
        if old.facts != facts || old.presence == Presence::Retired {
            let presence = Presence::Present;
            let changed = VmDisk { facts, presence, updated_at: at, ..(*old).clone() };
            sync.update.push(changed);
        }
    }
    let kept: BTreeSet<_> = found.values().map(|disk| disk.id).collect();
    sync.retire = known
        .iter()
        .filter(|disk| disk.is_present() && !kept.contains(&disk.id))
        .map(|disk| VmDisk { presence: Presence::Retired, updated_at: at, ..disk.clone() })
        .collect();
    sync
}

/// Whether a known disk is a seen one.
type Fits<'a> = dyn Fn(&VmDisk, &DiskFacts) -> bool + 'a;

/// Which known disk each seen one is, by its place; what is certain is settled before what is likely.
fn recognised<'a>(known: &'a [VmDisk], seen: &[DiskFacts]) -> BTreeMap<usize, &'a VmDisk> {
    let moved = movable(known, seen);
    let same_backing = |old: &VmDisk, new: &DiskFacts| {
        new.backing_uuid.is_some() && old.facts.backing_uuid == new.backing_uuid
    };
    let itself = |old: &VmDisk, new: &DiskFacts| same_backing(old, new) && old.facts.key == new.key;
    let elsewhere = |old: &VmDisk, new: &DiskFacts| {
        same_backing(old, new) && new.backing_uuid.as_deref().is_some_and(|it| moved.contains(it))
    };
    let in_its_place = |old: &VmDisk, new: &DiskFacts| {
        let (before, now) = (&old.facts.backing_uuid, &new.backing_uuid);
        // What left its place once may have been replaced since; only a disk that stayed is adopted by its key.
        let unsaid = if old.is_present() {
            before.is_none() || now.is_none()
        } else {
            before.is_none() && now.is_none()
        };
        old.facts.key == new.key && unsaid
    };
    let passes: [&Fits<'_>; 3] = [&itself, &elsewhere, &in_its_place];
    // Of several rows that fit, the present one, then the newest: it is what was there last.
    let mut left: Vec<&VmDisk> = known.iter().collect();
    left.sort_by_key(|disk| (disk.is_present(), disk.ordinal));
    let mut found = BTreeMap::new();
    for fits in passes {
        for (place, facts) in seen.iter().enumerate() {
            if found.contains_key(&place) {
                continue;
            }
            if let Some(at) = left.iter().rposition(|disk| fits(disk, facts)) {
                found.insert(place, left.remove(at));
            }
        }
    }
    found
}

/// The backings by which a disk is followed to another key; one that two disks have, as copied files do, tells nothing.
fn movable<'a>(known: &'a [VmDisk], seen: &'a [DiskFacts]) -> BTreeSet<&'a str> {
    let counted = |facts: &mut dyn Iterator<Item = &'a DiskFacts>| {
        let mut count: BTreeMap<&str, usize> = BTreeMap::new();
        for uuid in facts.filter_map(|it| it.backing_uuid.as_deref()) {
            *count.entry(uuid).or_default() += 1;
        }
        count
    };
    let (present, retired): (Vec<&VmDisk>, Vec<&VmDisk>) =
        known.iter().partition(|disk| disk.is_present());
    let present = counted(&mut present.into_iter().map(|disk| &disk.facts));
    let retired = counted(&mut retired.into_iter().map(|disk| &disk.facts));
    // One that is present goes before those that are gone.
    let is_one = |uuid: &str| present.get(uuid).or(retired.get(uuid)) == Some(&1);
    let seen = counted(&mut seen.iter()).into_iter();
    seen.filter(|(uuid, count)| *count == 1 && is_one(uuid)).map(|(uuid, _)| uuid).collect()
}

/// What a source leaves out, it does not deny.
fn merged(seen: &DiskFacts, old: &DiskFacts) -> DiskFacts {
    DiskFacts {
        backing_uuid: seen.backing_uuid.clone().or_else(|| old.backing_uuid.clone()),
        conditions: seen.conditions.clone().or(&old.conditions),
        ..seen.clone()
    }
}

#[cfg(test)]
mod tests;
