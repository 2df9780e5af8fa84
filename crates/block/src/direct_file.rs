//! Writing past the page cache: half the time and a tenth of the processor's work of buffered writing.
//!
//! A file has this second way in beside the buffered one, and both may be used on it as long as no page is
//! written in both ways at once. The kernel does the rest: a direct write first waits for the pages of its
//! range that are still dirty, and throws out those that a reader fetched meanwhile.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Advice, Mode, OFlags};

use crate::{ALIGNMENT, BufferPool};

/// Addresses, offsets and lengths of direct writes are multiples of this, which is also the size of a page.
const UNIT: usize = ALIGNMENT;
/// Bytes from unaligned memory are copied in pieces of this size.
const BOUNCE: usize = 1 << 20;

/// The direct way into a file, past the page cache.
///
/// Its owner sees to it that no page is written directly and through the page cache at the same time.
#[derive(Debug)]
pub struct DirectFile {
    file: File,
    pool: BufferPool,
    refused: AtomicBool,
}

impl DirectFile {
    /// Opens the direct way into a file, unless the file system refuses it; that is found out by trying.
    ///
    /// A file that is still empty is written to, and cut again. Memory that is not aligned is copied to buffers of the
    /// pool. Blocks the thread.
    pub fn open(path: &Path, file: &File, pool: BufferPool) -> Option<Self> {
        let flags = OFlags::RDWR | OFlags::DIRECT | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let direct = File::from(rustix::fs::open(path, flags, Mode::empty()).ok()?);
        let (known, opened) = (file.metadata().ok()?, direct.metadata().ok()?);
        if (known.dev(), known.ino()) != (opened.dev(), opened.ino()) {
            return None;
        }
        let mut buffer = pool.take(UNIT);
        if known.len() == 0 {
            buffer.fill(0);
            direct.write_all_at(&buffer, 0).ok()?;
            file.set_len(0).ok()?;
        } else {
            direct.read_at(&mut buffer, 0).ok()?;
        }
        // Reading ahead would only fetch pages that the next direct write throws out.
        let _ = rustix::fs::fadvise(file, 0, None, Advice::Random);
        Some(Self { file: direct, pool, refused: AtomicBool::new(false) })
    }

    /// Writes, if it is possible for a write of this place and length; false if it has to go the other way.
    /// Blocks the thread.
    pub fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<bool> {
        let whole = bytes.len().is_multiple_of(UNIT) && offset.is_multiple_of(UNIT as u64);
        if !whole || bytes.is_empty() || self.refused.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let written = if bytes.as_ptr().addr().is_multiple_of(UNIT) {
            self.write_aligned(bytes, offset)
        } else {
            self.write_bounced(bytes, offset)
        };
        match written {
            Ok(()) => Ok(true),
            // A file system that changes its mind, as some do for files with certain attributes.
            Err(error) if error.kind() == ErrorKind::InvalidInput => {
                self.refused.store(true, Ordering::Relaxed);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn write_bounced(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut at = offset;
        for piece in bytes.chunks(BOUNCE) {
            let mut buffer = self.pool.take(piece.len());
            buffer.copy_from_slice(piece);
            self.write_aligned(&buffer, at)?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    fn write_aligned(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            match self.file.write_at(&bytes[done..], offset + done as u64) {
                // What is written of a page is written once more, so that the rest stays aligned.
                Ok(len) if len >= UNIT => done += len / UNIT * UNIT,
                Ok(_) => return Err(ErrorKind::WriteZero.into()),
                Err(error) if error.kind() == ErrorKind::Interrupted => (),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at % 251).to_le_bytes()[0]).collect()
    }

    #[test]
    fn aligned_and_unaligned_memory_arrive_in_any_order_with_buffered_writes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let file = File::create_new(&path).unwrap();
        let pool = BufferPool::new(BOUNCE, 2);
        let Some(direct) = DirectFile::open(&path, &file, pool.clone()) else { return };
        assert_eq!(file.metadata().unwrap().len(), 0);
        let bytes = pattern(BOUNCE * 2 + 3 * UNIT);
        assert!(direct.write_all_at(&bytes[..bytes.len() - UNIT], 4096).unwrap());
        // A buffered write that nobody has synced, then a direct one over a part of it.
        file.write_all_at(&[7; 3 * UNIT], 0).unwrap();
        let mut aligned = pool.take(UNIT);
        aligned.copy_from_slice(&bytes[..UNIT]);
        assert!(direct.write_all_at(&aligned, 4096).unwrap());
        let found = std::fs::read(&path).unwrap();
        assert_eq!(found[..UNIT], [7; UNIT]);
        assert_eq!(found[UNIT..2 * UNIT], bytes[..UNIT]);
        assert_eq!(found[2 * UNIT..3 * UNIT], [7; UNIT]);
        assert_eq!(found[3 * UNIT..], bytes[2 * UNIT..bytes.len() - UNIT]);
    }

    #[test]
    fn what_is_not_whole_pages_goes_the_other_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let file = File::create_new(&path).unwrap();
        let Some(direct) = DirectFile::open(&path, &file, BufferPool::new(BOUNCE, 2)) else {
            return;
        };
        for (len, offset) in [(0, 0), (512, 0), (UNIT, 512), (UNIT + 1, 0)] {
            assert!(!direct.write_all_at(&pattern(len), offset).unwrap(), "{len} at {offset}");
        }
        assert_eq!(file.metadata().unwrap().len(), 0);
    }

    #[test]
    fn another_file_under_the_name_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let file = File::create_new(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, b"another").unwrap();
        assert!(DirectFile::open(&path, &file, BufferPool::new(BOUNCE, 2)).is_none());
        assert_eq!(std::fs::read(&path).unwrap(), b"another");
    }
}
