//! The reader: a whole chain of images as one read-only device.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use hub_block::{
    BlockDevice, BlockError, BlockingDevice, BufferPool, Extent, ExtentKind, check_range,
    merge_extents,
};

use crate::error::OpenError;
use crate::format::index;
use crate::gate::{BackingGate, Escapes};
use crate::layer::{Layer, TableCache};
use crate::recent::Recent;
use crate::run::{Run, RunKind};
use crate::store_file::blocking;

/// The longest chain that is opened, in images.
pub const MAX_DEPTH: usize = 256;

/// Bytes of L2 tables that are kept.
const TABLE_BUDGET: u64 = 16 << 20;
/// Bytes of unpacked clusters that are kept.
const UNPACKED_BUDGET: u64 = 8 << 20;
/// Reads up to this size share one pool of buffers.
const POOLED_READ: usize = 1 << 20;
/// Extents are looked up in windows of this many bytes, so that a large disk takes little memory.
const WINDOW: u64 = 1 << 30;

/// An image and everything it stands on, for reading.
///
/// Refcounts are not looked at; [`check_image`](crate::check_image) does that.
/// A compressed cluster that does not unpack to exactly one cluster is corrupt at its place in the file.
pub struct ImageReader {
    chain: Arc<Chain>,
    info: ImageInfo,
}

/// What the header of an image says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageInfo {
    /// The file.
    pub path: PathBuf,
    /// Size of the disk in bytes.
    pub virtual_size: u64,
    /// Clusters have 2^`cluster_bits` bytes.
    pub cluster_bits: u32,
    /// The backing file, as the image calls it.
    pub backing_name: Option<String>,
}

/// Where the bytes of a range are in the chain.
struct Piece {
    run: Run,
    layer: usize,
}

struct Chain {
    /// The image itself first.
    layers: Vec<Layer>,
    cache: TableCache,
    /// Clusters that were unpacked for a part of them, and may be asked for the rest.
    unpacked: Recent<Bytes>,
    pool: BufferPool,
}

impl ImageReader {
    /// Opens an image and all that it stands on; every backing file passes the gate. Blocks.
    pub fn open_chain(gate: &dyn BackingGate, image: &Path) -> Result<Self, OpenError> {
        let mut layers: Vec<Layer> = Vec::new();
        let mut seen = Vec::new();
        let mut path = image.to_owned();
        loop {
            let layer = Layer::open(&path)?;
            let identity = layer.file.identity().map_err(OpenError::io(&path))?;
            if seen.contains(&identity) {
                return Err(cycle(&layers, path));
            }
            if layers.len() == MAX_DEPTH {
                return Err(OpenError::TooDeep(path));
            }
            seen.push(identity);
            let next = backing_path(gate, &layer)?;
            layers.push(layer);
            match next {
                Some(next) => path = next,
                None => break,
            }
        }
        let info = info_of(&layers[0]);
        let sizes = layers.iter().map(|it| it.header.geometry.cluster_size());
        let largest = sizes.max().unwrap_or(0);
        let cache = Recent::new(largest, TABLE_BUDGET, 16, 1024);
        let unpacked = Recent::new(largest, UNPACKED_BUDGET, 2, 64);
        let pool = BufferPool::new(POOLED_READ, 16);
        Ok(Self { chain: Arc::new(Chain { layers, cache, unpacked, pool }), info })
    }

    /// How many images the chain has.
    pub fn depth(&self) -> usize {
        self.chain.layers.len()
    }

    /// What the header of the image itself says.
    pub fn info(&self) -> &ImageInfo {
        &self.info
    }
}

impl ImageInfo {
    /// Reads the header of one image, without what it stands on. Blocks.
    pub fn read(path: &Path) -> Result<Self, OpenError> {
        Ok(info_of(&Layer::open(path)?))
    }
}

/// The image that comes back to a file of the chain, and what it calls it.
fn cycle(layers: &[Layer], came_to: PathBuf) -> OpenError {
    let last = layers.last().and_then(|it| Some((it.path.clone(), it.header.backing.as_ref()?)));
    match last {
        Some((path, backing)) => OpenError::Cycle { path, named: backing.name.clone() },
        None => OpenError::Cycle { named: came_to.display().to_string(), path: came_to },
    }
}

fn info_of(layer: &Layer) -> ImageInfo {
    ImageInfo {
        path: layer.path.clone(),
        virtual_size: layer.header.virtual_size,
        cluster_bits: layer.header.geometry.cluster_bits(),
        backing_name: layer.header.backing.as_ref().map(|it| it.name.clone()),
    }
}

fn backing_path(gate: &dyn BackingGate, layer: &Layer) -> Result<Option<PathBuf>, OpenError> {
    let Some(backing) = &layer.header.backing else { return Ok(None) };
    let path = layer.path.clone();
    if backing.format != "qcow2" {
        return Err(OpenError::BackingFormat { path, format: backing.format.clone() });
    }
    let named = backing.name.clone();
    match gate.admit(&layer.path, &named) {
        Ok(admitted) => Ok(Some(admitted)),
        Err(Escapes::Missing(_)) => Err(OpenError::BackingMissing { path, named }),
        Err(source) => Err(OpenError::BackingRefused { path, named, source }),
    }
}

impl Chain {
    /// Finds every byte of a range; each image answers what those above it left open, within its own size.
    fn pieces(&self, offset: u64, len: u64) -> Result<Vec<Piece>, BlockError> {
        let mut found = Vec::new();
        let mut open = vec![(offset, len)];
        for (number, layer) in self.layers.iter().enumerate() {
            let mut runs = Vec::new();
            for (at, len) in open.drain(..) {
                let inside = len.min(layer.header.virtual_size.saturating_sub(at));
                layer.runs(number, &self.cache, (at, inside), &mut runs)?;
                if inside < len {
                    // The image ends here; bytes further down are not part of it, even if they exist.
                    found.push(zeroes(at + inside, len - inside));
                }
            }
            for run in runs {
                match run.kind {
                    RunKind::Absent => open.push((run.offset, run.len)),
                    RunKind::Zero | RunKind::Data { .. } | RunKind::Compressed { .. } => {
                        found.push(Piece { run, layer: number });
                    }
                }
            }
        }
        found.extend(open.into_iter().map(|(at, len)| zeroes(at, len)));
        found.sort_unstable_by_key(|piece| piece.run.offset);
        Ok(found)
    }

    fn read(&self, offset: u64, len: u64) -> Result<Bytes, BlockError> {
        let mut buffer = self.pool.take(index(len));
        for Piece { run, layer } in self.pieces(offset, len)? {
            let start = index(run.offset - offset);
            let target = &mut buffer[start..start + index(run.len)];
            match run.kind {
                RunKind::Data { host } => self.layers[layer].file.read_exact_at(target, host)?,
                RunKind::Compressed { host, stored, start } => {
                    self.read_packed(layer, (host, stored), start, target)?;
                }
                RunKind::Zero | RunKind::Absent => target.fill(0),
            }
        }
        Ok(buffer.freeze())
    }

    /// Reads a part of a compressed cluster; who asks for all of it at once gets it without a copy.
    fn read_packed(
        &self,
        layer: usize,
        packed: (u64, u64),
        start: u64,
        target: &mut [u8],
    ) -> Result<(), BlockError> {
        let image = &self.layers[layer];
        let len = image.header.geometry.cluster_len();
        if target.len() == len {
            return image.unpack(&self.pool, packed, target);
        }
        let cluster = match self.unpacked.get((layer, packed.0)) {
            Some(cluster) => cluster,
            None => {
                let mut cluster = vec![0; len];
                image.unpack(&self.pool, packed, &mut cluster)?;
                let cluster = Bytes::from(cluster);
                self.unpacked.insert((layer, packed.0), cluster.clone());
                cluster
            }
        };
        target.copy_from_slice(&cluster[index(start)..][..target.len()]);
        Ok(())
    }

    fn extents(&self, offset: u64, len: u64) -> Result<Vec<Extent>, BlockError> {
        let end = offset + len;
        let mut found: Vec<Extent> = Vec::new();
        let mut at = offset;
        while at < end {
            let step = WINDOW.min(end - at);
            let extents = self.pieces(at, step)?.into_iter().map(|Piece { run, .. }| Extent {
                offset: run.offset,
                len: run.len,
                kind: match run.kind {
                    RunKind::Data { .. } | RunKind::Compressed { .. } => ExtentKind::Data,
                    RunKind::Zero | RunKind::Absent => ExtentKind::Zero,
                },
            });
            found.extend(merge_extents(extents));
            at += step;
        }
        Ok(merge_extents(found))
    }
}

fn zeroes(offset: u64, len: u64) -> Piece {
    Piece { run: Run { offset, len, kind: RunKind::Zero }, layer: 0 }
}

#[async_trait]
impl BlockDevice for ImageReader {
    fn size(&self) -> u64 {
        self.info.virtual_size
    }

    fn read_only(&self) -> bool {
        true
    }

    async fn read_at(&self, offset: u64, len: u32) -> Result<Bytes, BlockError> {
        check_range(offset, u64::from(len), self.info.virtual_size)?;
        let chain = self.chain.clone();
        blocking(move || chain.read(offset, u64::from(len))).await
    }

    async fn write_at(&self, _offset: u64, _data: Bytes) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }

    async fn write_zeroes(&self, _offset: u64, _len: u64) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }

    async fn extents(&self, offset: u64, len: u64) -> Result<Vec<Extent>, BlockError> {
        check_range(offset, len, self.info.virtual_size)?;
        let chain = self.chain.clone();
        blocking(move || chain.extents(offset, len)).await
    }

    async fn flush(&self) -> Result<(), BlockError> {
        Ok(())
    }

    fn blocking(self: Arc<Self>) -> Option<Arc<dyn BlockingDevice>> {
        Some(self)
    }
}

impl BlockingDevice for ImageReader {
    fn read_now(&self, offset: u64, len: u32) -> Option<Result<Bytes, BlockError>> {
        let inside = check_range(offset, u64::from(len), self.info.virtual_size);
        Some(inside.and_then(|()| self.chain.read(offset, u64::from(len))))
    }

    fn write_now(&self, _offset: u64, _data: &[u8]) -> Option<Result<(), BlockError>> {
        Some(Err(BlockError::ReadOnly))
    }
}
