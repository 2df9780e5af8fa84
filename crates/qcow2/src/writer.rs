//! The writer of new images: append-only, and not an image at all before it is complete.

use std::path::{Component, Path};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use bytes::Bytes;
use hub_block::{BlockDevice, BlockError, BlockingDevice, Extent};
use parking_lot::Mutex;

use crate::body::{Base, Beginning, Content, ImageBody};
use crate::cluster_map::ClusterMap;
use crate::error::CreateError;
use crate::format::{CompressionType, Geometry, REFCOUNT_ORDER};
use crate::header::{Header, NamedBacking};
use crate::metadata::{insert_referred, publish, write_metadata};
use crate::packer::Zstd;
use crate::store_file::{StoreFile, blocking};
use crate::used_clusters::UsedClusters;

/// Writes a new image. Reads show what was written, over the backing chain where one was given.
///
/// Until [`finish`](Self::finish) has returned, the file begins with zeroes and nobody takes it for a
/// qcow2 image. A writer that is dropped before leaves such a file; removing it is the owner's part.
///
/// Writes run concurrently. A write whose future is dropped may still be done; `finish` waits for it.
/// [`flush`](BlockDevice::flush) makes the data durable that has been written, but not the image.
/// Memory stays within [`CreateOptions::table_memory`] and some 30 MiB, whatever the size of the disk: L2
/// tables that have not been used for long wait in the file for the end.
pub struct ImageWriter {
    pub(crate) body: Arc<ImageBody>,
    backing: Option<NamedBacking>,
    finished: Arc<Mutex<Option<FinishedImage>>>,
}

/// What a new image is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateOptions {
    /// Size of the disk in bytes: a multiple of 512, more than 0.
    pub virtual_size: u64,
    /// Clusters of 2^`cluster_bits` bytes, 9 to 21; 16 is the default of all tools.
    pub cluster_bits: u32,
    /// The image that the new one stands on.
    pub backing: Option<Backing>,
    /// Compresses clusters that are written as a whole, where that makes them smaller by a sector or more.
    /// Others are stored plain, and read faster.
    pub compression: Option<Zstd>,
    /// Bytes of L2 tables that stay in memory; each of 64 KiB describes 512 MiB of the disk.
    pub table_memory: u64,
}

/// What stays in memory of the tables of one image unless its owner says otherwise.
pub(crate) const TABLE_MEMORY: u64 = 8 << 20;

impl CreateOptions {
    /// A disk of so many bytes that stands alone, with clusters of 64 KiB, none of them compressed.
    pub const fn new(virtual_size: u64) -> Self {
        Self {
            virtual_size,
            cluster_bits: 16,
            backing: None,
            compression: None,
            table_memory: TABLE_MEMORY,
        }
    }
}

/// The image that a new one stands on; its format is always recorded as qcow2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backing {
    /// Its path relative to the directory of the new image: plain names only, no `..`, not absolute.
    pub name: String,
    /// Its size in bytes, which may be smaller than the new image's; what lies beyond reads as zeroes.
    pub virtual_size: u64,
}

/// A complete image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FinishedImage {
    /// Length of the file in bytes.
    pub file_bytes: u64,
    /// Number of clusters that hold data of the disk.
    pub data_clusters: u64,
}

impl ImageWriter {
    /// Creates the file, which must not exist, and begins the image in it.
    ///
    /// With a backing name but without a reader for it, only whole clusters can be written, and ranges
    /// that were not written cannot be read: both are [`BlockError::Unsupported`] rather than wrong bytes.
    pub fn create_new(
        path: &Path,
        options: CreateOptions,
        backing: Option<Arc<dyn BlockDevice>>,
    ) -> Result<Self, CreateError> {
        Self::begin(options, backing, |_, limit| {
            let file = StoreFile::create_new(path, limit).map_err(|source| {
                if source.kind() == std::io::ErrorKind::AlreadyExists {
                    CreateError::Exists(path.to_owned())
                } else {
                    CreateError::Io { path: path.to_owned(), source }
                }
            })?;
            // The first cluster is the header's and stays a hole until the end.
            Ok((file, 1))
        })
    }

    /// Begins an image in the file that `open` gives, whose next free cluster it tells.
    pub(crate) fn begin(
        options: CreateOptions,
        backing: Option<Arc<dyn BlockDevice>>,
        open: impl FnOnce(Geometry, u64) -> Result<(StoreFile, u64), CreateError>,
    ) -> Result<Self, CreateError> {
        let geometry = Geometry::new(options.cluster_bits)
            .ok_or(CreateError::ClusterBits(options.cluster_bits))?;
        let size = options.virtual_size;
        if size == 0 || !size.is_multiple_of(512) || !geometry.allows(size) {
            return Err(CreateError::VirtualSize(size));
        }
        let base = base(options.backing.as_ref(), backing)?;
        let named = options.backing.map(|it| named(geometry, size, it)).transpose()?;
        let limit = size.next_multiple_of(geometry.cluster_size()) + geometry.cluster_size();
        let (file, next) = open(geometry, limit)?;
        let body = ImageBody::new(Beginning {
            file,
            virtual_size: size,
            base,
            map: ClusterMap::new(geometry),
            next,
            table_memory: options.table_memory,
            compression: options.compression,
        });
        Ok(Self { body: Arc::new(body), backing: named, finished: Arc::default() })
    }

    /// Bytes of the file that data clusters have taken so far.
    pub fn allocated_bytes(&self) -> u64 {
        (self.body.next.load(Ordering::Acquire) - 1) * self.body.geometry.cluster_size()
    }

    /// Ends the image: waits for writes in progress and refuses later ones, writes all tables, makes
    /// everything durable, and only then writes the header and makes that durable, too.
    ///
    /// The directory entry is not made durable. A second call returns what the first did; after an error
    /// that was not a failed sync the call may be repeated. Dropping the future does not stop the work.
    pub async fn finish(&self) -> Result<FinishedImage, BlockError> {
        let guard = self.body.stop_writes().await;
        let (body, backing) = (self.body.clone(), self.backing.clone());
        let finished = self.finished.clone();
        blocking(move || {
            let _held_to_the_end = guard;
            let mut finished = finished.lock();
            if let Some(image) = *finished {
                return Ok(image);
            }
            let image = complete(&body, backing)?;
            *finished = Some(image);
            body.close();
            Ok(image)
        })
        .await
    }
}

fn complete(
    body: &Arc<ImageBody>,
    backing: Option<NamedBacking>,
) -> Result<FinishedImage, BlockError> {
    if let Some(packer) = &body.packer {
        packer.finish(&body.file)?;
    }
    let _tables_stay_where_they_are = body.tables_out.lock();
    let mut used = UsedClusters::default();
    used.insert(0);
    let tables = {
        let map = body.map.read();
        map.homes().for_each(|(_, home)| {
            used.insert(home.offset / body.geometry.cluster_size());
        });
        map.numbers()
    };
    let mut data_clusters = 0;
    insert_referred(body, tables, &mut used, |_| data_clusters += 1)?;
    let written = write_metadata(body, used, &UsedClusters::default())?;
    let size = body.geometry.cluster_size();
    for gap in written.used.gaps() {
        body.file.release(gap.start * size..gap.end * size);
    }
    let file_bytes = written.used.end() * size;
    body.file.set_len(file_bytes)?;
    publish(body, &written, backing)?;
    Ok(FinishedImage { file_bytes, data_clusters })
}

fn base(
    named: Option<&Backing>,
    device: Option<Arc<dyn BlockDevice>>,
) -> Result<Base, CreateError> {
    match (named, device) {
        (None, None) => Ok(Base::Nothing),
        (Some(named), None) => Ok(Base::Unopened(named.virtual_size)),
        (Some(named), Some(device)) if device.size() == named.virtual_size => {
            Ok(Base::Device(device))
        }
        (None | Some(_), Some(_)) => Err(CreateError::BackingMismatch),
    }
}

/// Checks the name, and that the header will have room for it (trap C27: names stay relative).
fn named(
    geometry: Geometry,
    virtual_size: u64,
    backing: Backing,
) -> Result<NamedBacking, CreateError> {
    let plain = Path::new(&backing.name).components().all(|it| matches!(it, Component::Normal(_)));
    // A colon before the first slash would make other tools read a protocol name.
    let protocol = backing.name.split('/').next().is_some_and(|first| first.contains(':'));
    let named = NamedBacking { name: backing.name.clone(), format: "qcow2".to_owned() };
    let header = Header {
        geometry,
        virtual_size,
        backing: Some(named.clone()),
        l1_offset: 0,
        l1_entries: 0,
        refcount_table_offset: 0,
        refcount_table_clusters: 0,
        refcount_order: REFCOUNT_ORDER,
        snapshots: 0,
        dirty: false,
        compression: CompressionType::Zlib,
    };
    if !plain || protocol || backing.name.is_empty() || header.encode().is_none() {
        return Err(CreateError::BackingName(backing.name));
    }
    Ok(named)
}

#[async_trait]
impl BlockDevice for ImageWriter {
    fn size(&self) -> u64 {
        self.body.virtual_size
    }

    fn read_only(&self) -> bool {
        self.body.is_closed()
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
