//! The structural check: what refers to which cluster, and whether the refcounts say the same.

use std::path::Path;

use hub_block::BlockError;

use crate::error::OpenError;
use crate::format::{COPIED, Geometry, MAX_REFCOUNT_TABLE_BYTES, REFCOUNT_ORDER, index, words};
use crate::header::Header;
use crate::layer::{check_l1_entry, read_l1};
use crate::mapping::{EntryFault, Mapping};
use crate::metadata::Placement;
use crate::store_file::StoreFile;
use crate::used_clusters::UsedClusters;

/// Most errors and most leaks that a report lists; further ones are only counted.
const MAX_FINDINGS: usize = 1000;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// What makes reading or writing the image unsafe; at most 1000 are listed.
    pub errors: Vec<Finding>,
    /// Clusters that are counted as used although nothing refers to them; at most 1000 are listed.
    pub leaks: Vec<Finding>,
    /// How many more errors and leaks there are than are listed.
    pub not_listed: u64,
    /// Clusters that hold data of the disk.
    pub data_clusters: u64,
    /// Length of the file in bytes.
    pub file_bytes: u64,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where in the file, in bytes.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
}

impl CheckReport {
    /// Neither errors nor leaks.
    pub fn is_clean(&self) -> bool {
        self.errors.is_empty() && self.leaks.is_empty()
    }

    fn error(&mut self, offset: u64, what: impl Into<String>) {
        Self::add(&mut self.errors, &mut self.not_listed, offset, what.into());
    }

    fn leak(&mut self, offset: u64) {
        let what = "the cluster is counted as used but nothing refers to it";
        Self::add(&mut self.leaks, &mut self.not_listed, offset, what.to_owned());
    }

    fn add(list: &mut Vec<Finding>, not_listed: &mut u64, offset: u64, what: String) {
        if list.len() < MAX_FINDINGS {
            list.push(Finding { offset, what });
        } else {
            *not_listed += 1;
        }
    }
}

/// Checks one image file, without what it stands on. Blocks, and reads all tables but no data.
///
/// An image whose header or feature set does not allow a check is an [`OpenError`];
/// that includes internal snapshots, compressed clusters and refcounts of other than 16 bits.
pub fn check_image(path: &Path) -> Result<CheckReport, OpenError> {
    let file = StoreFile::open_read(path).map_err(OpenError::io(path))?;
    Ok(Survey::of(&file, path)?.report)
}

/// Everything that a check learns about the structure of a file.
pub(crate) struct Survey {
    pub(crate) header: Header,
    pub(crate) report: CheckReport,
    /// Clusters that something refers to.
    pub(crate) used: UsedClusters,
    pub(crate) placement: Placement,
    /// L2 tables: number and offset.
    pub(crate) tables: Vec<(u64, u64)>,
}

struct Walk<'a> {
    file: &'a StoreFile,
    path: &'a Path,
    geometry: Geometry,
    file_len: u64,
    survey: Survey,
}

impl Survey {
    pub(crate) fn of(file: &StoreFile, path: &Path) -> Result<Self, OpenError> {
        let file_len = file.len().map_err(OpenError::io(path))?;
        let header = Header::read(file, path, file_len)?;
        if header.snapshots != 0 {
            return Err(OpenError::unsupported(path, "an internal snapshot is"));
        }
        if header.refcount_order != REFCOUNT_ORDER {
            return Err(OpenError::unsupported(path, "a refcount of other than 16 bits is"));
        }
        let survey = Self {
            report: CheckReport { file_bytes: file_len, ..CheckReport::default() },
            used: UsedClusters::default(),
            placement: Placement {
                l1_offset: header.l1_offset,
                l1_entries: header.l1_entries,
                refcount_table_offset: header.refcount_table_offset,
                refcount_table_clusters: header.refcount_table_clusters,
                blocks: Vec::new(),
            },
            tables: Vec::new(),
            header,
        };
        let geometry = survey.header.geometry;
        let mut walk = Walk { file, path, geometry, file_len, survey };
        walk.refer(0, 1, "the header");
        let l1_clusters = geometry.clusters(walk.survey.header.l1_entries * 8);
        walk.refer(walk.survey.header.l1_offset, l1_clusters, "the L1 table");
        let blocks = walk.refcount_table()?;
        walk.l1()?;
        walk.compare(&blocks)?;
        Ok(walk.survey)
    }
}

impl Walk<'_> {
    /// Notes that something refers to clusters; each may be referred to once.
    fn refer(&mut self, offset: u64, clusters: u64, what: &str) {
        let first = offset / self.geometry.cluster_size();
        for cluster in first..first + clusters {
            if !self.survey.used.insert(cluster) {
                let place = cluster * self.geometry.cluster_size();
                self.survey.report.error(place, format!("{what} shares a cluster with something"));
            }
        }
    }

    fn read_words(&self, offset: u64, bytes: u64) -> Result<Box<[u64]>, OpenError> {
        let mut buffer = vec![0; index(bytes)];
        match self.file.read_exact_at(&mut buffer, offset) {
            Ok(()) => Ok(words(&buffer)),
            Err(error) => Err(OpenError::read(self.path)(error)),
        }
    }

    /// Reads the refcount table; the answer has an offset for every block that can be read.
    fn refcount_table(&mut self) -> Result<Vec<Option<u64>>, OpenError> {
        let (offset, clusters) =
            (self.survey.header.refcount_table_offset, self.survey.header.refcount_table_clusters);
        let bytes = clusters * self.geometry.cluster_size();
        let fits = offset.checked_add(bytes).is_some_and(|end| end <= self.file_len);
        if !self.geometry.is_aligned(offset) || !fits || offset == 0 || clusters == 0 {
            self.survey.report.error(48, "the refcount table does not lie within the file");
            return Ok(Vec::new());
        }
        if bytes > MAX_REFCOUNT_TABLE_BYTES {
            self.survey.report.error(56, "the refcount table is larger than any image needs");
            return Ok(Vec::new());
        }
        self.refer(offset, clusters, "the refcount table");
        let mut blocks = Vec::new();
        for (slot, entry) in self.read_words(offset, bytes)?.iter().enumerate() {
            let fits = entry
                .checked_add(self.geometry.cluster_size())
                .is_some_and(|end| end <= self.file_len);
            let block = (*entry != 0).then_some(*entry);
            if block.is_some() && (!self.geometry.is_aligned(*entry) || !fits) {
                let place = offset + slot as u64 * 8;
                self.survey.report.error(place, "a refcount block does not lie within the file");
                blocks.push(None);
                continue;
            }
            if let Some(block) = block {
                self.refer(block, 1, "a refcount block");
                self.survey.placement.blocks.push(block);
            }
            blocks.push(block);
        }
        Ok(blocks)
    }

    fn l1(&mut self) -> Result<(), OpenError> {
        let l1 = read_l1(self.file, self.path, &self.survey.header)?;
        for (number, entry) in l1.iter().enumerate() {
            let number = number as u64;
            let place = self.survey.header.l1_offset + number * 8;
            match check_l1_entry(*entry, &self.survey.header, self.file_len) {
                Err(what) => self.survey.report.error(place, what),
                Ok(None) => (),
                Ok(Some(offset)) => {
                    self.refer(offset, 1, "an L2 table");
                    self.check_copied(*entry, place);
                    self.survey.tables.push((number, offset));
                    self.l2(number, offset)?;
                }
            }
        }
        Ok(())
    }

    fn l2(&mut self, number: u64, offset: u64) -> Result<(), OpenError> {
        let size = self.geometry.cluster_size();
        let first = number * self.geometry.table_entries();
        let table = self.read_words(offset, size)?;
        for (slot, entry) in table.iter().enumerate().filter(|(_, entry)| **entry != 0) {
            let place = offset + slot as u64 * 8;
            match Mapping::decode(*entry, self.geometry, self.file_len) {
                Ok(Mapping::Compressed { .. }) => {
                    return Err(OpenError::unsupported(self.path, "a compressed cluster is"));
                }
                Err(EntryFault::Corrupt(what)) => self.survey.report.error(place, what),
                Ok(mapping) => {
                    let clusters = mapping.host_clusters(self.geometry);
                    if clusters.is_empty() {
                        continue;
                    }
                    let host = clusters.start * size;
                    self.refer(host, 1, "a data cluster");
                    self.check_copied(*entry, place);
                    self.survey.report.data_clusters += 1;
                    // What lies beyond the end of the disk need not be there.
                    let start = (first + slot as u64).saturating_mul(size);
                    let seen = size.min(self.survey.header.virtual_size.saturating_sub(start));
                    if matches!(mapping, Mapping::Data { .. }) && host + seen > self.file_len {
                        self.survey.report.error(place, "a data cluster leaves the file");
                    }
                }
            }
        }
        Ok(())
    }

    /// Every cluster of such an image is referred to once, and its entry has to say so.
    fn check_copied(&mut self, entry: u64, place: u64) {
        if entry & COPIED == 0 {
            self.survey.report.error(place, "an entry does not say that its refcount is one");
        }
    }

    /// Compares refcounts with references, block by block.
    fn compare(&mut self, blocks: &[Option<u64>]) -> Result<(), OpenError> {
        let per_block = self.geometry.refcounts_per_block();
        let size = self.geometry.cluster_size();
        let covered = blocks.len() as u64 * per_block;
        for (number, block) in blocks.iter().enumerate() {
            let first = number as u64 * per_block;
            if block.is_none() && first >= self.survey.used.end() {
                continue;
            }
            let counts = self.counts(*block)?;
            for (slot, count) in counts.iter().enumerate() {
                let cluster = first + slot as u64;
                match (self.survey.used.contains(cluster), count) {
                    (false, 0) | (true, 1) => (),
                    (false, _) => self.survey.report.leak(cluster * size),
                    (true, _) => {
                        let what = format!("the refcount is {count} where one thing refers to it");
                        self.survey.report.error(cluster * size, what);
                    }
                }
            }
        }
        for cluster in covered..self.survey.used.end() {
            if self.survey.used.contains(cluster) {
                self.survey.report.error(cluster * size, "a used cluster has no refcount");
            }
        }
        Ok(())
    }

    /// The refcounts of one block; without a block they are all 0.
    fn counts(&self, block: Option<u64>) -> Result<Vec<u16>, OpenError> {
        let mut bytes = vec![0; self.geometry.cluster_len()];
        if let Some(offset) = block {
            let read: Result<(), BlockError> = self.file.read_exact_at(&mut bytes, offset);
            read.map_err(OpenError::read(self.path))?;
        }
        let pairs = bytes.chunks_exact(2);
        Ok(pairs.map(|pair| u16::from(pair[0]) << 8 | u16::from(pair[1])).collect())
    }
}
