//! The tables of a disk that were used lately, in bounded memory whatever the disk's size.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// The most bytes of tables that a disk keeps, all its layers together.
pub(super) const MAX_CACHED: usize = 16 << 20;

/// What a table costs beside its bytes.
const OVERHEAD: usize = 128;

/// Which table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct TableKey {
    /// The extent, numbered over all layers of the disk.
    pub(super) extent: u32,
    /// Where the table lies in the extent's file, in bytes.
    pub(super) at: u64,
}

/// A cache of two generations: what is used moves to the young one, and when that is full it becomes the old one.
///
/// So a table stays as long as it is used again before half of the memory was filled with others.
#[derive(Debug)]
pub(super) struct TableCache {
    generations: Mutex<Generations>,
    /// The most bytes of one generation.
    half: usize,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<TableKey, Arc<[u8]>>,
    old: HashMap<TableKey, Arc<[u8]>>,
    young_bytes: usize,
}

impl TableCache {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { generations: Mutex::default(), half: max_bytes / 2 }
    }

    /// The table, read by `read` where it is not at hand; nothing is locked meanwhile.
    pub(super) fn get<E>(
        &self,
        key: TableKey,
        read: impl FnOnce() -> Result<Arc<[u8]>, E>,
    ) -> Result<Arc<[u8]>, E> {
        if let Some(table) = self.find(key) {
            return Ok(table);
        }
        let table = read()?;
        self.generations.lock().put(key, table.clone(), self.half);
        Ok(table)
    }

    fn find(&self, key: TableKey) -> Option<Arc<[u8]>> {
        let mut generations = self.generations.lock();
        if let Some(table) = generations.young.get(&key) {
            return Some(table.clone());
        }
        let table = generations.old.remove(&key)?;
        generations.put(key, table.clone(), self.half);
        Some(table)
    }
}

impl Generations {
    fn put(&mut self, key: TableKey, table: Arc<[u8]>, half: usize) {
        let cost = table.len() + OVERHEAD;
        if self.young_bytes + cost > half {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        if self.young.insert(key, table).is_none() {
            self.young_bytes += cost;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn key(at: u64) -> TableKey {
        TableKey { extent: 0, at }
    }

    fn get(cache: &TableCache, at: u64, reads: &mut usize) -> Arc<[u8]> {
        let read = || {
            *reads += 1;
            Ok::<_, Infallible>(at.to_le_bytes().repeat(128).into())
        };
        match cache.get(key(at), read) {
            Ok(table) => table,
            Err(never) => match never {},
        }
    }

    fn bytes(cache: &TableCache) -> usize {
        let generations = cache.generations.lock();
        generations.young.values().chain(generations.old.values()).map(|it| it.len()).sum()
    }

    #[test]
    fn it_never_grows_beyond_its_memory() {
        let cache = TableCache::new(64 << 10);
        let mut reads = 0;
        for at in 0..10_000 {
            assert_eq!(get(&cache, at, &mut reads)[..8], at.to_le_bytes());
            assert!(bytes(&cache) <= 64 << 10);
        }
        assert_eq!(reads, 10_000);
    }

    #[test]
    fn what_is_used_again_stays() {
        let cache = TableCache::new(64 << 10);
        let mut reads = 0;
        for at in 1..1_000 {
            get(&cache, 0, &mut reads);
            get(&cache, at, &mut reads);
        }
        assert_eq!(reads, 1_000, "the first one was read once");
    }
}
