//! A bounded cache of L2 tables, shared by all images of a chain.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// Bytes of tables that are kept.
const BUDGET: u64 = 32 << 20;
/// Fewest and most tables that are kept, whatever their size.
const LEAST: usize = 16;
const MOST: usize = 1024;

/// Which table: image in the chain, number of the table.
pub(crate) type TableKey = (usize, u64);

/// Tables that were used lately.
#[derive(Debug)]
pub(crate) struct TableCache {
    inner: Mutex<Inner>,
    keep: usize,
}

#[derive(Debug, Default)]
struct Inner {
    clock: u64,
    tables: HashMap<TableKey, (u64, Arc<[u64]>)>,
}

impl TableCache {
    /// A cache for tables of `table_bytes`, the largest of the chain.
    pub(crate) fn new(table_bytes: u64) -> Self {
        let keep = usize::try_from(BUDGET / table_bytes.max(1)).unwrap_or(MOST);
        Self { inner: Mutex::default(), keep: keep.clamp(LEAST, MOST) }
    }

    pub(crate) fn get(&self, key: TableKey) -> Option<Arc<[u64]>> {
        let mut inner = self.inner.lock();
        inner.clock += 1;
        let now = inner.clock;
        let (used, table) = inner.tables.get_mut(&key)?;
        *used = now;
        Some(table.clone())
    }

    /// Keeps a table, and forgets the one that was not used for the longest time if there are too many.
    pub(crate) fn insert(&self, key: TableKey, table: Arc<[u64]>) {
        let mut inner = self.inner.lock();
        if inner.tables.len() >= self.keep {
            let oldest =
                inner.tables.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| *key);
            oldest.and_then(|key| inner.tables.remove(&key));
        }
        inner.clock += 1;
        let now = inner.clock;
        inner.tables.insert(key, (now, table));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_used_longest_ago_goes_first() {
        let cache = TableCache::new(BUDGET);
        let table: Arc<[u64]> = vec![7; 4].into();
        for number in 0..LEAST as u64 {
            cache.insert((0, number), table.clone());
        }
        assert!(cache.get((0, 0)).is_some());
        cache.insert((1, 0), table.clone());
        assert!(cache.get((0, 0)).is_some());
        assert!(cache.get((0, 1)).is_none());
        assert_eq!(cache.inner.lock().tables.len(), LEAST);
    }
}
