//! The digests of a whole disk, in a file, so that a disk of any size costs no memory.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hub_block::failpoint::{self, Point};
use hub_block::trail;
use rustix::fs::{FallocateFlags, SeekFrom};

use crate::{BlockSize, Digest};

/// The largest table, in bytes: 67,108,864 blocks.
pub const MAX_TABLE_BYTES: u64 = 2 << 30;

/// Bytes per digest in the file.
pub(crate) const DIGEST_BYTES: u64 = 32;

/// Digests that are read, copied and hashed together; also the group of the root's definition.
pub(crate) const GROUP: u64 = 1024;

/// One digest per block of a disk, 32 bytes each, in the order of the blocks, in a sparse file.
///
/// **It tells the truth or says that it does not know**: a digest is set after the block has been written,
/// and is [`Digest::UNKNOWN`] while nobody can say what the block holds.
/// A fresh table is all [`Digest::ZERO`]. All methods take `&self` and may be called from several threads;
/// they block on file I/O. Single digests and ranges that do not overlap may be set at the same time.
#[derive(Debug)]
pub struct DigestTable {
    file: Arc<File>,
    start: u64,
    capacity: u64,
    block_size: BlockSize,
    /// Blocks from this number on did not exist in the parent.
    inherited: AtomicU64,
    frozen: AtomicBool,
}

impl DigestTable {
    /// A table of zeroes in an unlinked file in the system's temporary directory.
    pub fn temporary(capacity: u64, block_size: BlockSize) -> io::Result<Self> {
        Self::fresh(tempfile::tempfile()?, capacity, block_size)
    }

    /// As [`temporary`](Self::temporary), in a directory with room for it.
    pub fn temporary_in(dir: &Path, capacity: u64, block_size: BlockSize) -> io::Result<Self> {
        Self::fresh(tempfile::tempfile_in(dir)?, capacity, block_size)
    }

    fn fresh(file: File, capacity: u64, block_size: BlockSize) -> io::Result<Self> {
        file.set_len(table_bytes(capacity, block_size)?)?;
        Self::over(Arc::new(file), 0, capacity, block_size)
    }

    /// The table that lies in `file` from `start` on; the caller has made the file long enough.
    pub(crate) fn over(
        file: Arc<File>,
        start: u64,
        capacity: u64,
        block_size: BlockSize,
    ) -> io::Result<Self> {
        table_bytes(capacity, block_size)?;
        let inherited = AtomicU64::new(block_size.blocks(capacity));
        Ok(Self { file, start, capacity, block_size, inherited, frozen: AtomicBool::new(false) })
    }

    /// How many blocks the disk has, the last and perhaps shorter one included.
    pub fn block_count(&self) -> u64 {
        self.block_size.blocks(self.capacity)
    }

    /// The size of the disk in bytes.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// The size of all blocks but perhaps the last.
    pub fn block_size(&self) -> BlockSize {
        self.block_size
    }

    /// The bytes of the disk that some blocks cover; the end is clipped to the disk's.
    pub fn bytes_of(&self, blocks: Range<u64>) -> Range<u64> {
        let at = |block: u64| block.saturating_mul(self.block_size.bytes()).min(self.capacity);
        at(blocks.start)..at(blocks.end)
    }

    /// The digest of one block.
    pub fn get(&self, block: u64) -> io::Result<Digest> {
        let mut bytes = [0; 32];
        self.file.read_exact_at(&mut bytes, self.place(block..block.saturating_add(1))?)?;
        Ok(Digest::from_bytes(bytes))
    }

    /// Sets the digest of one block.
    pub fn set(&self, block: u64, digest: Digest) -> io::Result<()> {
        self.set_many(block, &[digest])
    }

    /// The digests of `count` blocks from `first` on.
    pub fn get_many(&self, first: u64, count: usize) -> io::Result<Vec<Digest>> {
        let mut raw = Vec::new();
        self.read_raw(first, count, &mut raw)?;
        Ok(raw.as_chunks().0.iter().map(|bytes| Digest::from_bytes(*bytes)).collect())
    }

    /// Sets the digests of consecutive blocks from `first` on.
    pub fn set_many(&self, first: u64, digests: &[Digest]) -> io::Result<()> {
        let raw: Vec<u8> = digests.iter().flat_map(|digest| *digest.as_bytes()).collect();
        self.write_raw(first, &raw)
    }

    /// Gives many blocks the same digest; zeroes take no space.
    pub fn fill(&self, blocks: Range<u64>, digest: Digest) -> io::Result<()> {
        if digest == Digest::ZERO && blocks.end.saturating_sub(blocks.start) > GROUP {
            return self.punch(blocks);
        }
        let longest = vec![digest; usize_of(blocks.end.saturating_sub(blocks.start).min(GROUP))];
        let mut at = blocks.start;
        while at < blocks.end {
            let count = (blocks.end - at).min(GROUP);
            self.set_many(at, &longest[..usize_of(count)])?;
            at += count;
        }
        Ok(())
    }

    /// Makes every digest zero again, as in a fresh table.
    pub fn clear(&self) -> io::Result<()> {
        if self.next_stored(0)?.is_some() {
            self.punch(0..self.block_count())?;
        }
        self.inherited.store(self.block_count(), Ordering::Release);
        Ok(())
    }

    /// Takes over the digests of the parent, as the start of a delta.
    ///
    /// The disk may have grown: blocks that the parent did not have become zero and are remembered as new,
    /// and the parent's last block becomes [`Digest::UNKNOWN`] if it was short, because its digest
    /// covered fewer bytes. A parent that is larger or has other blocks is refused as invalid input.
    pub fn copy_from(&self, parent: &Self) -> io::Result<()> {
        if parent.block_size != self.block_size || parent.capacity > self.capacity {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the parent's digest table has other blocks or covers a larger disk",
            ));
        }
        self.clear()?;
        let end = parent.block_count();
        let mut raw = Vec::new();
        let mut at = 0;
        while let Some(stored) = parent.next_stored(at)? {
            let count = (end - stored).min(GROUP * 32);
            parent.read_raw(stored, usize_of(count), &mut raw)?;
            self.write_raw(stored, &raw)?;
            at = stored + count;
        }
        let short = !parent.capacity.is_multiple_of(self.block_size.bytes());
        if short && self.capacity > parent.capacity {
            self.set(end - 1, Digest::UNKNOWN)?;
        }
        self.inherited.store(end, Ordering::Release);
        Ok(())
    }

    /// The first block that the parent did not have; the block count for a table that stands alone.
    pub(crate) fn first_new_block(&self) -> u64 {
        self.inherited.load(Ordering::Acquire)
    }

    /// Says that every block has been examined, new ones too.
    pub(crate) fn forget_growth(&self) {
        self.inherited.store(self.block_count(), Ordering::Release);
    }

    /// Refuses every later change.
    pub(crate) fn freeze(&self) {
        self.frozen.store(true, Ordering::Release);
    }

    /// The first block at or after `block` whose digest takes space in the file; all before it are zero.
    pub(crate) fn next_stored(&self, block: u64) -> io::Result<Option<u64>> {
        if block >= self.block_count() {
            return Ok(None);
        }
        let place = self.place(block..block + 1)?;
        match rustix::fs::seek(&self.file, SeekFrom::Data(place)) {
            Ok(data) => {
                let stored = data.max(place).saturating_sub(self.start) / DIGEST_BYTES;
                Ok((stored < self.block_count()).then_some(stored))
            }
            Err(rustix::io::Errno::NXIO) => Ok(None),
            Err(rustix::io::Errno::INVAL) => Ok(Some(block)),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads `count` digests as bytes into a buffer that is used again.
    pub(crate) fn read_raw(&self, first: u64, count: usize, raw: &mut Vec<u8>) -> io::Result<()> {
        let place = self.place(first..first.saturating_add(count as u64))?;
        raw.resize(count * 32, 0);
        self.file.read_exact_at(raw, place)
    }

    /// Writes digests that are bytes already; their length is a multiple of 32.
    pub(crate) fn write_raw(&self, first: u64, raw: &[u8]) -> io::Result<()> {
        let count = raw.len() as u64 / DIGEST_BYTES;
        let place = self.place(first..first.saturating_add(count))?;
        self.check_thawed()?;
        failpoint::reach(Point::TableWrite)?;
        self.write_file(raw, place)
    }

    fn punch(&self, blocks: Range<u64>) -> io::Result<()> {
        let place = self.place(blocks.clone())?;
        self.check_thawed()?;
        let len = (blocks.end - blocks.start) * DIGEST_BYTES;
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.file, flags, place, len) {
            Ok(()) => {
                trail::cleared(&self.file, place, len);
                Ok(())
            }
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                let zeroes = vec![0; usize_of(len.min(GROUP * DIGEST_BYTES))];
                for at in (0..len).step_by(zeroes.len()) {
                    let step = usize_of((len - at).min(zeroes.len() as u64));
                    self.write_file(&zeroes[..step], place + at)?;
                }
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn write_file(&self, bytes: &[u8], place: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, place)?;
        trail::wrote(&self.file, place, bytes);
        Ok(())
    }

    fn check_thawed(&self) -> io::Result<()> {
        if self.frozen.load(Ordering::Acquire) {
            let what = "the digest table is sealed and cannot change";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
        }
        Ok(())
    }

    /// Where the digests of some blocks lie in the file; refuses blocks that the disk does not have.
    fn place(&self, blocks: Range<u64>) -> io::Result<u64> {
        if blocks.start > blocks.end || blocks.end > self.block_count() {
            let what = format!(
                "blocks {} to {} are not in a table of {}",
                blocks.start,
                blocks.end,
                self.block_count()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        Ok(self.start + blocks.start * DIGEST_BYTES)
    }
}

/// How many bytes the digests of a disk take; refuses disks whose table would be too large.
pub(crate) fn table_bytes(capacity: u64, block_size: BlockSize) -> io::Result<u64> {
    let bytes = block_size.blocks(capacity).checked_mul(DIGEST_BYTES);
    bytes.filter(|bytes| *bytes <= MAX_TABLE_BYTES).ok_or_else(|| {
        let what = format!(
            "a disk of {capacity} bytes in blocks of {} has too many blocks",
            block_size.get()
        );
        io::Error::new(io::ErrorKind::InvalidInput, what)
    })
}

/// A count that is known to be small, as an index.
pub(crate) fn usize_of(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
