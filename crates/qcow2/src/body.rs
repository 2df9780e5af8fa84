//! The growing body of an image: data clusters in the file, and the map of them in memory.
//!
//! The writer of new images and the updater of existing ones differ only in where a body comes from and
//! how its metadata is written; everything in between is here.

mod tables;
mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use hub_block::{
    ALIGNMENT, BlockDevice, BlockError, BlockingDevice, BufferPool, Extent, ExtentKind,
    PooledBuffer, check_range, merge_extents,
};
use parking_lot::{Mutex, RwLock};

pub(crate) use self::write::Content;
use crate::cluster_codec::Unpacker;
use crate::cluster_lock::{ClusterGuard, ClusterLocks};
use crate::cluster_map::ClusterMap;
use crate::format::{CompressionType, Geometry, index};
use crate::packer::{Packer, Zstd};
use crate::run::{Run, RunKind, resolve, table_spans};
use crate::store_file::{StoreFile, blocking};

/// Reads up to this size share one pool of buffers.
const POOLED_READ: usize = 1 << 20;
/// Fewest tables that are kept in memory.
const LEAST_TABLES: usize = 8;

/// What lies under clusters that the image itself does not have.
pub(crate) enum Base {
    /// Zeroes.
    Nothing,
    /// A backing chain of this size that the image names, but that nobody opened for it.
    Unopened(u64),
    /// A backing chain.
    Device(Arc<dyn BlockDevice>),
}

/// What a body begins with.
pub(crate) struct Beginning {
    pub(crate) file: StoreFile,
    pub(crate) virtual_size: u64,
    pub(crate) base: Base,
    pub(crate) map: ClusterMap,
    /// Number of the first host cluster to hand out.
    pub(crate) next: u64,
    /// Bytes of tables that may stay in memory.
    pub(crate) table_memory: u64,
    pub(crate) compression: Option<Zstd>,
}

/// Data clusters and their map; all writing goes to the end of the file or over clusters of its own.
pub(crate) struct ImageBody {
    pub(crate) file: StoreFile,
    pub(crate) geometry: Geometry,
    pub(crate) virtual_size: u64,
    pub(crate) map: RwLock<ClusterMap>,
    /// Held by whoever writes tables to the file.
    pub(crate) tables_out: Mutex<()>,
    /// Number of the next host cluster to hand out; the one counter that orders the file.
    pub(crate) next: AtomicU64,
    pub(crate) packer: Option<Packer>,
    keep_tables: usize,
    base: Base,
    locks: Arc<ClusterLocks>,
    closed: AtomicBool,
    pool: BufferPool,
    unpacker: Unpacker,
}

impl ImageBody {
    pub(crate) fn new(begin: Beginning) -> Self {
        let Beginning { mut file, virtual_size, base, map, next, table_memory, compression } =
            begin;
        let geometry = map.geometry();
        let pool = BufferPool::new(POOLED_READ, 16);
        // Smaller clusters share pages, which no two ways of writing may meet in.
        if geometry.cluster_len() >= ALIGNMENT {
            file.write_directly(pool.clone());
        }
        Self {
            file,
            geometry,
            virtual_size,
            map: RwLock::new(map),
            tables_out: Mutex::default(),
            next: AtomicU64::new(next),
            keep_tables: index(table_memory / geometry.cluster_size()).max(LEAST_TABLES),
            base,
            locks: Arc::default(),
            closed: AtomicBool::new(false),
            pool,
            packer: compression.map(|zstd| Packer::new(zstd, geometry)),
            unpacker: Unpacker::new(CompressionType::Zstd),
        }
    }

    /// Waits for all writes that were asked for earlier and holds back all later ones.
    pub(crate) async fn stop_writes(&self) -> ClusterGuard {
        self.locks.acquire(0..u64::MAX).await
    }

    /// Refuses all writes from now on.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) async fn flush(self: &Arc<Self>) -> Result<(), BlockError> {
        let body = self.clone();
        blocking(move || {
            if let Some(packer) = &body.packer {
                packer.write_out(&body.file)?;
            }
            body.file.sync()
        })
        .await
    }

    pub(crate) async fn read(self: &Arc<Self>, offset: u64, len: u32) -> Result<Bytes, BlockError> {
        check_range(offset, u64::from(len), self.virtual_size)?;
        let body = self.clone();
        let (mut buffer, absent) = blocking(move || body.read_own(offset, u64::from(len))).await?;
        for run in absent {
            let bytes = self.read_base(run.offset, run.len).await?;
            let start = index(run.offset - offset);
            buffer[start..start + bytes.len()].copy_from_slice(&bytes);
        }
        Ok(buffer.freeze())
    }

    /// Reads what the file has; the rest is zero, and the runs that are the base's to answer are returned.
    fn read_own(&self, offset: u64, len: u64) -> Result<(PooledBuffer, Vec<Run>), BlockError> {
        let mut buffer = self.pool.take(index(len));
        let mut absent = Vec::new();
        for run in self.runs(offset, len)? {
            let start = index(run.offset - offset);
            let target = &mut buffer[start..start + index(run.len)];
            match run.kind {
                RunKind::Data { host } => self.file.read_exact_at(target, host)?,
                RunKind::Compressed { host, stored, start } => {
                    let cluster = self.unpack(host, stored)?;
                    target.copy_from_slice(&cluster[index(start)..][..target.len()]);
                }
                RunKind::Zero => target.fill(0),
                RunKind::Absent => {
                    target.fill(0);
                    absent.push(run);
                }
            }
        }
        Ok((buffer, absent))
    }

    /// Reads a compressed cluster. Blocks.
    fn unpack(&self, host: u64, stored: u64) -> Result<PooledBuffer, BlockError> {
        let mut packed = self.pool.take(index(stored));
        let in_memory = self.packer.as_ref().and_then(|it| it.peek(host, &mut packed));
        let len = match in_memory {
            Some(len) => len,
            None => self.file.read_up_to_at(&mut packed, host)?,
        };
        let mut cluster = self.pool.take(self.geometry.cluster_len());
        self.unpacker.unpack(&packed[..len], &mut cluster).map_err(|what| {
            let what = format!("{what} in {}", self.file.label());
            BlockError::Corrupt { offset: host, what }
        })?;
        Ok(cluster)
    }

    /// Reads on the calling thread, unless the base has to be asked. Blocks.
    fn read_alone(&self, offset: u64, len: u32) -> Option<Result<Bytes, BlockError>> {
        let inside = check_range(offset, u64::from(len), self.virtual_size);
        match inside.and_then(|()| self.read_own(offset, u64::from(len))) {
            Ok((buffer, absent)) if absent.is_empty() || matches!(self.base, Base::Nothing) => {
                Some(Ok(buffer.freeze()))
            }
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        }
    }

    /// Reads from under the image as many bytes of a range as there are.
    async fn read_base(&self, offset: u64, len: u64) -> Result<Bytes, BlockError> {
        let len = len.min(self.base_size().saturating_sub(offset));
        if len == 0 {
            return Ok(Bytes::new());
        }
        match &self.base {
            Base::Nothing => Ok(Bytes::new()),
            Base::Unopened(_) => Err(BlockError::Unsupported(format!(
                "reading the backing chain of {}, which was created without a reader for it",
                self.file.label()
            ))),
            Base::Device(device) => {
                let len = u32::try_from(len).map_err(|_| BlockError::OutOfRange {
                    offset,
                    len,
                    size: self.virtual_size,
                })?;
                device.read_at(offset, len).await
            }
        }
    }

    /// Bytes that are covered by something under the image.
    fn base_size(&self) -> u64 {
        match &self.base {
            Base::Nothing => 0,
            Base::Unopened(size) => *size,
            Base::Device(device) => device.size(),
        }
    }

    pub(crate) async fn extents(
        self: &Arc<Self>,
        offset: u64,
        len: u64,
    ) -> Result<Vec<Extent>, BlockError> {
        check_range(offset, len, self.virtual_size)?;
        let body = self.clone();
        let runs = blocking(move || body.runs(offset, len)).await?;
        let mut found = Vec::with_capacity(runs.len());
        for run in runs {
            let of = |kind| Extent { offset: run.offset, len: run.len, kind };
            match run.kind {
                RunKind::Data { .. } | RunKind::Compressed { .. } => {
                    found.push(of(ExtentKind::Data));
                }
                RunKind::Zero => found.push(of(ExtentKind::Zero)),
                RunKind::Absent => found.extend(self.base_extents(run).await?),
            }
        }
        Ok(merge_extents(found))
    }

    async fn base_extents(&self, run: Run) -> Result<Vec<Extent>, BlockError> {
        let covered = run.len.min(self.base_size().saturating_sub(run.offset));
        let mut found = match &self.base {
            _ if covered == 0 => Vec::new(),
            Base::Nothing | Base::Unopened(_) => {
                vec![Extent { offset: run.offset, len: covered, kind: ExtentKind::Data }]
            }
            Base::Device(device) => device.extents(run.offset, covered).await?,
        };
        if covered < run.len {
            let (offset, len) = (run.offset + covered, run.len - covered);
            found.push(Extent { offset, len, kind: ExtentKind::Zero });
        }
        Ok(found)
    }

    /// What the map says about a range. Blocks where a table has to be read.
    fn runs(&self, offset: u64, len: u64) -> Result<Vec<Run>, BlockError> {
        let mut runs = Vec::new();
        for (table, at, len) in table_spans(self.geometry, offset, len) {
            let file_end = self.file_end();
            self.with_table(table, |view| {
                resolve(self.geometry, view, file_end, (at, len), &mut runs)
            })?
            .map_err(|(place, fault)| fault.at(place, self.file.label()))?;
        }
        Ok(runs)
    }

    /// The byte after the last host cluster that was handed out.
    fn file_end(&self) -> u64 {
        self.next.load(Ordering::Acquire) * self.geometry.cluster_size()
    }
}

impl BlockingDevice for ImageBody {
    fn read_now(&self, offset: u64, len: u32) -> Option<Result<Bytes, BlockError>> {
        self.read_alone(offset, len)
    }

    fn write_now(&self, offset: u64, data: &[u8]) -> Option<Result<(), BlockError>> {
        self.write_alone(offset, data)
    }
}
