//! Which host clusters of a file are in use; refcounts are computed from it.

use std::ops::Range;

/// A set of host cluster numbers that grows as needed; the caller bounds the numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct UsedClusters {
    words: Vec<u64>,
}

impl UsedClusters {
    /// Adds one; false if it was there already.
    pub(crate) fn insert(&mut self, cluster: u64) -> bool {
        let (word, bit) = place(cluster);
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let fresh = self.words[word] & bit == 0;
        self.words[word] |= bit;
        fresh
    }

    /// Makes room for numbers below `end` at once, so that growing takes no second copy.
    pub(crate) fn make_room(&mut self, end: u64) {
        let words = crate::format::index(end.div_ceil(64));
        if words > self.words.len() {
            self.words.reserve_exact(words - self.words.len());
            self.words.resize(words, 0);
        }
    }

    pub(crate) fn remove(&mut self, cluster: u64) {
        let (word, bit) = place(cluster);
        if let Some(word) = self.words.get_mut(word) {
            *word &= !bit;
        }
    }

    pub(crate) fn contains(&self, cluster: u64) -> bool {
        let (word, bit) = place(cluster);
        self.words.get(word).is_some_and(|it| it & bit != 0)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// The number after the highest one.
    pub(crate) fn end(&self) -> u64 {
        let last = self.words.iter().rposition(|word| *word != 0);
        last.map_or(0, |at| at as u64 * 64 + 64 - u64::from(self.words[at].leading_zeros()))
    }

    /// The runs of numbers below the highest one that are not in the set.
    pub(crate) fn gaps(&self) -> impl Iterator<Item = Range<u64>> {
        let end = self.end();
        let mut at = 0;
        std::iter::from_fn(move || {
            let start = self.free_run(at, 1);
            at = (start..end).find(|it| self.contains(*it))?;
            Some(start..at)
        })
    }

    /// The first of `count` neighbouring numbers from `from` on that are not in the set.
    pub(crate) fn free_run(&self, from: u64, count: u64) -> u64 {
        let (mut start, mut at) = (from, from);
        while at - start < count {
            let (word, bit) = place(at);
            match self.words.get(word) {
                None => break,
                Some(&u64::MAX) => {
                    at = (word as u64 + 1) * 64;
                    start = at;
                }
                Some(it) => {
                    at += 1;
                    if it & bit != 0 {
                        start = at;
                    }
                }
            }
        }
        start
    }
}

fn place(cluster: u64) -> (usize, u64) {
    (crate::format::index(cluster / 64), 1 << (cluster % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_in_and_out() {
        let mut used = UsedClusters::default();
        assert_eq!(used.end(), 0);
        assert!(used.insert(70));
        assert!(!used.insert(70));
        assert!(used.contains(70) && !used.contains(71));
        assert_eq!(used.end(), 71);
        used.remove(70);
        used.remove(10_000);
        assert_eq!(used.end(), 0);
    }

    #[test]
    fn gaps_are_between_members() {
        let mut used = UsedClusters::default();
        assert_eq!(used.gaps().count(), 0);
        [0, 1, 5, 6, 200, 201].into_iter().for_each(|it| {
            used.insert(it);
        });
        assert_eq!(used.gaps().collect::<Vec<_>>(), [2..5, 7..200]);
    }

    #[test]
    fn the_first_gap_that_is_long_enough_is_found() {
        let mut used = UsedClusters::default();
        for it in 0..200 {
            used.insert(it);
        }
        [10, 50, 51, 130].into_iter().for_each(|it| used.remove(it));
        assert_eq!(used.free_run(0, 1), 10);
        assert_eq!(used.free_run(0, 2), 50);
        assert_eq!(used.free_run(0, 3), 200);
        assert_eq!(used.free_run(52, 1), 130);
        assert_eq!(used.free_run(500, 4), 500);
    }
}
