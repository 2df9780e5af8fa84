//! A plain file as a device: what a raw image and a flat VMDK extent are.
//!
//! Whole pages are written past the page cache where the file system lets us, everything else through it. Two writes
//! that meet in a page and do not overlap are both of a part of it, so no page is written in both ways at once.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::{FallocateFlags, SeekFrom};

use crate::failpoint::{self, Point};
use crate::trail;
use crate::{
    BlockDevice, BlockError, BlockingDevice, BufferPool, DirectFile, Extent, ExtentKind,
    PooledBuffer, check_range, create_file, merge_extents,
};

/// Reads up to this size share one pool of buffers.
const POOLED_READ: usize = 1 << 20;

/// A file whose bytes are the device's bytes.
#[derive(Debug)]
pub struct RawFile {
    file: Arc<OpenFile>,
    size: u64,
    read_only: bool,
    pool: BufferPool,
    sync_failed: Arc<AtomicBool>,
}

/// The file and, where it is written to and allows it, its direct way.
#[derive(Debug)]
struct OpenFile {
    file: File,
    direct: Option<DirectFile>,
}

impl RawFile {
    /// Opens a file for reading only.
    pub fn open_read_only(path: &Path) -> Result<Self, BlockError> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        Ok(Self::over(file, size, None))
    }

    /// Opens an existing file for reading and writing.
    pub fn open(path: &Path) -> Result<Self, BlockError> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let size = file.metadata()?.len();
        Ok(Self::over(file, size, Some(path)))
    }

    /// Creates a file of `size` zero bytes that must not exist yet; it takes no space until written.
    ///
    /// After an error there is no file.
    pub fn create_new(path: &Path, size: u64) -> Result<Self, BlockError> {
        create_file(path, |file| {
            file.set_len(size)?;
            trail::resized(&file, size);
            Ok(Self::over(file, size, Some(path)))
        })
    }

    /// A file that is written to has to be told where it lies.
    fn over(file: File, size: u64, writable_at: Option<&Path>) -> Self {
        let pool = BufferPool::new(POOLED_READ, 16);
        let direct = writable_at.and_then(|path| DirectFile::open(path, &file, pool.clone()));
        let file = Arc::new(OpenFile { file, direct });
        Self { file, size, read_only: writable_at.is_none(), pool, sync_failed: Arc::default() }
    }

    /// After one failed sync nothing more is believed: the kernel may have dropped the pages that it could
    /// not write, and a second attempt would succeed without them.
    fn require_sound(&self) -> Result<(), BlockError> {
        if self.sync_failed.load(Ordering::Acquire) {
            let what = "an earlier sync failed, the file cannot be trusted";
            return Err(BlockError::Io(io::Error::other(what)));
        }
        Ok(())
    }

    fn writable(&self, offset: u64, len: u64) -> Result<(), BlockError> {
        if self.read_only {
            return Err(BlockError::ReadOnly);
        }
        self.require_sound()?;
        check_range(offset, len, self.size)
    }

    async fn on_file<T: Send + 'static>(
        &self,
        work: impl FnOnce(&OpenFile) -> Result<T, BlockError> + Send + 'static,
    ) -> Result<T, BlockError> {
        let file = self.file.clone();
        tokio::task::spawn_blocking(move || work(&file))
            .await
            .map_err(|error| BlockError::Io(io::Error::other(error)))?
    }
}

#[async_trait]
impl BlockDevice for RawFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    async fn read_at(&self, offset: u64, len: u32) -> Result<Bytes, BlockError> {
        check_range(offset, u64::from(len), self.size)?;
        let buffer = self.pool.take(len as usize);
        self.on_file(move |it| filled(&it.file, offset, buffer)).await
    }

    async fn write_at(&self, offset: u64, data: Bytes) -> Result<(), BlockError> {
        self.writable(offset, data.len() as u64)?;
        self.on_file(move |it| it.write(offset, &data)).await
    }

    async fn write_zeroes(&self, offset: u64, len: u64) -> Result<(), BlockError> {
        self.writable(offset, len)?;
        if len == 0 {
            return Ok(());
        }
        self.on_file(move |it| zero_range(&it.file, offset, len)).await
    }

    async fn extents(&self, offset: u64, len: u64) -> Result<Vec<Extent>, BlockError> {
        check_range(offset, len, self.size)?;
        self.on_file(move |it| file_extents(&it.file, offset, len)).await
    }

    async fn flush(&self) -> Result<(), BlockError> {
        self.require_sound()?;
        let failed = self.sync_failed.clone();
        self.on_file(move |it| {
            let sync = || failpoint::reach(Point::RawSync).and_then(|()| it.file.sync_data());
            trail::sync(&it.file, sync).map_err(|error| {
                failed.store(true, Ordering::Release);
                error.into()
            })
        })
        .await
    }

    fn blocking(self: Arc<Self>) -> Option<Arc<dyn BlockingDevice>> {
        Some(self)
    }
}

impl BlockingDevice for RawFile {
    fn read_now(&self, offset: u64, len: u32) -> Option<Result<Bytes, BlockError>> {
        let inside = check_range(offset, u64::from(len), self.size);
        Some(inside.and_then(|()| filled(&self.file.file, offset, self.pool.take(len as usize))))
    }

    fn write_now(&self, offset: u64, data: &[u8]) -> Option<Result<(), BlockError>> {
        let writable = self.writable(offset, data.len() as u64);
        Some(writable.and_then(|()| self.file.write(offset, data)))
    }
}

fn filled(file: &File, offset: u64, mut buffer: PooledBuffer) -> Result<Bytes, BlockError> {
    file.read_exact_at(&mut buffer, offset)?;
    Ok(buffer.freeze())
}

impl OpenFile {
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), BlockError> {
        failpoint::reach(Point::RawWrite)?;
        let direct = self.direct.as_ref().map(|it| it.write_all_at(data, offset)).transpose()?;
        if direct != Some(true) {
            self.file.write_all_at(data, offset)?;
        }
        trail::wrote(&self.file, offset, data);
        Ok(())
    }
}

/// Punches a hole, or writes zeroes where the file system cannot.
fn zero_range(file: &File, offset: u64, len: u64) -> Result<(), BlockError> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    match rustix::fs::fallocate(file, flags, offset, len) {
        Ok(()) => {
            trail::cleared(file, offset, len);
            Ok(())
        }
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
            let zeroes = vec![0; POOLED_READ];
            let (mut at, end) = (offset, offset + len);
            while at < end {
                let step = usize::try_from(end - at).unwrap_or(usize::MAX).min(zeroes.len());
                file.write_all_at(&zeroes[..step], at)?;
                trail::wrote(file, at, &zeroes[..step]);
                at += step as u64;
            }
            Ok(())
        }
        Err(error) => Err(io::Error::from(error).into()),
    }
}

/// Asks the file system where data is in a range of a file; one that does not know says "everywhere".
///
/// What lies beyond the end of the file is a hole. Blocks the thread.
pub fn file_extents(file: &File, offset: u64, len: u64) -> Result<Vec<Extent>, BlockError> {
    let end = offset.saturating_add(len);
    let mut found = Vec::new();
    let mut at = offset;
    while at < end {
        let data = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(data) => data.min(end),
            Err(rustix::io::Errno::NXIO) => end,
            Err(error) => return Err(io::Error::from(error).into()),
        };
        if data > at {
            found.push(Extent { offset: at, len: data - at, kind: ExtentKind::Zero });
            at = data;
            continue;
        }
        let hole = rustix::fs::seek(file, SeekFrom::Hole(at)).map_err(io::Error::from)?.min(end);
        if hole > at {
            found.push(Extent { offset: at, len: hole - at, kind: ExtentKind::Data });
        }
        // Where somebody punched a hole between the two questions, the first one is asked again.
        at = hole;
    }
    Ok(merge_extents(found))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn passes_the_contract() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.raw");
        crate::contract::writable(|size| {
            let path = path.clone();
            async move {
                let _ = std::fs::remove_file(&path);
                Ok(Arc::new(RawFile::create_new(&path, size)?) as Arc<dyn BlockDevice>)
            }
        })
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn an_existing_file_is_not_overwritten_by_create() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.raw");
        std::fs::write(&path, b"precious").unwrap();
        assert!(RawFile::create_new(&path, 4096).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }

    /// Promise P5: who could not create a file has nothing to remove, so nobody would.
    #[test]
    fn p5_a_file_that_cannot_have_its_length_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.raw");
        assert!(RawFile::create_new(&path, u64::MAX).is_err());
        assert!(!path.exists());
    }

    /// Whole pages and parts of them go two ways; each is seen by reads at once.
    #[tokio::test]
    async fn writes_of_any_place_and_length_are_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let size = 64 * 4096 + 700_u64;
        let file = RawFile::create_new(&folder.path().join("disk.raw"), size).unwrap();
        let mut truth = vec![0; usize::try_from(size).unwrap()];
        let places = [(0, 8192), (4096, 100), (5000, 4096), (8192, 65_536), (0, 4096), (100, 4)];
        let tail = (64 * 4096 - 4096, 4096 + 700);
        for (number, (at, len)) in (1_u8..).zip(places.into_iter().chain([tail])) {
            file.write_at(at as u64, Bytes::from(vec![number; len])).await.unwrap();
            truth[at..at + len].fill(number);
            let found = file.read_at(0, u32::try_from(size).unwrap()).await.unwrap();
            assert!(found == truth, "after write {number}");
        }
        file.flush().await.unwrap();
        assert!(std::fs::read(folder.path().join("disk.raw")).unwrap() == truth);
    }

    #[tokio::test]
    async fn holes_are_called_zero() {
        let folder = tempfile::tempdir().unwrap();
        let file = RawFile::create_new(&folder.path().join("disk.raw"), 1 << 20).unwrap();
        file.write_at(512 * 1024, Bytes::from(vec![7; 4096])).await.unwrap();
        let extents = file.extents(0, 1 << 20).await.unwrap();
        assert_eq!(extents[0].kind, ExtentKind::Zero);
        assert!(extents.iter().any(|it| it.kind == ExtentKind::Data && it.offset == 512 * 1024));
    }

    /// Promise P1: after a failed sync the kernel may have dropped the pages, and the next sync would succeed without them.
    #[tokio::test]
    async fn p1_nothing_is_believed_after_a_sync_that_failed() {
        // The null device takes every write and cannot be synced.
        let null = OpenOptions::new().read(true).write(true).open("/dev/null").unwrap();
        let file = RawFile::over(null, 4096, Some(Path::new("/dev/null")));
        file.write_at(0, Bytes::from_static(b"x")).await.unwrap();
        file.flush().await.unwrap_err();
        let said = |error: BlockError| std::error::Error::source(&error).unwrap().to_string();
        let refused = said(file.flush().await.unwrap_err());
        assert!(refused.contains("earlier sync failed"), "{refused}");
        let refused = said(file.write_at(0, Bytes::from_static(b"x")).await.unwrap_err());
        assert!(refused.contains("earlier sync failed"), "{refused}");
        assert!(file.write_zeroes(0, 512).await.is_err());
    }

    /// Data may become a hole between the two questions to the file system.
    #[test]
    fn an_extent_is_not_empty_while_others_write() {
        const BLOCK: u64 = 65_536;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.raw");
        std::fs::write(&path, vec![1; 1 << 20]).unwrap();
        let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    zero_range(&file, 4 * BLOCK, 8 * BLOCK).unwrap();
                    file.write_all_at(&[1; 4096], 4 * BLOCK).unwrap();
                    file.write_all_at(&[1; 4096], 5 * BLOCK).unwrap();
                }
            });
            let found: Vec<_> =
                (0..20_000).map(|_| file_extents(&file, 4 * BLOCK, 4 * BLOCK).unwrap()).collect();
            done.store(true, Ordering::Relaxed);
            let empty = found.iter().flatten().filter(|it| it.len == 0).count();
            assert_eq!(empty, 0);
        });
    }
}
