//! The file under an image: every byte that an image reads or writes goes through here.
//!
//! All calls block; the asynchronous side hands them to threads that may.
//! Whole pages are written past the page cache where the file system lets us. Everything else is buffered,
//! and written back a stretch at a time, so that the last sync finds little left to do.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hub_block::failpoint::{self, Point};
use hub_block::{BlockError, BufferPool, DirectFile, trail};
use parking_lot::Mutex;
use rustix::fs::{Advice, FallocateFlags};

/// The first step in which space is reserved; later steps double.
const FIRST_RESERVE: u64 = 4 << 20;
/// The largest step in which space is reserved.
const LARGEST_RESERVE: u64 = 512 << 20;
/// So many buffered bytes are written back before more are taken.
const STRETCH: u64 = 64 << 20;

/// A file that is read and written at offsets.
#[derive(Debug)]
pub(crate) struct StoreFile {
    file: File,
    path: PathBuf,
    label: String,
    direct: Option<DirectFile>,
    /// Bytes that were ever written through the page cache.
    buffered: AtomicU64,
    sync_failed: AtomicBool,
    reserve: Mutex<Reserve>,
}

#[derive(Debug)]
struct Reserve {
    end: u64,
    step: u64,
    limit: u64,
}

impl StoreFile {
    /// Creates a file that must not exist; space is reserved ahead of writing up to `limit` bytes.
    pub(crate) fn create_new(path: &Path, limit: u64) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        trail::created(&file, path);
        Ok(Self::over(file, path, limit))
    }

    /// Opens a regular file for reading.
    pub(crate) fn open_read(path: &Path) -> io::Result<Self> {
        require_regular(path)?;
        Ok(Self::over(File::open(path)?, path, 0))
    }

    /// Opens a regular file for reading and writing.
    pub(crate) fn open_write(path: &Path) -> io::Result<Self> {
        require_regular(path)?;
        Ok(Self::over(OpenOptions::new().read(true).write(true).open(path)?, path, 0))
    }

    fn over(file: File, path: &Path, limit: u64) -> Self {
        let reserve = Mutex::new(Reserve { end: 0, step: FIRST_RESERVE, limit });
        let label = path.display().to_string();
        let (buffered, sync_failed) = (AtomicU64::new(0), AtomicBool::new(false));
        Self { file, path: path.to_owned(), label, direct: None, buffered, sync_failed, reserve }
    }

    /// From now on writes whole pages directly, if the file system allows it.
    ///
    /// Only for files in which no page holds parts of two host clusters, and whose writers hold the lock of the guest
    /// cluster that a host cluster belongs to, or are the only ones who know it: then no page is ever written in both
    /// ways at once.
    pub(crate) fn write_directly(&mut self, pool: BufferPool) {
        self.direct = DirectFile::open(&self.path, &self.file, pool);
    }

    /// The path, for error texts.
    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    pub(crate) fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// What tells this file from every other one on the machine, whatever its name.
    pub(crate) fn identity(&self) -> io::Result<(u64, u64)> {
        let metadata = self.file.metadata()?;
        Ok((metadata.dev(), metadata.ino()))
    }

    /// Fills `buffer`; a file that ends before is corrupt.
    pub(crate) fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), BlockError> {
        failpoint::reach(Point::ImageRead)?;
        self.file.read_exact_at(buffer, offset).map_err(|error| {
            if error.kind() == ErrorKind::UnexpectedEof {
                let what = format!("{} ends too early", self.label);
                BlockError::Corrupt { offset, what }
            } else {
                BlockError::Io(error)
            }
        })
    }

    /// Fills `buffer` as far as the file goes, and returns how far that is.
    pub(crate) fn read_up_to_at(
        &self,
        buffer: &mut [u8],
        offset: u64,
    ) -> Result<usize, BlockError> {
        let mut done = 0;
        while done < buffer.len() {
            match self.file.read_at(&mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(len) => done += len,
                Err(error) if error.kind() == ErrorKind::Interrupted => (),
                Err(error) => return Err(BlockError::Io(error)),
            }
        }
        Ok(done)
    }

    /// Writes clusters or parts of clusters.
    pub(crate) fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<(), BlockError> {
        self.require_sound()?;
        failpoint::reach(Point::ImageWrite)?;
        match &self.direct {
            Some(direct) if direct.write_all_at(bytes, offset)? => {
                trail::wrote(&self.file, offset, bytes);
                Ok(())
            }
            Some(_) | None => self.write_pages(bytes, offset),
        }
    }

    /// Writes through the page cache: tables, which are often read again.
    pub(crate) fn write_buffered(&self, bytes: &[u8], offset: u64) -> Result<(), BlockError> {
        self.require_sound()?;
        failpoint::reach(Point::ImageWrite)?;
        self.write_pages(bytes, offset)
    }

    fn write_pages(&self, bytes: &[u8], offset: u64) -> Result<(), BlockError> {
        self.file.write_all_at(bytes, offset)?;
        trail::wrote(&self.file, offset, bytes);
        let len = bytes.len() as u64;
        let before = self.buffered.fetch_add(len, Ordering::Relaxed);
        // Whoever fills a stretch writes it back, while others go on with the next one.
        if before / STRETCH != (before + len) / STRETCH { self.sync() } else { Ok(()) }
    }

    /// Sees to it that the file has space up to `end`, in big steps, where there is
    /// plenty; where it is not, writes find out.
    pub(crate) fn reserve(&self, end: u64) {
        let mut reserve = self.reserve.lock();
        if end <= reserve.end || reserve.limit <= reserve.end {
            return;
        }
        let target = (end + reserve.step).min(reserve.limit).max(end);
        let start = reserve.end;
        if !self.has_plenty(target - start) {
            return;
        }
        match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), start, target - start) {
            Ok(()) => {
                trail::resized(&self.file, target);
                reserve.end = target;
                reserve.step = (reserve.step * 2).min(LARGEST_RESERVE);
            }
            // The file system cannot reserve; plain writes do without.
            Err(_) => reserve.limit = 0,
        }
    }

    /// Gives space back that nothing refers to; where that is not possible, it stays taken.
    pub(crate) fn release(&self, range: Range<u64>) {
        let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let len = range.end - range.start;
        if rustix::fs::fallocate(&self.file, how, range.start, len).is_ok() {
            trail::cleared(&self.file, range.start, len);
        }
    }

    /// Whether reserving so much leaves most of the free space to others, who may need it before we do.
    fn has_plenty(&self, bytes: u64) -> bool {
        rustix::fs::fstatvfs(&self.file)
            .is_ok_and(|it| it.f_bavail.saturating_mul(it.f_frsize) / 4 > bytes)
    }

    pub(crate) fn set_len(&self, len: u64) -> Result<(), BlockError> {
        self.require_sound()?;
        failpoint::reach(Point::ImageResize)?;
        self.file.set_len(len)?;
        trail::resized(&self.file, len);
        Ok(())
    }

    /// Makes everything written durable, wherever it was written back before. After one failure nothing more is believed: the kernel may have
    /// dropped the pages that it could not write, and a second attempt would succeed without them.
    pub(crate) fn sync(&self) -> Result<(), BlockError> {
        self.require_sound()?;
        let sync = || failpoint::reach(Point::ImageSync).and_then(|()| self.file.sync_data());
        trail::sync(&self.file, sync).map_err(|error| {
            self.sync_failed.store(true, Ordering::Release);
            error.into()
        })
    }

    /// Lets the kernel forget what it holds of the file, once that is durable: what is read next comes from the disk.
    ///
    /// A page that could not be written stays in memory as if it had been, and only the first who syncs is told.
    /// A file system that lives in memory has nothing to forget.
    pub(crate) fn forget_pages(&self) -> Result<(), BlockError> {
        self.sync()?;
        rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed)
            .map_err(|error| BlockError::Io(error.into()))
    }

    fn require_sound(&self) -> Result<(), BlockError> {
        if self.sync_failed.load(Ordering::Acquire) {
            let error = io::Error::other("an earlier sync failed, the file cannot be trusted");
            return Err(BlockError::Io(error));
        }
        Ok(())
    }
}

/// Opening a pipe or a device could wait for ever or do something, so they are refused before.
fn require_regular(path: &Path) -> io::Result<()> {
    if std::fs::metadata(path)?.is_file() {
        Ok(())
    } else {
        Err(io::Error::new(ErrorKind::InvalidInput, "not a regular file"))
    }
}

/// Runs blocking work on a thread that may wait; the work ends even if nobody waits for it any more.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BlockError> + Send + 'static,
) -> Result<T, BlockError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| BlockError::Io(io::Error::other(error)))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_is_reserved_up_to_the_limit_only() {
        let folder = tempfile::tempdir().unwrap();
        let file = StoreFile::create_new(&folder.path().join("a"), 6 << 20).unwrap();
        file.reserve(512);
        assert!(file.len().unwrap() <= 6 << 20);
        file.reserve(6 << 20);
        assert!(file.len().unwrap() <= 6 << 20);
        file.set_len(512).unwrap();
        assert_eq!(file.len().unwrap(), 512);
    }

    /// Promise P2: what a sync on the way lost is never sealed by a later one that finds nothing to do.
    #[test]
    fn a_stretch_that_cannot_be_synced_spoils_the_file() {
        // It takes every write and refuses every sync.
        let path = Path::new("/dev/null");
        let null = OpenOptions::new().write(true).open(path).unwrap();
        let file = StoreFile::over(null, path, 0);
        let piece = vec![1; 1 << 20];
        for at in 0..63 {
            file.write_all_at(&piece, at << 20).unwrap();
        }
        assert!(matches!(file.write_all_at(&piece, 63 << 20), Err(BlockError::Io(_))));
        let spoilt = file.write_all_at(&piece, 64 << 20).unwrap_err();
        assert!(format!("{spoilt:?}").contains("cannot be trusted"), "{spoilt:?}");
        assert!(file.set_len(5).is_err() && file.write_buffered(b"x", 0).is_err());
        let spoilt = file.sync().unwrap_err();
        assert!(format!("{spoilt:?}").contains("cannot be trusted"), "{spoilt:?}");
    }

    #[test]
    fn a_pipe_or_folder_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        assert!(StoreFile::open_read(folder.path()).is_err());
        assert!(StoreFile::open_read(Path::new("/dev/null")).is_err());
    }

    #[test]
    fn a_short_file_is_corrupt() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, b"abc").unwrap();
        let read = StoreFile::open_read(&path).unwrap().read_exact_at(&mut [0; 8], 0);
        assert!(matches!(read, Err(BlockError::Corrupt { .. })));
    }
}
