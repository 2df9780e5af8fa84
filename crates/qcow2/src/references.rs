//! How many things refer to each host cluster of a file.

use std::collections::BTreeMap;

use crate::format::index;
use crate::used_clusters::UsedClusters;

/// Counts of shared host clusters are kept in pages of so many, made when one of them is needed.
const PAGE: u64 = 4096;

/// References to host clusters: most are used by one thing alone; those that hold compressed clusters are
/// shared by many, but hardly ever by more than a byte can count.
#[derive(Clone, Debug, Default)]
pub(crate) struct References {
    used: UsedClusters,
    shared: BTreeMap<u64, Box<[u8]>>,
    /// What goes beyond a byte.
    beyond: BTreeMap<u64, u64>,
}

impl References {
    /// Notes the one reference to a cluster; false if something else has it already.
    pub(crate) fn insert(&mut self, cluster: u64) -> bool {
        self.used.insert(cluster)
    }

    /// Notes one reference of a compressed cluster; false if something that is not compressed has it.
    pub(crate) fn insert_shared(&mut self, cluster: u64) -> bool {
        let fresh = self.used.insert(cluster);
        let page = self.shared.entry(cluster / PAGE);
        let page = page.or_insert_with(|| vec![0; index(PAGE)].into_boxed_slice());
        let count = &mut page[index(cluster % PAGE)];
        if !fresh && *count == 0 {
            return false;
        }
        match count.checked_add(1) {
            Some(more) => *count = more,
            None => *self.beyond.entry(cluster).or_default() += 1,
        }
        true
    }

    /// How many references a cluster has.
    pub(crate) fn count(&self, cluster: u64) -> u64 {
        let page = self.shared.get(&(cluster / PAGE));
        match page.map_or(0, |page| page[index(cluster % PAGE)]) {
            0 => u64::from(self.used.contains(cluster)),
            u8::MAX => u64::from(u8::MAX) + self.beyond.get(&cluster).copied().unwrap_or(0),
            shared => u64::from(shared),
        }
    }

    /// All clusters that something refers to.
    pub(crate) fn into_used(self) -> UsedClusters {
        self.used
    }

    /// The number after the highest one.
    pub(crate) fn end(&self) -> u64 {
        self.used.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_compressed_clusters_share() {
        let mut references = References::default();
        assert!(references.insert(3));
        assert!(!references.insert(3) && !references.insert_shared(3));
        for count in 1..=300 {
            assert!(references.insert_shared(9000));
            assert_eq!(references.count(9000), count);
        }
        assert!(!references.insert(9000));
        assert_eq!((references.count(3), references.count(4), references.end()), (1, 0, 9001));
        assert!(references.into_used().contains(9000));
    }
}
