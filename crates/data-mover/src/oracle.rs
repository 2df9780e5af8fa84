//! The data oracle of the tests: content is a function of disk, block and generation, so that a stale or
//! mixed block can be named and not only be found to differ.

use std::future::Future;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use hub_block::{BlockDevice, BlockError, Extent, MemoryDevice};

use crate::digest::digests_of;
use crate::{BlockSize, Digest, DigestTable};

/// Makes the content of one disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Oracle {
    disk: u64,
}

impl Oracle {
    pub(crate) fn new(disk: u64) -> Self {
        Self { disk }
    }

    /// The content of a block; generation 0 is zero.
    pub(crate) fn block(self, block: u64, generation: u64, len: usize) -> Vec<u8> {
        if generation == 0 {
            return vec![0; len];
        }
        let mut key = blake3::Hasher::new();
        for part in [self.disk, block, generation] {
            key.update(&part.to_le_bytes());
        }
        let mut content = vec![0; len];
        key.finalize_xof().fill(&mut content);
        content
    }

    /// A disk whose blocks have the generations given.
    pub(crate) fn mixed(self, len: usize, block: usize, generations: &[u64]) -> Vec<u8> {
        let mut disk = Vec::with_capacity(len);
        for (index, generation) in (0..len.div_ceil(block)).zip(generations.iter().cycle()) {
            let piece = block.min(len - disk.len());
            disk.extend(self.block(index as u64, *generation, piece));
        }
        disk
    }

    /// A disk with all blocks of one generation.
    pub(crate) fn disk(self, len: usize, block: usize, generation: u64) -> Vec<u8> {
        self.mixed(len, block, &[generation])
    }

    /// Which of the allowed generations each block has; none for one that is stale, mixed or of another disk.
    pub(crate) fn judge(self, disk: &[u8], block: usize, allowed: &[u64]) -> Vec<Option<u64>> {
        let blocks = (0..).zip(disk.chunks(block));
        blocks
            .map(|(index, found)| {
                let is = |generation: &u64| self.block(index, *generation, found.len()) == found;
                allowed.iter().copied().find(is)
            })
            .collect()
    }
}

/// The table of some content, computed the plain way.
pub(crate) fn table_of(content: &[u8], size: BlockSize) -> io::Result<DigestTable> {
    let table = DigestTable::temporary(content.len() as u64, size)?;
    table.set_many(0, &digests_of(content, size))?;
    Ok(table)
}

/// The first block about which a table claims something that is not so; unknown blocks claim nothing.
pub(crate) fn first_lie(table: &DigestTable, content: &[u8]) -> io::Result<Option<u64>> {
    let known =
        table.get_many(0, usize::try_from(table.block_count()).map_err(io::Error::other)?)?;
    let found = digests_of(content, table.block_size());
    let mut pairs = (0..).zip(known.iter().zip(&found));
    Ok(pairs
        .find(|(_, (known, found))| **known != Digest::UNKNOWN && known != found)
        .map(|(block, _)| block))
}

/// A device that answers every read with a byte too little.
pub(crate) struct ShortAnswers(pub(crate) MemoryDevice);

#[async_trait::async_trait]
impl BlockDevice for ShortAnswers {
    fn size(&self) -> u64 {
        self.0.size()
    }
    fn read_only(&self) -> bool {
        true
    }
    async fn read_at(&self, offset: u64, len: u32) -> Result<Bytes, BlockError> {
        Ok(self.0.read_at(offset, len).await?.slice(1..))
    }
    async fn write_at(&self, _offset: u64, _data: Bytes) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }
    async fn write_zeroes(&self, _offset: u64, _len: u64) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }
    async fn extents(&self, offset: u64, len: u64) -> Result<Vec<Extent>, BlockError> {
        self.0.extents(offset, len).await
    }
    async fn flush(&self) -> Result<(), BlockError> {
        Ok(())
    }
}

/// A writable device in memory.
pub(crate) fn memory(content: Vec<u8>) -> Arc<MemoryDevice> {
    Arc::new(MemoryDevice::new(content))
}

/// The same device behind the seam.
pub(crate) fn seam(device: &Arc<MemoryDevice>) -> Arc<dyn BlockDevice> {
    device.clone()
}

/// Runs a future in a property test, on a runtime of its own.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    match tokio::runtime::Builder::new_current_thread().build() {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => std::panic::panic_any(format!("no runtime for the test: {error}")),
    }
}

#[test]
fn stale_and_mixed_blocks_are_named() {
    let oracle = Oracle::new(7);
    let mut disk = oracle.mixed(10_000, 4_096, &[1, 2, 0]);
    assert_eq!(oracle.judge(&disk, 4_096, &[0, 1, 2]), [Some(1), Some(2), Some(0)]);
    assert_eq!(oracle.judge(&disk, 4_096, &[2]), [None, Some(2), None]);
    disk[5_000] ^= 1;
    assert_eq!(oracle.judge(&disk, 4_096, &[0, 1, 2]), [Some(1), None, Some(0)]);
    assert_eq!(Oracle::new(8).judge(&disk, 4_096, &[1, 2]), [None, None, None]);
}
