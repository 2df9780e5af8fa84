//! The updater of standalone images: data goes into the image in place, tables change as a whole.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use bytes::Bytes;
use hub_block::{BlockDevice, BlockError, BlockingDevice, Extent};
use parking_lot::Mutex;

use crate::body::{Base, Beginning, Content, ImageBody};
use crate::cluster_map::ClusterMap;
use crate::error::OpenError;
use crate::format::{CompressionType, REFCOUNT_ORDER};
use crate::metadata::{Placement, insert_referred, publish, write_metadata};
use crate::store_file::{StoreFile, blocking};
use crate::survey::Survey;
use crate::used_clusters::UsedClusters;
use crate::writer::{FinishedImage, TABLE_MEMORY};

/// Writes into an existing image that stands on nothing: a replica that is kept current.
///
/// Clusters that the image has are overwritten where they are, new ones go behind the end of the file.
/// The file is a sound image at every moment: tables in use are never written, but replaced by
/// [`finish`](Self::finish) with one write of the header's sector.
/// Until then new clusters are not part of the image, while overwritten ones are, so the content is mixed.
/// [`flush`](BlockDevice::flush) makes data durable, but not what belongs to new clusters.
///
/// Writes run concurrently, and may go on after `finish`, which is a point of the image's life, not its end.
/// Nobody else may write to the file meanwhile.
pub struct ImageUpdater {
    body: Arc<ImageBody>,
    committed: Arc<Mutex<Committed>>,
}

/// The state of the file that its header points to.
struct Committed {
    used: UsedClusters,
    placement: Placement,
    data_clusters: u64,
}

impl ImageUpdater {
    /// Opens an image that has no backing file, no snapshots, no compression, and passes
    /// [`check_image`](crate::check_image) without errors (leaks are repaired by `finish`). Blocks.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::open_within(path, TABLE_MEMORY)
    }

    /// The same, with so many bytes of L2 tables in memory. Blocks.
    pub fn open_within(path: &Path, table_memory: u64) -> Result<Self, OpenError> {
        let file = StoreFile::open_write(path).map_err(OpenError::io(path))?;
        let survey = Survey::of(&file, path)?;
        if survey.header.backing.is_some() {
            return Err(OpenError::unsupported(path, "updating an image with a backing file is"));
        }
        if survey.header.dirty {
            return Err(OpenError::unsupported(path, "updating an image that was not closed is"));
        }
        if survey.header.refcount_order != REFCOUNT_ORDER {
            return Err(OpenError::unsupported(
                path,
                "updating refcounts of other than 16 bits is",
            ));
        }
        let compressed = survey.header.compression != CompressionType::Zlib;
        if compressed || survey.report.compressed_clusters > 0 {
            return Err(OpenError::unsupported(path, "updating a compressed image is"));
        }
        if let Some(first) = survey.report.errors.first() {
            return Err(OpenError::corrupt(path, first.offset, first.what.clone()));
        }
        let geometry = survey.header.geometry;
        let mut map = ClusterMap::new(geometry);
        for (table, offset) in survey.tables {
            map.insert_committed(table, offset);
        }
        let size = survey.header.virtual_size;
        // What an interrupted update left behind the last used cluster is overwritten.
        let next = survey.used.end();
        let body = ImageBody::new(Beginning {
            file,
            virtual_size: size,
            base: Base::Nothing,
            map,
            next,
            table_memory,
            compression: None,
        });
        let committed = Committed {
            used: survey.used,
            placement: survey.placement,
            data_clusters: survey.report.data_clusters,
        };
        Ok(Self { body: Arc::new(body), committed: Arc::new(Mutex::new(committed)) })
    }

    /// Makes all that was written part of the image, durably: waits for writes in progress and holds back
    /// later ones, writes new tables beside the old ones, and exchanges them.
    ///
    /// After an error the image is still the earlier one with overwritten clusters, and unless a sync
    /// failed the call may be repeated. Dropping the future does not stop the work.
    pub async fn finish(&self) -> Result<FinishedImage, BlockError> {
        let guard = self.body.stop_writes().await;
        let (body, committed) = (self.body.clone(), self.committed.clone());
        blocking(move || {
            let _held_to_the_end = guard;
            commit(&body, &mut committed.lock())
        })
        .await
    }
}

fn commit(body: &Arc<ImageBody>, committed: &mut Committed) -> Result<FinishedImage, BlockError> {
    let size = body.geometry.cluster_size();
    let _tables_stay_where_they_are = body.tables_out.lock();
    let changed = body.map.read().uncommitted();
    if !changed.is_empty() {
        let (used, data_clusters) = used_by_data(body, committed, changed)?;
        let written = write_metadata(body, used, &committed.used)?;
        publish(body, &written, None)?;
        body.map.write().commit();
        *committed = Committed { used: written.used, placement: written.placement, data_clusters };
        body.next.store(committed.used.end(), Ordering::Release);
    }
    let file_bytes = committed.used.end() * size;
    body.file.set_len(file_bytes)?;
    body.file.sync()?;
    Ok(FinishedImage { file_bytes, data_clusters: committed.data_clusters })
}

/// What stays in use: the header, all data, the tables that did not change, and the places of those that
/// did if they have left the committed ones; and how much of it is data.
fn used_by_data(
    body: &ImageBody,
    committed: &Committed,
    changed: Vec<u64>,
) -> Result<(UsedClusters, u64), BlockError> {
    let geometry = body.geometry;
    let mut used = committed.used.clone();
    for cluster in committed.placement.clusters(geometry) {
        used.remove(cluster);
    }
    {
        let map = body.map.read();
        for offset in map.replaced() {
            used.remove(offset / geometry.cluster_size());
        }
        for (number, home) in map.homes() {
            let cluster = home.offset / geometry.cluster_size();
            if !home.committed {
                used.insert(cluster);
            } else if changed.binary_search(&number).is_ok() {
                used.remove(cluster);
            }
        }
    }
    let mut data_clusters = committed.data_clusters;
    insert_referred(body, changed, &mut used, |clusters| {
        data_clusters += clusters.filter(|it| !committed.used.contains(*it)).count() as u64;
    })?;
    Ok((used, data_clusters))
}

#[async_trait]
impl BlockDevice for ImageUpdater {
    fn size(&self) -> u64 {
        self.body.virtual_size
    }

    fn read_only(&self) -> bool {
        false
    }

    async fn read_at(&self, offset: u64, len: u32) -> Result<Bytes, BlockError> {
        self.body.read(offset, len).await
    }

    async fn write_at(&self, offset: u64, data: Bytes) -> Result<(), BlockError> {
        self.body.write(offset, Content::Bytes(data)).await
    }

    async fn write_zeroes(&self, offset: u64, len: u64) -> Result<(), BlockError> {
        self.body.write(offset, Content::Zeroes(len)).await
    }

    async fn extents(&self, offset: u64, len: u64) -> Result<Vec<Extent>, BlockError> {
        self.body.extents(offset, len).await
    }

    async fn flush(&self) -> Result<(), BlockError> {
        self.body.flush().await
    }

    fn blocking(self: Arc<Self>) -> Option<Arc<dyn BlockingDevice>> {
        Some(self.body.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::writer::{CreateOptions, ImageWriter};

    /// Promise P2: one who dies after writing the new tables and before the header leaves the earlier image.
    #[tokio::test]
    async fn tables_in_use_are_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("replica.qcow2");
        let options = CreateOptions { cluster_bits: 9, ..CreateOptions::new(1 << 20) };
        let writer = ImageWriter::create_new(&path, options, None).unwrap();
        writer.write_at(0, Bytes::from(vec![1; 100_000])).await.unwrap();
        writer.finish().await.unwrap();
        let earlier = std::fs::read(&path).unwrap();

        let updater = ImageUpdater::open(&path).unwrap();
        updater.write_at(200_000, Bytes::from(vec![2; 50_000])).await.unwrap();
        updater.write_zeroes(0, 8192).await.unwrap();
        for _ in 0..2 {
            let committed = updater.committed.lock();
            let changed = updater.body.map.read().uncommitted();
            let (used, _) = used_by_data(&updater.body, &committed, changed).unwrap();
            write_metadata(&updater.body, used, &committed.used).unwrap();
            let now = std::fs::read(&path).unwrap();
            assert!(now.len() > earlier.len() && now[..earlier.len()] == earlier);
        }
        assert!(crate::check_image(&path).unwrap().is_clean());
        updater.finish().await.unwrap();
        assert!(crate::check_image(&path).unwrap().is_clean());
    }
}
