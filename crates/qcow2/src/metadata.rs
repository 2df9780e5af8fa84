//! Metadata: L2 tables, L1 table and refcounts, computed for exactly what is in the file and written in one go.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hub_block::BlockError;
use hub_block::failpoint::{self, Point};

use crate::body::ImageBody;
use crate::format::{
    COMPRESSED, COPIED, CompressionType, Geometry, MAX_REFCOUNT_TABLE_BYTES, REFCOUNT_ORDER, index,
};
use crate::header::{Header, NamedBacking};
use crate::mapping::Mapping;
use crate::used_clusters::UsedClusters;

/// Refcounts that are computed at once; each pass over them reads all tables of a compressed image.
const COUNTS_AT_ONCE: u64 = 8 << 20;

/// Where an image has its tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Placement {
    pub(crate) l1_offset: u64,
    pub(crate) l1_entries: u64,
    pub(crate) refcount_table_offset: u64,
    pub(crate) refcount_table_clusters: u64,
    /// Offsets of the refcount blocks.
    pub(crate) blocks: Vec<u64>,
}

/// Metadata that is in the file, but that no header points to yet.
pub(crate) struct WrittenMetadata {
    pub(crate) placement: Placement,
    /// Every cluster of the file that is in use now.
    pub(crate) used: UsedClusters,
}

impl Placement {
    /// The host clusters of all tables but the L2 tables.
    pub(crate) fn clusters(&self, geometry: Geometry) -> impl Iterator<Item = u64> {
        let size = geometry.cluster_size();
        let run = move |offset: u64, count: u64| (0..count).map(move |at| offset / size + at);
        run(self.l1_offset, geometry.clusters(self.l1_entries * 8))
            .chain(run(self.refcount_table_offset, self.refcount_table_clusters))
            .chain(self.blocks.iter().map(move |offset| offset / size))
    }

    fn header(&self, body: &ImageBody, backing: Option<NamedBacking>) -> Header {
        Header {
            geometry: body.geometry,
            virtual_size: body.virtual_size,
            backing,
            l1_offset: self.l1_offset,
            l1_entries: self.l1_entries,
            refcount_table_offset: self.refcount_table_offset,
            refcount_table_clusters: self.refcount_table_clusters,
            refcount_order: REFCOUNT_ORDER,
            snapshots: 0,
            dirty: false,
            compression: match body.packer {
                Some(_) => CompressionType::Zstd,
                None => CompressionType::Zlib,
            },
        }
    }
}

/// Hands out clusters for tables: such that nothing uses and that no earlier state of the file needs.
struct Places<'a> {
    used: UsedClusters,
    kept: &'a UsedClusters,
    cursor: u64,
}

impl Places<'_> {
    fn take(&mut self, count: u64) -> u64 {
        let mut first = self.cursor;
        loop {
            let free = self.used.free_run(first, count);
            first = self.kept.free_run(free, count);
            if first == free {
                break;
            }
        }
        for cluster in first..first + count {
            self.used.insert(cluster);
        }
        if count == 1 {
            self.cursor = first + 1;
        }
        first
    }

    fn end(&self) -> u64 {
        self.used.end().max(self.kept.end())
    }
}

/// Adds the host clusters that some tables refer to, and calls `each` for every entry that has any.
pub(crate) fn insert_referred(
    body: &ImageBody,
    tables: Vec<u64>,
    used: &mut UsedClusters,
    mut each: impl FnMut(Range<u64>),
) -> Result<(), BlockError> {
    let end = body.next.load(Ordering::Acquire);
    used.make_room(end);
    body.each_table(tables, |entries| {
        for entry in entries.iter().filter(|entry| **entry != 0) {
            let clusters = Mapping::referred(*entry, body.geometry);
            clusters.clone().for_each(|cluster| {
                used.insert(cluster);
            });
            if !clusters.is_empty() {
                each(clusters);
            }
        }
    })
}

/// Writes all tables that are newer in memory, and refcounts for `used` and for the tables themselves.
///
/// `used` is all that is referred to, with the places of tables that may be written over.
/// Clusters in `kept` belong to the state that the header still points to, and are not written.
/// It can be tried again. Blocks; the caller holds `tables_out`, and nobody writes.
pub(crate) fn write_metadata(
    body: &ImageBody,
    used: UsedClusters,
    kept: &UsedClusters,
) -> Result<WrittenMetadata, BlockError> {
    let size = body.geometry.cluster_size();
    let mut places = Places { used, kept, cursor: 1 };
    let changed = body.map.read().changed();
    for table in changed {
        body.write_table(table, || {
            let place = places.take(1);
            // If this comes to nothing, writing goes on behind it.
            body.next.fetch_max(place + 1, Ordering::AcqRel);
            place * size
        })?;
    }
    let mut placement = write_l1(body, &mut places)?;
    write_refcounts(body, &mut placement, &mut places)?;
    Ok(WrittenMetadata { placement, used: places.used })
}

fn write_l1(body: &ImageBody, places: &mut Places<'_>) -> Result<Placement, BlockError> {
    let geometry = body.geometry;
    let l1_entries = geometry.l1_entries(body.virtual_size);
    let clusters = geometry.clusters(l1_entries * 8);
    let mut l1 = vec![0; index(clusters * geometry.table_entries())];
    for (number, home) in body.map.read().homes() {
        l1[index(number)] = home.offset | COPIED;
    }
    let l1_offset = places.take(clusters) * geometry.cluster_size();
    body.file.write_buffered(&big_endian(&l1), l1_offset)?;
    Ok(Placement { l1_offset, l1_entries, ..Placement::default() })
}

/// Refcount blocks describe themselves and their table, so their number is found by trying.
fn write_refcounts(
    body: &ImageBody,
    placement: &mut Placement,
    places: &mut Places<'_>,
) -> Result<(), BlockError> {
    let geometry = body.geometry;
    let size = geometry.cluster_size();
    let end = places.end();
    let (mut blocks, mut table_clusters) = (0, 0);
    loop {
        // Gaps may be filled instead, so this is enough and perhaps one too many.
        let needed = (end + blocks + table_clusters).div_ceil(geometry.refcounts_per_block());
        let clusters = geometry.clusters(needed * 8);
        if (needed, clusters) == (blocks, table_clusters) {
            break;
        }
        (blocks, table_clusters) = (needed, clusters);
    }
    if table_clusters * size > MAX_REFCOUNT_TABLE_BYTES {
        let what = format!("a file as large as {} with clusters as small", body.file.label());
        return Err(BlockError::Unsupported(what));
    }
    let numbers: Vec<u64> = (0..blocks).map(|_| places.take(1)).collect();
    placement.blocks = numbers.iter().map(|number| number * size).collect();
    placement.refcount_table_offset = places.take(table_clusters) * size;
    placement.refcount_table_clusters = table_clusters;

    let mut table = placement.blocks.clone();
    table.resize(index(table_clusters * geometry.table_entries()), 0);
    body.file.write_buffered(&big_endian(&table), placement.refcount_table_offset)?;
    write_blocks(body, &placement.blocks, &places.used)
}

/// Writes refcount blocks, so many at a time that their counts take little memory.
fn write_blocks(body: &ImageBody, blocks: &[u64], used: &UsedClusters) -> Result<(), BlockError> {
    let per_block = body.geometry.refcounts_per_block();
    let group = index(COUNTS_AT_ONCE / per_block).max(1);
    for (number, group_blocks) in blocks.chunks(group).enumerate() {
        let first = (number * group) as u64 * per_block;
        let clusters = first..first + group_blocks.len() as u64 * per_block;
        let mut counts = shared_counts(body, clusters.clone())?;
        for (count, cluster) in counts.iter_mut().zip(clusters) {
            // What compressed clusters do not share, one thing refers to, or nothing.
            if *count == 0 {
                *count = u16::from(used.contains(cluster));
            }
        }
        for (counts, offset) in counts.chunks(index(per_block)).zip(group_blocks) {
            let block: Vec<u8> = counts.iter().flat_map(|count| count.to_be_bytes()).collect();
            body.file.write_buffered(&block, *offset)?;
        }
    }
    Ok(())
}

/// How many compressed clusters have a part in each of some host clusters.
fn shared_counts(body: &ImageBody, clusters: Range<u64>) -> Result<Vec<u16>, BlockError> {
    let mut counts = vec![0_u16; index(clusters.end - clusters.start)];
    if body.packer.is_none() {
        return Ok(counts);
    }
    let tables = body.map.read().numbers();
    body.each_table(tables, |entries| {
        for entry in entries.iter().filter(|entry| **entry & COMPRESSED != 0) {
            for cluster in Mapping::referred(*entry, body.geometry) {
                if clusters.contains(&cluster) {
                    // The packer sees to it that no count comes near the end of its range.
                    let count = &mut counts[index(cluster - clusters.start)];
                    *count = count.saturating_add(1);
                }
            }
        }
    })?;
    Ok(counts)
}

/// Makes everything durable, then points the header at the new tables, then makes that durable. Blocks.
///
/// The header is one sector, so a power cut leaves the old state or the new one.
pub(crate) fn publish(
    body: &Arc<ImageBody>,
    written: &WrittenMetadata,
    backing: Option<NamedBacking>,
) -> Result<(), BlockError> {
    let header = written.placement.header(body, backing).encode().ok_or_else(|| {
        BlockError::Unsupported(format!("a header as large as that of {}", body.file.label()))
    })?;
    failpoint::reach(Point::ImageTablesWritten)?;
    body.file.sync()?;
    failpoint::reach(Point::ImageTablesSynced)?;
    body.file.write_buffered(&header, 0)?;
    failpoint::reach(Point::ImageHeaderWritten)?;
    body.file.sync()?;
    Ok(failpoint::reach(Point::ImageHeaderSynced)?)
}

fn big_endian(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}
