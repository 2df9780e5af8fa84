//! The map from guest clusters to host clusters of an image that is being written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::format::{Geometry, index};
use crate::run::TableView;

/// The L2 tables: those that were used lately in memory, the others in the file.
///
/// A sparse disk costs little whatever its size, because a table is made when a cluster of it is first
/// used; a full one costs little because tables that have not been used for long are written out early.
#[derive(Debug)]
pub(crate) struct ClusterMap {
    geometry: Geometry,
    /// Where tables lie in the file; memory may be newer.
    homes: BTreeMap<u64, Home>,
    loaded: BTreeMap<u64, LoadedTable>,
    /// Memory of a forgotten table for the next one: each would come from another thread's heap and stay there.
    spare: Option<Box<[u64]>>,
    /// Places of tables that are part of the image as its header knows it, but not of the next one.
    replaced: Vec<u64>,
    /// Tables that somebody was about to change since they were last taken.
    touched: BTreeSet<u64>,
    /// Counts uses, so that the oldest one is known.
    clock: AtomicU64,
}

/// Where a table lies in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Home {
    pub(crate) offset: u64,
    /// Whether the header's image has it, so that it must not be overwritten.
    pub(crate) committed: bool,
}

/// The entries of a table in memory.
#[derive(Debug)]
pub(crate) struct LoadedTable {
    entries: Box<[u64]>,
    /// Whether memory is newer than the file, and than a copy that is being written to it.
    changed: bool,
    used: AtomicU64,
}

/// Where the entries of a table are.
#[derive(Debug)]
pub(crate) enum Lookup<'a> {
    /// No cluster of it was ever used.
    Nothing,
    /// In the file only, at this offset.
    Stored(u64),
    /// In memory.
    Loaded(TableView<'a>),
}

impl LoadedTable {
    fn new(entries: Box<[u64]>, now: u64) -> Self {
        Self { entries, changed: false, used: AtomicU64::new(now) }
    }

    pub(crate) fn entries(&self) -> &[u64] {
        &self.entries
    }

    pub(crate) fn set(&mut self, slot: u64, entry: u64) {
        let known = &mut self.entries[index(slot)];
        self.changed |= *known != entry;
        *known = entry;
    }
}

impl ClusterMap {
    pub(crate) fn new(geometry: Geometry) -> Self {
        Self {
            geometry,
            homes: BTreeMap::new(),
            loaded: BTreeMap::new(),
            spare: None,
            replaced: Vec::new(),
            touched: BTreeSet::new(),
            clock: AtomicU64::new(0),
        }
    }

    pub(crate) fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Tells that a table of the header's image lies in the file.
    pub(crate) fn insert_committed(&mut self, table: u64, offset: u64) {
        self.homes.insert(table, Home { offset, committed: true });
    }

    fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn lookup(&self, table: u64) -> Lookup<'_> {
        let home = self.homes.get(&table).map(|home| home.offset);
        match (self.loaded.get(&table), home) {
            (Some(loaded), home) => {
                loaded.used.store(self.now(), Ordering::Relaxed);
                Lookup::Loaded(TableView { entries: &loaded.entries, offset: home.unwrap_or(0) })
            }
            (None, Some(offset)) => Lookup::Stored(offset),
            (None, None) => Lookup::Nothing,
        }
    }

    /// A table to change, which is made if there is none; nothing if it has to be loaded before.
    pub(crate) fn edit(&mut self, table: u64) -> Option<&mut LoadedTable> {
        let now = self.now();
        if !self.loaded.contains_key(&table) {
            if self.homes.contains_key(&table) {
                return None;
            }
            let entries = self.empty();
            self.loaded.insert(table, LoadedTable::new(entries, now));
        }
        self.touched.insert(table);
        let found = self.loaded.get_mut(&table)?;
        found.used.store(now, Ordering::Relaxed);
        Some(found)
    }

    /// Entries of a table that has none yet.
    fn empty(&mut self) -> Box<[u64]> {
        match self.spare.take() {
            Some(mut entries) => {
                entries.fill(0);
                entries
            }
            None => vec![0; index(self.geometry.table_entries())].into_boxed_slice(),
        }
    }

    /// The tables that may have changed since this was last asked, in order.
    pub(crate) fn take_touched(&mut self) -> BTreeSet<u64> {
        std::mem::take(&mut self.touched)
    }

    /// Puts a table that was read from the file in place, unless somebody was faster.
    pub(crate) fn insert_loaded(&mut self, table: u64, offset: u64, entries: Box<[u64]>) {
        let now = self.now();
        if self.homes.get(&table).is_some_and(|home| home.offset == offset) {
            self.loaded.entry(table).or_insert_with(|| LoadedTable::new(entries, now));
        }
    }

    /// How many tables are in memory.
    pub(crate) fn loaded(&self) -> usize {
        self.loaded.len()
    }

    /// The table in memory that was not used for the longest time.
    pub(crate) fn oldest(&self) -> Option<u64> {
        let used = |table: &LoadedTable| table.used.load(Ordering::Relaxed);
        self.loaded.iter().min_by_key(|(_, table)| used(table)).map(|(number, _)| *number)
    }

    /// Tables whose memory is newer than the file, in order.
    pub(crate) fn changed(&self) -> Vec<u64> {
        self.loaded.iter().filter(|(_, it)| it.changed).map(|(number, _)| *number).collect()
    }

    /// A copy of a table for the file, if memory is newer: its bytes, and where it may be written over.
    ///
    /// Only one at a time may do so, and has to tell the end by [`settle`](Self::settle) or
    /// [`unsettle`](Self::unsettle) before the table may be forgotten.
    pub(crate) fn copy_out(&mut self, table: u64) -> Option<(Vec<u8>, Option<u64>)> {
        let home = self.homes.get(&table);
        let loaded = self.loaded.get_mut(&table).filter(|it| it.changed)?;
        if home.is_none() && loaded.entries.iter().all(|entry| *entry == 0) {
            loaded.changed = false;
            return None;
        }
        loaded.changed = false;
        let bytes = loaded.entries.iter().flat_map(|word| word.to_be_bytes()).collect();
        Some((bytes, home.filter(|home| !home.committed).map(|home| home.offset)))
    }

    /// Tells that the copy of a table is in the file, and where.
    pub(crate) fn settle(&mut self, table: u64, offset: u64) {
        let home = Home { offset, committed: false };
        if let Some(before) = self.homes.insert(table, home)
            && before.committed
        {
            self.replaced.push(before.offset);
        }
    }

    /// Tells that the copy of a table did not arrive in the file.
    pub(crate) fn unsettle(&mut self, table: u64) {
        if let Some(loaded) = self.loaded.get_mut(&table) {
            loaded.changed = true;
        }
    }

    /// Forgets the memory of a table, unless it is newer than the file.
    pub(crate) fn forget(&mut self, table: u64) {
        if self.loaded.get(&table).is_some_and(|it| !it.changed) {
            self.spare = self.loaded.remove(&table).map(|it| it.entries);
        }
    }

    /// All tables that there are, in order.
    pub(crate) fn numbers(&self) -> Vec<u64> {
        let fresh = self.loaded.keys().filter(|number| !self.homes.contains_key(number));
        let mut numbers: Vec<u64> = self.homes.keys().chain(fresh).copied().collect();
        numbers.sort_unstable();
        numbers
    }

    /// Tables that are not part of the image as its header knows it, in order.
    pub(crate) fn uncommitted(&self) -> Vec<u64> {
        let mut numbers = self.numbers();
        numbers.retain(|number| {
            let committed = self.homes.get(number).is_some_and(|home| home.committed);
            !committed || self.loaded.get(number).is_some_and(|it| it.changed)
        });
        numbers
    }

    /// All tables that have a place in the file, in order.
    pub(crate) fn homes(&self) -> impl Iterator<Item = (u64, Home)> {
        self.homes.iter().map(|(table, home)| (*table, *home))
    }

    /// Places of committed tables that the next image does without.
    pub(crate) fn replaced(&self) -> &[u64] {
        &self.replaced
    }

    /// Tells that the header points to all tables as they are in the file now.
    pub(crate) fn commit(&mut self) {
        self.replaced.clear();
        self.homes.values_mut().for_each(|home| home.committed = true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map() -> ClusterMap {
        ClusterMap::new(Geometry::new(9).unwrap())
    }

    #[test]
    fn a_table_moves_between_memory_and_file() {
        let mut map = map();
        assert!(matches!(map.lookup(3), Lookup::Nothing));
        map.edit(3).unwrap().set(5, 0x400);
        map.edit(4).unwrap().set(0, 0x600);
        assert!(matches!(map.lookup(3), Lookup::Loaded(it) if it.entries[5] == 0x400));
        assert_eq!((map.changed(), map.oldest()), (vec![3, 4], Some(4)));
        map.forget(3);
        assert_eq!(map.loaded(), 2, "what is only in memory is not forgotten");
        let (bytes, over) = map.copy_out(3).unwrap();
        assert_eq!((&bytes[40..48], over), (&0x400_u64.to_be_bytes()[..], None));
        map.settle(3, 0x1000);
        map.forget(3);
        assert!(matches!(map.lookup(3), Lookup::Stored(0x1000)) && map.edit(3).is_none());
        map.insert_loaded(3, 0x2000, vec![0; 64].into());
        assert!(matches!(map.lookup(3), Lookup::Stored(0x1000)), "it is not read from elsewhere");
        map.insert_loaded(3, 0x1000, crate::format::words(&bytes));
        map.edit(3).unwrap().set(6, 0x800);
        assert_eq!(map.copy_out(3).unwrap().1, Some(0x1000));
    }

    #[test]
    fn a_new_table_is_empty_whatever_its_memory_held() {
        let mut map = map();
        map.edit(3).unwrap().set(5, 0x400);
        map.copy_out(3).unwrap();
        map.settle(3, 0x1000);
        map.forget(3);
        assert!(map.spare.is_some());
        assert!(map.edit(4).unwrap().entries().iter().all(|entry| *entry == 0));
        assert!(map.spare.is_none());
    }

    #[test]
    fn a_change_while_a_copy_is_written_stays_in_memory() {
        let mut map = map();
        map.edit(3).unwrap().set(5, 0x400);
        map.copy_out(3).unwrap();
        map.edit(3).unwrap().set(5, 0x600);
        map.settle(3, 0x1000);
        map.forget(3);
        assert!(matches!(map.lookup(3), Lookup::Loaded(it) if it.entries[5] == 0x600));
        map.copy_out(3).unwrap();
        map.unsettle(3);
        map.forget(3);
        assert_eq!(map.changed(), [3]);
    }

    #[test]
    fn a_committed_place_is_not_written_over() {
        let mut map = map();
        map.insert_committed(3, 0x1000);
        map.insert_loaded(3, 0x1000, vec![0; 64].into());
        assert!(map.copy_out(3).is_none());
        map.edit(3).unwrap().set(5, 0x400);
        assert_eq!(map.copy_out(3).unwrap().1, None);
        map.settle(3, 0x2000);
        assert_eq!(map.replaced(), [0x1000]);
        map.edit(3).unwrap().set(5, 0x600);
        assert_eq!(map.copy_out(3).unwrap().1, Some(0x2000));
        map.settle(3, 0x2000);
        assert_eq!(map.replaced(), [0x1000]);
        map.commit();
        assert!(map.replaced().is_empty());
        assert_eq!(map.homes().next(), Some((3, Home { offset: 0x2000, committed: true })));
    }
}
