//! A bounded cache of what was used lately, shared by all images of a chain.

use std::collections::HashMap;

use parking_lot::Mutex;

/// Which thing: image in the chain, and its number or place there.
pub(crate) type Key = (usize, u64);

/// Things that were used lately; a clone of one is cheap.
#[derive(Debug)]
pub(crate) struct Recent<T> {
    inner: Mutex<Inner<T>>,
    keep: usize,
}

#[derive(Debug)]
struct Inner<T> {
    clock: u64,
    things: HashMap<Key, (u64, T)>,
}

impl<T: Clone> Recent<T> {
    /// Keeps as many things of `thing_bytes` as a budget holds, but at least and at most so many.
    pub(crate) fn new(thing_bytes: u64, budget: u64, least: usize, most: usize) -> Self {
        let keep = usize::try_from(budget / thing_bytes.max(1)).unwrap_or(most);
        let inner = Mutex::new(Inner { clock: 0, things: HashMap::new() });
        Self { inner, keep: keep.clamp(least, most) }
    }

    pub(crate) fn get(&self, key: Key) -> Option<T> {
        let mut inner = self.inner.lock();
        inner.clock += 1;
        let now = inner.clock;
        let (used, thing) = inner.things.get_mut(&key)?;
        *used = now;
        Some(thing.clone())
    }

    /// Keeps a thing, and forgets the one that was not used for the longest time if there are too many.
    pub(crate) fn insert(&self, key: Key, thing: T) {
        let mut inner = self.inner.lock();
        if inner.things.len() >= self.keep && !inner.things.contains_key(&key) {
            let oldest =
                inner.things.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| *key);
            oldest.and_then(|key| inner.things.remove(&key));
        }
        inner.clock += 1;
        let now = inner.clock;
        inner.things.insert(key, (now, thing));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thing_used_longest_ago_goes_first() {
        let cache = Recent::new(1 << 20, 1 << 10, 3, 9);
        for number in 0..3 {
            cache.insert((0, number), number);
        }
        assert_eq!(cache.get((0, 0)), Some(0));
        cache.insert((0, 0), 10);
        assert_eq!(cache.get((0, 1)), Some(1), "a new value for a key takes no place");
        cache.insert((1, 0), 7);
        assert_eq!((cache.get((0, 0)), cache.get((1, 0))), (Some(10), Some(7)));
        assert_eq!(cache.get((0, 2)), None);
        assert_eq!(cache.inner.lock().things.len(), 3);
    }

    #[test]
    fn a_budget_is_kept_between_its_bounds() {
        let keep = |thing| Recent::<u8>::new(thing, 8 << 20, 2, 64).keep;
        assert_eq!([512, 65_536, 1 << 20, 2 << 20, 64 << 20].map(keep), [64, 64, 8, 4, 2]);
    }
}
