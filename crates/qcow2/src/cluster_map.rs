//! The map from guest clusters to host clusters of an image that is being written.

use std::collections::BTreeMap;

use crate::format::{Geometry, index};
use crate::run::TableView;

/// L2 tables in memory, made when a cluster of theirs is first used.
///
/// A table takes one cluster of memory per table span, so a sparse disk costs little whatever its size.
/// A full one costs 1/8192 of its size at 64 KiB clusters; to bound that, write out tables that are
/// complete and put [`Table::Stored`] in their place: everything else already loads those on demand.
#[derive(Debug)]
pub(crate) struct ClusterMap {
    geometry: Geometry,
    tables: BTreeMap<u64, Table>,
}

/// One L2 table.
#[derive(Debug)]
pub(crate) enum Table {
    /// Still in the file only, at this offset.
    Stored(u64),
    /// In memory.
    Loaded(LoadedTable),
}

/// The entries of a table in memory.
#[derive(Debug)]
pub(crate) struct LoadedTable {
    pub(crate) entries: Box<[u64]>,
    /// Where it lies in the file as of the last time that metadata was written.
    pub(crate) home: Option<u64>,
    /// Whether memory is newer than the file.
    pub(crate) changed: bool,
}

impl ClusterMap {
    pub(crate) fn new(geometry: Geometry) -> Self {
        Self { geometry, tables: BTreeMap::new() }
    }

    /// Tells that a table lies in the file.
    pub(crate) fn insert_stored(&mut self, table: u64, offset: u64) {
        self.tables.insert(table, Table::Stored(offset));
    }

    /// Puts a table that was read from the file in place, unless somebody was faster.
    pub(crate) fn insert_loaded(&mut self, table: u64, offset: u64, entries: Box<[u64]>) {
        if let Some(Table::Stored(stored)) = self.tables.get(&table)
            && *stored == offset
        {
            let loaded = LoadedTable { entries, home: Some(offset), changed: false };
            self.tables.insert(table, Table::Loaded(loaded));
        }
    }

    /// Tables within a range of table numbers that have to be loaded before their clusters are asked for.
    pub(crate) fn stored_within(&self, first: u64, last: u64) -> Vec<(u64, u64)> {
        let tables = self.tables.range(first..=last);
        tables
            .filter_map(|(table, it)| match it {
                Table::Stored(offset) => Some((*table, *offset)),
                Table::Loaded(_) => None,
            })
            .collect()
    }

    /// The entries of a table that is in memory.
    pub(crate) fn table(&self, table: u64) -> Option<TableView<'_>> {
        match self.tables.get(&table)? {
            Table::Stored(_) => None,
            Table::Loaded(it) => {
                Some(TableView { entries: &it.entries, offset: it.home.unwrap_or(0) })
            }
        }
    }

    /// The entry of a cluster whose table is in memory.
    pub(crate) fn entry(&self, cluster: u64) -> u64 {
        let slot = index(cluster % self.geometry.table_entries());
        self.table(cluster / self.geometry.table_entries()).map_or(0, |it| it.entries[slot])
    }

    /// Sets the entry of a cluster whose table is in memory or does not exist yet.
    pub(crate) fn set(&mut self, cluster: u64, entry: u64) {
        let entries = self.geometry.table_entries();
        let slot = index(cluster % entries);
        let table = self.tables.entry(cluster / entries).or_insert_with(|| {
            let entries = vec![0; index(entries)].into_boxed_slice();
            Table::Loaded(LoadedTable { entries, home: None, changed: false })
        });
        if let Table::Loaded(table) = table
            && table.entries[slot] != entry
        {
            table.entries[slot] = entry;
            table.changed = true;
        }
    }

    /// Every table, in order.
    pub(crate) fn tables(&self) -> impl Iterator<Item = (u64, &Table)> {
        self.tables.iter().map(|(table, it)| (*table, it))
    }

    /// Tables whose memory is newer than the file, in order.
    pub(crate) fn changed(&self) -> impl Iterator<Item = (u64, &LoadedTable)> {
        self.tables().filter_map(|(table, it)| match it {
            Table::Loaded(loaded) if loaded.changed => Some((table, loaded)),
            Table::Loaded(_) | Table::Stored(_) => None,
        })
    }

    /// Tells that a table was written, and where to.
    pub(crate) fn settle(&mut self, table: u64, home: u64) {
        if let Some(Table::Loaded(loaded)) = self.tables.get_mut(&table) {
            loaded.home = Some(home);
            loaded.changed = false;
        }
    }
}
