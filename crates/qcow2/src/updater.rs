//! The updater of standalone images: data goes into the image in place, tables change as a whole.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use bytes::Bytes;
use hub_block::{BlockDevice, BlockError, BlockingDevice, Extent};
use parking_lot::Mutex;

use crate::body::{Base, Content, ImageBody};
use crate::cluster_map::ClusterMap;
use crate::error::OpenError;
use crate::format::{OFFSET, REFCOUNT_ORDER};
use crate::metadata::{Placement, insert_changed, publish, write_metadata};
use crate::store_file::{StoreFile, blocking};
use crate::survey::Survey;
use crate::used_clusters::UsedClusters;
use crate::writer::FinishedImage;

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
        if let Some(first) = survey.report.errors.first() {
            return Err(OpenError::corrupt(path, first.offset, first.what.clone()));
        }
        let geometry = survey.header.geometry;
        let mut map = ClusterMap::new(geometry);
        for (table, offset) in survey.tables {
            map.insert_stored(table, offset);
        }
        let size = survey.header.virtual_size;
        // What an interrupted update left behind the last used cluster is overwritten.
        let next = survey.used.end();
        let body = ImageBody::new(file, size, Base::Nothing, (geometry, map), next);
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
    let changed = body.map.read().changed().next().is_some();
    if changed {
        let (used, data_clusters) = used_by_data(body, committed);
        let written = write_metadata(body, used, &committed.used)?;
        publish(body, &written, None)?;
        let mut map = body.map.write();
        for (table, home) in &written.homes {
            map.settle(*table, *home);
        }
        *committed = Committed { used: written.used, placement: written.placement, data_clusters };
        body.next.store(committed.used.end(), Ordering::Release);
    }
    let file_bytes = committed.used.end() * size;
    body.file.set_len(file_bytes)?;
    body.file.sync()?;
    Ok(FinishedImage { file_bytes, data_clusters: committed.data_clusters })
}

/// What stays in use: the header, all data and the tables that did not change; and how much of it is data.
fn used_by_data(body: &ImageBody, committed: &Committed) -> (UsedClusters, u64) {
    let geometry = body.geometry;
    let map = body.map.read();
    let mut used = committed.used.clone();
    for cluster in committed.placement.clusters(geometry) {
        used.remove(cluster);
    }
    let mut fresh = 0;
    for (_, table) in map.changed() {
        if let Some(home) = table.home {
            used.remove(home / geometry.cluster_size());
        }
        let hosts = table.entries.iter().map(|entry| entry & OFFSET);
        let new =
            |host: &u64| *host != 0 && !committed.used.contains(host / geometry.cluster_size());
        fresh += hosts.filter(new).count() as u64;
    }
    insert_changed(&map, geometry, &mut used);
    (used, committed.data_clusters + fresh)
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
        let options = CreateOptions { virtual_size: 1 << 20, cluster_bits: 9, backing: None };
        let writer = ImageWriter::create_new(&path, options, None).unwrap();
        writer.write_at(0, Bytes::from(vec![1; 100_000])).await.unwrap();
        writer.finish().await.unwrap();
        let earlier = std::fs::read(&path).unwrap();

        let updater = ImageUpdater::open(&path).unwrap();
        updater.write_at(200_000, Bytes::from(vec![2; 50_000])).await.unwrap();
        updater.write_zeroes(0, 8192).await.unwrap();
        for _ in 0..2 {
            let committed = updater.committed.lock();
            let (used, _) = used_by_data(&updater.body, &committed);
            write_metadata(&updater.body, used, &committed.used).unwrap();
            let now = std::fs::read(&path).unwrap();
            assert!(now.len() > earlier.len() && now[..earlier.len()] == earlier);
        }
        assert!(crate::check_image(&path).unwrap().is_clean());
        updater.finish().await.unwrap();
        assert!(crate::check_image(&path).unwrap().is_clean());
    }
}
