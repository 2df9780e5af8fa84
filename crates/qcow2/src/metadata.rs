//! Metadata: L2 tables, L1 table and refcounts, computed for exactly what is in the file and written in one go.

use std::sync::Arc;

use hub_block::BlockError;
use hub_block::failpoint::{self, Point};

use crate::body::ImageBody;
use crate::cluster_map::{ClusterMap, Table};
use crate::format::{
    COPIED, CompressionType, Geometry, MAX_REFCOUNT_TABLE_BYTES, OFFSET, REFCOUNT_ORDER, index,
};
use crate::header::{Header, NamedBacking};
use crate::used_clusters::UsedClusters;

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
    /// L2 tables that were written: table number and offset.
    pub(crate) homes: Vec<(u64, u64)>,
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
            compression: CompressionType::Zlib,
        }
    }
}

/// Hands out clusters for tables: such that nothing uses and that no earlier state of the file needs.
struct Places {
    used: UsedClusters,
    blocked: UsedClusters,
    cursor: u64,
}

impl Places {
    fn take(&mut self, count: u64) -> u64 {
        let first = self.blocked.free_run(self.cursor, count);
        for cluster in first..first + count {
            self.used.insert(cluster);
            self.blocked.insert(cluster);
        }
        if count == 1 {
            self.cursor = first + 1;
        }
        first
    }
}

/// Adds the host clusters of every entry of the changed tables.
pub(crate) fn insert_changed(
    map: &ClusterMap,
    geometry: Geometry,
    used: &mut UsedClusters,
) -> usize {
    let mut data = 0;
    for (_, table) in map.changed() {
        for entry in &table.entries {
            let host = entry & OFFSET;
            if host != 0 {
                used.insert(host / geometry.cluster_size());
                data += 1;
            }
        }
    }
    data
}

/// Writes all tables that are newer in memory, and refcounts for `used` and for the tables themselves.
///
/// Clusters in `kept` belong to the state that the header still points to, and are not written.
/// Nothing is changed in memory, so it can be tried again. Blocks.
pub(crate) fn write_metadata(
    body: &ImageBody,
    used: UsedClusters,
    kept: &UsedClusters,
) -> Result<WrittenMetadata, BlockError> {
    let geometry = body.geometry;
    let size = geometry.cluster_size();
    let mut blocked = used.clone();
    blocked.insert_all(kept);
    let mut places = Places { used, blocked, cursor: 1 };
    let map = body.map.read();

    let mut homes = Vec::new();
    for (number, table) in map.changed() {
        if table.home.is_some() || table.entries.iter().any(|entry| *entry != 0) {
            let home = places.take(1) * size;
            body.file.write_buffered(&big_endian(&table.entries), home)?;
            homes.push((number, home));
        }
    }
    let mut placement = write_l1(body, &map, &homes, &mut places)?;
    write_refcounts(body, &mut placement, &mut places)?;
    Ok(WrittenMetadata { placement, homes, used: places.used })
}

fn write_l1(
    body: &ImageBody,
    map: &ClusterMap,
    homes: &[(u64, u64)],
    places: &mut Places,
) -> Result<Placement, BlockError> {
    let geometry = body.geometry;
    let l1_entries = geometry.l1_entries(body.virtual_size);
    let clusters = geometry.clusters(l1_entries * 8);
    let mut l1 = vec![0; index(clusters * geometry.table_entries())];
    for (number, table) in map.tables() {
        let home = match table {
            Table::Stored(offset) => Some(*offset),
            Table::Loaded(loaded) => loaded.home,
        };
        l1[index(number)] = home.map_or(0, |offset| offset | COPIED);
    }
    for (number, home) in homes {
        l1[index(*number)] = home | COPIED;
    }
    let l1_offset = places.take(clusters) * geometry.cluster_size();
    body.file.write_buffered(&big_endian(&l1), l1_offset)?;
    Ok(Placement { l1_offset, l1_entries, ..Placement::default() })
}

/// Refcount blocks describe themselves and their table, so their number is found by trying.
fn write_refcounts(
    body: &ImageBody,
    placement: &mut Placement,
    places: &mut Places,
) -> Result<(), BlockError> {
    let geometry = body.geometry;
    let size = geometry.cluster_size();
    let end = places.blocked.end();
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
    for (number, offset) in placement.blocks.iter().enumerate() {
        let first = number as u64 * geometry.refcounts_per_block();
        let counts = first..first + geometry.refcounts_per_block();
        let block: Vec<u8> =
            counts.flat_map(|it| u16::from(places.used.contains(it)).to_be_bytes()).collect();
        body.file.write_buffered(&block, *offset)?;
    }
    Ok(())
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
