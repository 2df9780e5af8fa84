//! L2 tables on their way between memory and file, so that the memory stays bounded.

use hub_block::BlockError;

use super::ImageBody;
use crate::cluster_map::{LoadedTable, Lookup};
use crate::format::words;
use crate::run::TableView;

impl ImageBody {
    /// Looks at a table, which is loaded if it is not in memory; there may be none. Blocks.
    pub(crate) fn with_table<T>(
        &self,
        table: u64,
        look: impl FnOnce(Option<TableView<'_>>) -> T,
    ) -> Result<T, BlockError> {
        loop {
            let place = match self.map.read().lookup(table) {
                Lookup::Nothing => return Ok(look(None)),
                Lookup::Loaded(view) => return Ok(look(Some(view))),
                Lookup::Stored(place) => place,
            };
            self.load(table, place)?;
        }
    }

    /// Changes a table, which is loaded or made if it is not in memory. Blocks.
    pub(crate) fn edit_table<T>(
        &self,
        table: u64,
        edit: impl FnOnce(&mut LoadedTable) -> T,
    ) -> Result<T, BlockError> {
        let edited = loop {
            {
                let mut map = self.map.write();
                if let Some(found) = map.edit(table) {
                    break edit(found);
                }
            }
            let place = match self.map.read().lookup(table) {
                Lookup::Stored(place) => place,
                Lookup::Nothing | Lookup::Loaded(_) => continue,
            };
            self.load(table, place)?;
        };
        self.shed()?;
        Ok(edited)
    }

    fn load(&self, table: u64, place: u64) -> Result<(), BlockError> {
        let entries = self.read_table(place)?;
        self.map.write().insert_loaded(table, place, entries);
        self.shed()
    }

    fn read_table(&self, place: u64) -> Result<Box<[u64]>, BlockError> {
        let mut bytes = self.pool.take(self.geometry.cluster_len());
        self.file.read_exact_at(&mut bytes, place)?;
        Ok(words(&bytes))
    }

    /// Writes out and forgets the tables that were not used for the longest time, if there are too many.
    ///
    /// One thread at a time does so; others wait, so that tables do not come faster than they go.
    fn shed(&self) -> Result<(), BlockError> {
        if self.map.read().loaded() <= self.keep_tables {
            return Ok(());
        }
        let _one_at_a_time = self.tables_out.lock();
        // Some more than needed, so that the next one who needs room finds it.
        let goal = self.keep_tables - self.keep_tables / 8;
        loop {
            let oldest = {
                let map = self.map.read();
                if map.loaded() <= goal { None } else { map.oldest() }
            };
            let Some(table) = oldest else { return Ok(()) };
            self.write_table(table, || self.take_clusters(1))?;
            self.map.write().forget(table);
        }
    }

    /// Writes a table to the file if memory is newer: over its place if nobody needs what is there, and
    /// otherwise to a new one. The caller holds `tables_out`.
    pub(crate) fn write_table(
        &self,
        table: u64,
        place: impl FnOnce() -> u64,
    ) -> Result<(), BlockError> {
        let copy = self.map.write().copy_out(table);
        let Some((bytes, over)) = copy else { return Ok(()) };
        let place = over.unwrap_or_else(place);
        let written = self.file.write_buffered(&bytes, place);
        let mut map = self.map.write();
        match written {
            Ok(()) => map.settle(table, place),
            Err(_) => map.unsettle(table),
        }
        written
    }

    /// Shows all entries of tables one after the other, without keeping those that are not in memory.
    /// Nobody may write meanwhile.
    pub(crate) fn each_table(
        &self,
        tables: impl IntoIterator<Item = u64>,
        mut show: impl FnMut(&[u64]),
    ) -> Result<(), BlockError> {
        for table in tables {
            let place = match self.map.read().lookup(table) {
                Lookup::Nothing => continue,
                Lookup::Loaded(view) => {
                    show(view.entries);
                    continue;
                }
                Lookup::Stored(place) => place,
            };
            show(&self.read_table(place)?);
        }
        Ok(())
    }
}
