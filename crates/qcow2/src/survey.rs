//! The survey: one walk over all tables of an image, for whoever checks, updates or proves it.

mod refcounts;

use std::path::Path;

use crate::check::CheckReport;
use crate::error::OpenError;
use crate::format::{COPIED, Geometry, index, words};
use crate::header::Header;
use crate::layer::{check_l1_entry, read_l1};
use crate::mapping::{EntryFault, Mapping};
use crate::metadata::Placement;
use crate::references::References;
use crate::store_file::StoreFile;
use crate::used_clusters::UsedClusters;

/// Everything that a check learns about the structure of a file.
pub(crate) struct Survey {
    pub(crate) header: Header,
    pub(crate) report: CheckReport,
    /// Clusters that something refers to.
    pub(crate) used: UsedClusters,
    pub(crate) placement: Placement,
    /// L2 tables: number and offset.
    pub(crate) tables: Vec<(u64, u64)>,
    pub(crate) content: Content,
}

/// The host clusters that hold bytes of the disk as they are, not compressed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Content {
    pub(crate) clusters: UsedClusters,
    /// The host offset of the cluster at the end of the disk, and how many of its bytes the disk has.
    pub(crate) tail: Option<(u64, u64)>,
}

struct Walk<'a> {
    file: &'a StoreFile,
    path: &'a Path,
    geometry: Geometry,
    file_len: u64,
    header: Header,
    report: CheckReport,
    references: References,
    placement: Placement,
    tables: Vec<(u64, u64)>,
    content: Content,
}

impl Survey {
    pub(crate) fn of(file: &StoreFile, path: &Path) -> Result<Self, OpenError> {
        let file_len = file.len().map_err(OpenError::io(path))?;
        let header = Header::read(file, path, file_len)?;
        if header.snapshots != 0 {
            return Err(OpenError::unsupported(path, "checking an internal snapshot is"));
        }
        let mut walk = Walk {
            file,
            path,
            geometry: header.geometry,
            file_len,
            report: CheckReport { file_bytes: file_len, ..CheckReport::default() },
            references: References::default(),
            placement: Placement {
                l1_offset: header.l1_offset,
                l1_entries: header.l1_entries,
                refcount_table_offset: header.refcount_table_offset,
                refcount_table_clusters: header.refcount_table_clusters,
                blocks: Vec::new(),
            },
            tables: Vec::new(),
            content: Content::default(),
            header,
        };
        walk.refer(0, 1, "the header");
        let l1_clusters = walk.geometry.clusters(walk.header.l1_entries * 8);
        walk.refer(walk.header.l1_offset, l1_clusters, "the L1 table");
        let blocks = walk.refcount_table()?;
        walk.l1()?;
        walk.compare(&blocks)?;
        Ok(Self {
            header: walk.header,
            report: walk.report,
            used: walk.references.into_used(),
            placement: walk.placement,
            tables: walk.tables,
            content: walk.content,
        })
    }
}

impl Walk<'_> {
    /// Notes that something refers to clusters that nothing else may have.
    fn refer(&mut self, offset: u64, clusters: u64, what: &str) {
        let first = offset / self.geometry.cluster_size();
        for cluster in first..first + clusters {
            if !self.references.insert(cluster) {
                self.shares(cluster, what);
            }
        }
    }

    /// Notes a compressed cluster, which may share its host clusters with others of its kind.
    fn refer_compressed(&mut self, mapping: Mapping) {
        for cluster in mapping.host_clusters(self.geometry) {
            if !self.references.insert_shared(cluster) {
                self.shares(cluster, "a compressed cluster");
            }
        }
        self.report.data_clusters += 1;
        self.report.compressed_clusters += 1;
    }

    fn shares(&mut self, cluster: u64, what: &str) {
        let place = cluster * self.geometry.cluster_size();
        self.report.error(place, format!("{what} shares a cluster with something"));
    }

    fn read_words(&self, offset: u64, bytes: u64) -> Result<Box<[u64]>, OpenError> {
        let mut buffer = vec![0; index(bytes)];
        match self.file.read_exact_at(&mut buffer, offset) {
            Ok(()) => Ok(words(&buffer)),
            Err(error) => Err(OpenError::read(self.path)(error)),
        }
    }

    fn l1(&mut self) -> Result<(), OpenError> {
        let l1 = read_l1(self.file, self.path, &self.header)?;
        for (number, entry) in l1.iter().enumerate() {
            let number = number as u64;
            let place = self.header.l1_offset + number * 8;
            match check_l1_entry(*entry, &self.header, self.file_len) {
                Err(what) => self.report.error(place, what),
                Ok(None) => (),
                Ok(Some(offset)) => {
                    self.refer(offset, 1, "an L2 table");
                    self.check_copied(*entry, place);
                    self.tables.push((number, offset));
                    self.l2(number, offset)?;
                }
            }
        }
        Ok(())
    }

    fn l2(&mut self, number: u64, offset: u64) -> Result<(), OpenError> {
        let first = number * self.geometry.table_entries();
        let table = self.read_words(offset, self.geometry.cluster_size())?;
        for (slot, entry) in table.iter().enumerate().filter(|(_, entry)| **entry != 0) {
            let place = offset + slot as u64 * 8;
            match Mapping::decode(*entry, self.geometry, self.file_len) {
                Err(EntryFault::Corrupt(what)) => self.report.error(place, what),
                Ok(Mapping::Absent | Mapping::Zero { host: None }) => (),
                Ok(Mapping::Zero { host: Some(host) }) => {
                    self.refer(host, 1, "a kept cluster");
                    self.check_copied(*entry, place);
                    self.report.data_clusters += 1;
                }
                Ok(mapping @ Mapping::Compressed { .. }) => self.refer_compressed(mapping),
                Ok(Mapping::Data { host }) => {
                    self.refer(host, 1, "a data cluster");
                    self.check_copied(*entry, place);
                    self.data((first + slot as u64, host), place);
                }
            }
        }
        Ok(())
    }

    /// Notes a data cluster; what lies beyond the end of the disk need not be in the file.
    fn data(&mut self, (cluster, host): (u64, u64), place: u64) {
        let size = self.geometry.cluster_size();
        let seen = size.min(self.header.virtual_size.saturating_sub(cluster.saturating_mul(size)));
        self.report.data_clusters += 1;
        if host + seen > self.file_len {
            self.report.error(place, "a data cluster leaves the file");
        }
        if seen > 0 {
            self.content.clusters.insert(host / size);
        }
        if seen > 0 && seen < size {
            self.content.tail = Some((host, seen));
        }
    }

    /// What only one thing refers to has an entry that says so.
    fn check_copied(&mut self, entry: u64, place: u64) {
        if entry & COPIED == 0 {
            self.report.error(place, "an entry does not say that its refcount is one");
        }
    }
}
