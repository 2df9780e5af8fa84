//! A VMDK with its snapshots as a block device, read by this process from files that it holds open.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use hub_block::{BlockDevice, BlockError, BlockingDevice, BufferPool, Extent, check_range};

use super::descriptor::SECTOR;
use super::image::{Body, Image, OpenLayer, Part};
use super::open_file::OpenFile;
use super::sparse_extent::SparseExtent;
use super::table_cache::{MAX_CACHED, TableCache};
use super::{Chain, Directory, FileState, Layer, Storage, VmdkError};

/// Reads up to this size share one pool of buffers.
const POOLED_READ: usize = 1 << 20;

/// The most idle buffers that a disk keeps.
const POOLED_BUFFERS: usize = 16;

/// A disk held open, read-only.
///
/// Each read and each question is one blocking job, or is done at once on a thread that may block; any number of them
/// may run at once, and no lock is held while the file system works.
/// What a file does not hold any more when it is read is [`BlockError::Corrupt`] and never zeroes.
#[derive(Clone, Debug)]
pub struct VmdkDisk {
    image: Arc<Image>,
    pool: BufferPool,
}

impl VmdkDisk {
    /// Opens all files of a chain that was read in this directory, and checks that each is still what it was.
    pub fn open(directory: &Directory, chain: &Chain) -> Result<Self, VmdkError> {
        let mut opening = Opening { directory, extents: 0 };
        let layers = chain.layers().iter().map(|it| opening.layer(it));
        let layers = layers.collect::<Result<Vec<_>, _>>()?;
        let cache = TableCache::new(MAX_CACHED);
        let image = Arc::new(Image { layers, size: chain.capacity(), cache });
        Ok(Self { image, pool: BufferPool::new(POOLED_READ, POOLED_BUFFERS) })
    }

    /// The parts of a range that lie in the `layers` newest layers, in order and joined.
    pub async fn areas(
        &self,
        range: Range<u64>,
        layers: u32,
    ) -> Result<Vec<Range<u64>>, BlockError> {
        check_range(range.start, range.end.saturating_sub(range.start), self.image.size)?;
        self.on_image(move |image| image.areas(range, layers)).await
    }

    async fn on_image<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Image) -> Result<T, BlockError> + Send + 'static,
    ) -> Result<T, BlockError> {
        let image = self.image.clone();
        tokio::task::spawn_blocking(move || work(&image))
            .await
            .map_err(|error| BlockError::Io(io::Error::other(error)))?
    }
}

#[async_trait]
impl BlockDevice for VmdkDisk {
    fn size(&self) -> u64 {
        self.image.size
    }

    fn read_only(&self) -> bool {
        true
    }

    async fn read_at(&self, offset: u64, len: u32) -> Result<Bytes, BlockError> {
        check_range(offset, u64::from(len), self.image.size)?;
        let pool = self.pool.clone();
        self.on_image(move |image| read(image, &pool, offset, len)).await
    }

    async fn write_at(&self, _offset: u64, _data: Bytes) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }

    async fn write_zeroes(&self, _offset: u64, _len: u64) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }

    async fn extents(&self, offset: u64, len: u64) -> Result<Vec<Extent>, BlockError> {
        check_range(offset, len, self.image.size)?;
        self.on_image(move |image| image.extents(offset..offset + len)).await
    }

    async fn flush(&self) -> Result<(), BlockError> {
        Ok(())
    }

    fn blocking(self: Arc<Self>) -> Option<Arc<dyn BlockingDevice>> {
        Some(self)
    }
}

impl BlockingDevice for VmdkDisk {
    fn read_now(&self, offset: u64, len: u32) -> Option<Result<Bytes, BlockError>> {
        let inside = check_range(offset, u64::from(len), self.image.size);
        Some(inside.and_then(|()| read(&self.image, &self.pool, offset, len)))
    }

    fn write_now(&self, _offset: u64, _data: &[u8]) -> Option<Result<(), BlockError>> {
        Some(Err(BlockError::ReadOnly))
    }
}

/// Reads a range that lies on the disk.
fn read(image: &Image, pool: &BufferPool, offset: u64, len: u32) -> Result<Bytes, BlockError> {
    let mut buffer = pool.take(len as usize);
    image.read(offset, &mut buffer, pool)?;
    Ok(buffer.freeze())
}

/// A chain while it is opened.
struct Opening<'a> {
    directory: &'a Directory,
    /// Extents so far, over all layers.
    extents: u32,
}

impl Opening<'_> {
    fn layer(&mut self, layer: &Layer) -> Result<OpenLayer, VmdkError> {
        let mut files = layer.extents.iter();
        let mut parts = Vec::with_capacity(layer.descriptor.extents.len());
        let mut start = 0;
        for line in &layer.descriptor.extents {
            let len = line.sectors * SECTOR;
            let body = match &line.storage {
                Storage::Zero => Body::Zero,
                Storage::Flat { offset, .. } => {
                    Body::Flat { file: self.file(files.next())?, at: offset * SECTOR }
                }
                Storage::Sparse { .. } => {
                    self.extents += 1;
                    let file = self.file(files.next())?;
                    Body::Sparse(SparseExtent::open(file, len, self.extents)?)
                }
            };
            parts.push(Part { start, end: start + len, body });
            start += len;
        }
        Ok(OpenLayer { parts, capacity: start })
    }

    /// Opens an extent's file, which has to be the one that was looked at.
    fn file(&self, file: Option<&super::ExtentFile>) -> Result<OpenFile, VmdkError> {
        let known = file.ok_or(VmdkError::Missing("extent"))?;
        let (file, state) = self.directory.read(&known.name)?;
        let same = FileState { allocated: known.state.allocated, ..state } == known.state;
        if !same {
            return Err(VmdkError::Changed(known.name.clone()));
        }
        Ok(OpenFile::new(file, &known.name, state.len))
    }
}
