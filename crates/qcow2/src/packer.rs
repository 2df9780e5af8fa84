//! Compressed clusters on their way into the file.
//!
//! Their streams are packed one behind the other, at any byte, into segments in memory. A full segment is
//! written in one piece by whoever finds it full, and can be read from memory until it is in the file.

use std::sync::Arc;

use hub_block::{ALIGNMENT, BlockError, BufferPool, PooledBuffer};
use parking_lot::Mutex;
use zstd::bulk::Compressor;

use crate::format::{Geometry, SECTOR, index};
use crate::mapping::Mapping;
use crate::store_file::StoreFile;

/// Bytes of the first and of the largest segments, unless a cluster is larger; they double in between, so
/// that a small image has no large gap.
const FIRST_SEGMENT: u64 = 256 << 10;
const SEGMENT: u64 = 2 << 20;
/// Segments and contexts that are kept for the next use.
const KEPT_SEGMENTS: usize = 4;
const KEPT_CONTEXTS: usize = 16;
/// Streams take at least this part of a cluster, so that no host cluster holds parts of more than
/// 32,769 of them: 32,768 that begin in it and one that began before. Refcounts of 16 bits count 65,535.
const MOST_PER_CLUSTER: u64 = 32_768;

/// Compression with zstd, at a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zstd {
    level: u8,
}

impl Zstd {
    /// The highest level.
    pub const MAX_LEVEL: u8 = 19;

    /// Levels go from 1, the fastest, to 19; other numbers are none.
    pub const fn new(level: u8) -> Option<Self> {
        if level >= 1 && level <= Self::MAX_LEVEL { Some(Self { level }) } else { None }
    }

    /// The level.
    pub const fn level(self) -> u8 {
        self.level
    }
}

impl Default for Zstd {
    /// The level whose images are as small as those of other tools, which use it, too.
    fn default() -> Self {
        Self { level: 3 }
    }
}

/// Compresses clusters and packs them into the file.
pub(crate) struct Packer {
    zstd: Zstd,
    geometry: Geometry,
    segments: BufferPool,
    streams: BufferPool,
    idle: Mutex<Vec<Compressor<'static>>>,
    packing: Mutex<Packing>,
}

#[derive(Default)]
struct Packing {
    open: Option<Open>,
    /// Full, and not yet known to be in the file.
    full: Vec<Arc<Full>>,
    /// How many segments there have been.
    opened: u32,
    /// Whether one of them could not be written.
    failed: bool,
}

/// A segment that takes more.
struct Open {
    host: u64,
    buffer: PooledBuffer,
    len: usize,
}

/// A segment that is complete.
struct Full {
    host: u64,
    buffer: PooledBuffer,
    /// Whole pages.
    len: usize,
}

/// A segment that has just been closed.
struct Closed {
    full: Arc<Full>,
    /// Offset and length of what was not used of it.
    left: Option<(u64, usize)>,
}

impl Open {
    fn has_room(&self, len: usize) -> bool {
        self.len + len <= self.buffer.len()
    }
}

impl Packer {
    pub(crate) fn new(zstd: Zstd, geometry: Geometry) -> Self {
        Self {
            zstd,
            geometry,
            segments: BufferPool::new(index(SEGMENT.max(geometry.cluster_size())), KEPT_SEGMENTS),
            streams: BufferPool::new(geometry.cluster_len(), KEPT_CONTEXTS),
            idle: Mutex::default(),
            packing: Mutex::default(),
        }
    }

    /// Compresses a whole cluster and packs it; nothing if that saves less than a sector. Blocks.
    ///
    /// `take` hands out so many neighbouring host clusters.
    /// An error is that of an earlier segment: its bytes stay in memory and in the way of all others
    /// until they can be written.
    pub(crate) fn pack(
        &self,
        cluster: &[u8],
        file: &StoreFile,
        take: impl FnOnce(u64) -> u64,
    ) -> Result<Option<Mapping>, BlockError> {
        let mut stream = self.streams.take(cluster.len());
        let Some(len) = self.compress(cluster, &mut stream) else { return Ok(None) };
        let least = index(self.geometry.cluster_size().div_ceil(MOST_PER_CLUSTER));
        if len < least {
            stream[len..least].fill(0);
        }
        let len = len.max(least);
        let host = self.append(&stream[..len], file, take)?;
        Ok(Mapping::compressed(host, len as u64, self.geometry))
    }

    /// The length of the stream of a cluster, if it is short enough.
    fn compress(&self, cluster: &[u8], stream: &mut [u8]) -> Option<usize> {
        let room = cluster.len().checked_sub(index(SECTOR)).filter(|room| *room > 0)?;
        let idle = self.idle.lock().pop();
        let mut context = match idle {
            Some(context) => context,
            None => Compressor::new(i32::from(self.zstd.level)).ok()?,
        };
        let len = context.compress_to_buffer(cluster, &mut stream[..room]);
        let mut idle = self.idle.lock();
        if idle.len() < KEPT_CONTEXTS {
            idle.push(context);
        }
        // An error says that the stream did not fit; a plain cluster is right after every other one, too.
        len.ok()
    }

    fn append(
        &self,
        stream: &[u8],
        file: &StoreFile,
        take: impl FnOnce(u64) -> u64,
    ) -> Result<u64, BlockError> {
        let mut packing = self.packing.lock();
        let mut full = None;
        if packing.open.as_ref().is_some_and(|open| !open.has_room(stream.len())) {
            full = packing.close().map(|it| it.full);
        }
        let cluster_size = self.geometry.cluster_size();
        let Packing { open, opened, .. } = &mut *packing;
        let open = open.get_or_insert_with(|| {
            let len = (FIRST_SEGMENT << (*opened).min(16)).min(SEGMENT).max(cluster_size);
            *opened += 1;
            let host = take(len / cluster_size);
            Open { host, buffer: self.segments.take(index(len)), len: 0 }
        });
        let host = open.host + open.len as u64;
        open.buffer[open.len..open.len + stream.len()].copy_from_slice(stream);
        open.len += stream.len();
        let failed = std::mem::take(&mut packing.failed);
        let full: Vec<_> = if failed { packing.full.clone() } else { full.into_iter().collect() };
        drop(packing);
        full.iter().try_for_each(|full| self.write(full, file))?;
        Ok(host)
    }

    fn write(&self, full: &Arc<Full>, file: &StoreFile) -> Result<(), BlockError> {
        let written = file.write_all_at(&full.buffer[..full.len], full.host);
        let mut packing = self.packing.lock();
        match &written {
            Ok(()) => packing.full.retain(|it| !Arc::ptr_eq(it, full)),
            Err(_) => packing.failed = true,
        }
        written
    }

    /// Brings everything that was packed into the file; what a segment has left is used on. Blocks.
    ///
    /// A segment that somebody else is writing at this moment is written twice, with the same bytes.
    pub(crate) fn write_out(&self, file: &StoreFile) -> Result<(), BlockError> {
        let full = {
            let mut packing = self.packing.lock();
            if let Some(Closed { left: Some((host, len)), .. }) = packing.close() {
                packing.open = Some(Open { host, buffer: self.segments.take(len), len: 0 });
            }
            packing.full.clone()
        };
        full.iter().try_for_each(|full| self.write(full, file))
    }

    /// The same, and gives up what the segment has left. Blocks.
    pub(crate) fn finish(&self, file: &StoreFile) -> Result<(), BlockError> {
        let full = {
            let mut packing = self.packing.lock();
            packing.close();
            packing.full.clone()
        };
        full.iter().try_for_each(|full| self.write(full, file))
    }

    /// Copies packed bytes that are still in memory, as far as they go; nothing if they are in the file.
    pub(crate) fn peek(&self, host: u64, bytes: &mut [u8]) -> Option<usize> {
        let packing = self.packing.lock();
        let open = packing.open.iter().map(|it| (it.host, &it.buffer[..it.len]));
        let full = packing.full.iter().map(|it| (it.host, &it.buffer[..it.len]));
        for (begin, segment) in open.chain(full) {
            let rest = host.checked_sub(begin).and_then(|at| segment.get(index(at)..));
            if let Some(rest) = rest.filter(|rest| !rest.is_empty()) {
                let len = rest.len().min(bytes.len());
                bytes[..len].copy_from_slice(&rest[..len]);
                return Some(len);
            }
        }
        None
    }
}

impl Packing {
    /// Ends the open segment at the next page, and tells place and length of what is left of it.
    fn close(&mut self) -> Option<Closed> {
        let Open { host, mut buffer, len: used } = self.open.take()?;
        let len = used.next_multiple_of(ALIGNMENT).min(buffer.len());
        // Who had the buffer before left something there.
        buffer[used..len].fill(0);
        let left = buffer.len() - len;
        let left = (left > 0).then_some((host + len as u64, left));
        let full = Arc::new(Full { host, buffer, len });
        self.full.push(full.clone());
        Some(Closed { full, left })
    }
}
