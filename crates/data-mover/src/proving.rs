//! The target's side of the proof: digests of what was stored, whoever wrote it and in whatever order.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use hub_block::{BlockDevice, BlockError, BlockingDevice, Extent, ExtentKind, check_range};
use parking_lot::Mutex;
use tokio_util::task::TaskTracker;

use crate::digest::{digests_of, digests_off_thread};
use crate::digest_table::{GROUP, usize_of};
use crate::examine::read_run;
use crate::{Digest, DigestTable};

/// Zeroes are passed on in steps of so many blocks, which bounds the digests that are set at once.
const ZERO_STEP: u64 = 8 * GROUP;

/// A device in front of an image that is being written, which keeps the digest table of its content.
///
/// A write that covers a block wholly sets its digest when it has returned. A block that was covered
/// partly, by writes that overlapped in time, or by one that failed is [`Digest::UNKNOWN`] in the table
/// until it is written again or [`settle`](Self::settle) reads it back.
/// **Cancellation**: a write that has begun goes on when its future is dropped, so that one sent again
/// on another connection can never be overtaken by it unnoticed.
pub struct ProvingDevice {
    shared: Arc<Shared>,
    tasks: TaskTracker,
    written: Arc<AtomicU64>,
}

struct Shared {
    inner: Arc<dyn BlockDevice>,
    /// The same, where everything about a write can be done on one thread.
    blocking: Option<Arc<dyn BlockingDevice>>,
    table: Arc<DigestTable>,
    under_way: Mutex<UnderWay>,
}

/// The ranges of blocks that are being written or read back; as many as there are requests.
#[derive(Default)]
struct UnderWay {
    next: u64,
    claims: Vec<Claim>,
}

struct Claim {
    id: u64,
    blocks: Range<u64>,
    overlapped: bool,
}

/// What a write does to blocks.
struct Covered {
    /// Those that change.
    touched: Range<u64>,
    /// Those whose whole content it brings.
    whole: Range<u64>,
    /// Where that content lies in its bytes.
    part: Range<usize>,
}

impl ProvingDevice {
    /// Puts a table in front of an image; the table describes what the image holds now.
    pub fn new(inner: Arc<dyn BlockDevice>, table: Arc<DigestTable>) -> Self {
        let blocking = inner.clone().blocking();
        let shared = Shared { inner, blocking, table, under_way: Mutex::default() };
        let tasks = TaskTracker::new();
        // A closed tracker still takes tasks; being closed is what lets a wait for none of them end.
        tasks.close();
        Self { shared: Arc::new(shared), tasks, written: Arc::default() }
    }

    /// Waits for writes that have begun, reads back every block that is unknown, and returns the root.
    ///
    /// Fails when a block cannot be read back or is written meanwhile. Flushes nothing:
    /// whether the content is durable is a matter of [`flush`](BlockDevice::flush).
    pub async fn settle(&self) -> Result<Digest, BlockError> {
        self.tasks.wait().await;
        let shared = &self.shared;
        let mut at = 0;
        while let Some((blocks, next)) = shared.on_table(move |it| unknown_after(it, at)).await? {
            for block in blocks {
                shared.read_back(block).await?;
            }
            at = next;
        }
        shared.on_table(DigestTable::root).await
    }

    /// Bytes of data that were written with success, again counted again; zeroes do not count.
    pub fn bytes_written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Writes on one thread; gives the data back when the image cannot without waiting.
    ///
    /// A thread that has begun goes on to its end, and is counted until then, whatever becomes of the caller.
    async fn at_once(&self, offset: u64, data: Bytes) -> Result<Option<Bytes>, BlockError> {
        let shared = self.shared.clone();
        let Some(image) = shared.blocking.clone() else { return Ok(Some(data)) };
        let (counted, written) = (self.tasks.token(), self.written.clone());
        off_thread(move || {
            let _to_the_end = counted;
            let Some(done) = shared.write_now(&*image, offset, &data) else {
                return Ok(Some(data));
            };
            done?;
            written.fetch_add(data.len() as u64, Ordering::AcqRel);
            Ok(None)
        })
        .await
    }

    /// Lets a write go on to its end, whatever becomes of the caller.
    async fn to_the_end(
        &self,
        work: impl Future<Output = Result<(), BlockError>> + Send + 'static,
    ) -> Result<(), BlockError> {
        let done = self.tasks.spawn(work).await;
        done.map_err(|error| BlockError::Io(io::Error::other(error)))?
    }

    fn check_writable(&self, offset: u64, len: u64) -> Result<(), BlockError> {
        if self.read_only() {
            return Err(BlockError::ReadOnly);
        }
        check_range(offset, len, self.size())
    }
}

impl Shared {
    /// [`claim_now`](Self::claim_now), on a thread that may wait: the table is a file, and its file system may stall.
    async fn claim(self: &Arc<Self>, blocks: Range<u64>) -> Result<u64, BlockError> {
        let shared = self.clone();
        off_thread(move || shared.claim_now(blocks)).await
    }

    /// [`release_now`](Self::release_now), on a thread that may wait.
    async fn release(
        self: &Arc<Self>,
        id: u64,
        set: impl FnOnce(&DigestTable) -> io::Result<()> + Send + 'static,
    ) -> Result<bool, BlockError> {
        let shared = self.clone();
        off_thread(move || shared.release_now(id, set)).await
    }

    /// Says that blocks are about to change: from now on the table does not claim to know them.
    fn claim_now(&self, blocks: Range<u64>) -> Result<u64, BlockError> {
        let mut under_way = self.under_way.lock();
        let mut overlapped = false;
        for other in &mut under_way.claims {
            if other.blocks.start < blocks.end && blocks.start < other.blocks.end {
                other.overlapped = true;
                overlapped = true;
            }
        }
        self.table.fill(blocks.clone(), Digest::UNKNOWN)?;
        let id = under_way.next;
        under_way.next += 1;
        under_way.claims.push(Claim { id, blocks, overlapped });
        Ok(id)
    }

    /// Ends a claim and, if nobody else touched its blocks meanwhile, lets `set` enter what they hold.
    fn release_now(
        &self,
        id: u64,
        set: impl FnOnce(&DigestTable) -> io::Result<()>,
    ) -> Result<bool, BlockError> {
        let mut under_way = self.under_way.lock();
        let Some(index) = under_way.claims.iter().position(|claim| claim.id == id) else {
            return Ok(false);
        };
        let claim = under_way.claims.swap_remove(index);
        if !claim.overlapped {
            set(&self.table)?;
        }
        Ok(!claim.overlapped)
    }

    /// Claims, writes, digests and releases, one after the other; `None` when the image cannot without waiting, and
    /// has been written nothing then. Blocks.
    fn write_now(
        &self,
        image: &dyn BlockingDevice,
        offset: u64,
        data: &[u8],
    ) -> Option<Result<(), BlockError>> {
        let Covered { touched, whole, part } = self.covered(offset, data.len());
        let id = match self.claim_now(touched) {
            Ok(id) => id,
            Err(error) => return Some(Err(error)),
        };
        let written = image.write_now(offset, data);
        let digests = match written {
            Some(Ok(())) => digests_of(&data[part], self.table.block_size()),
            Some(Err(_)) | None => Vec::new(),
        };
        let released = self.release_now(id, |table| table.set_many(whole.start, &digests));
        written.map(|written| written.and(released.map(drop)))
    }

    /// Which blocks a write touches and covers.
    fn covered(&self, offset: u64, len: usize) -> Covered {
        let size = self.table.block_size().bytes();
        let end = offset + len as u64;
        let whole = whole_blocks(&self.table, offset..end);
        let bytes = self.table.bytes_of(whole.clone());
        let part = if whole.is_empty() {
            0..0
        } else {
            usize_of(bytes.start - offset)..usize_of(bytes.end - offset)
        };
        Covered { touched: offset / size..end.div_ceil(size), whole, part }
    }

    async fn write(self: &Arc<Self>, offset: u64, data: Bytes) -> Result<(), BlockError> {
        let Covered { touched, whole, part } = self.covered(offset, data.len());
        let id = self.claim(touched).await?;
        let content = data.slice(part);
        let (written, digests) = tokio::join!(
            self.inner.write_at(offset, data),
            digests_off_thread(content, self.table.block_size())
        );

        let digests = digests.map_err(|error| BlockError::Io(io::Error::other(error)));
        let (done, digests) = parted(written.and(digests));
        self.release(id, move |table| table.set_many(whole.start, &digests)).await?;
        done
    }

    async fn zero(self: &Arc<Self>, offset: u64, len: u64) -> Result<(), BlockError> {
        let size = self.table.block_size().bytes();
        let end = offset + len;
        let touched = offset / size..end.div_ceil(size);
        let id = self.claim(touched).await?;
        let zeroed = self.inner.write_zeroes(offset, len).await;
        let mut whole = whole_blocks(&self.table, offset..end);
        if zeroed.is_err() {
            whole.end = whole.start;
        }
        self.release(id, move |table| table.fill(whole, Digest::ZERO)).await?;
        zeroed
    }

    async fn read_back(self: &Arc<Self>, block: u64) -> Result<(), BlockError> {
        let blocks = block..block + 1;
        let bytes = self.table.bytes_of(blocks.clone());
        let run =
            Extent { offset: bytes.start, len: bytes.end - bytes.start, kind: ExtentKind::Data };
        let id = self.claim(blocks).await?;
        let digests = async {
            let data = read_run(&*self.inner, run).await?;
            let digests = digests_off_thread(data, self.table.block_size()).await;
            digests.map_err(|error| BlockError::Io(io::Error::other(error)))
        };
        let (done, digests) = parted(digests.await);
        let alone = self.release(id, move |table| table.set_many(block, &digests)).await?;
        done?;
        if alone {
            return Ok(());
        }
        let what = "the image was written while its digests were being settled";
        Err(BlockError::Io(io::Error::other(what)))
    }

    async fn on_table<T: Send + 'static>(
        &self,
        work: impl FnOnce(&DigestTable) -> io::Result<T> + Send + 'static,
    ) -> Result<T, BlockError> {
        let table = self.table.clone();
        off_thread(move || Ok(work(&table)?)).await
    }
}

async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BlockError> + Send + 'static,
) -> Result<T, BlockError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| BlockError::Io(io::Error::other(error)))?
}

/// How it went, and the digests to enter: none after an error.
fn parted(proven: Result<Vec<Digest>, BlockError>) -> (Result<(), BlockError>, Vec<Digest>) {
    match proven {
        Ok(digests) => (Ok(()), digests),
        Err(error) => (Err(error), Vec::new()),
    }
}

/// The blocks that a range of bytes covers wholly; the disk's last one counts when its bytes are covered.
fn whole_blocks(table: &DigestTable, bytes: Range<u64>) -> Range<u64> {
    let size = table.block_size().bytes();
    let first = bytes.start.div_ceil(size);
    let to_the_end = bytes.end == table.capacity();
    let end = if to_the_end { table.block_count() } else { bytes.end / size };
    first..end.max(first)
}

/// The unknown blocks of the next group that has any digests, and the block to go on with.
fn unknown_after(table: &DigestTable, block: u64) -> io::Result<Option<(Vec<u64>, u64)>> {
    let Some(first) = table.next_stored(block)? else { return Ok(None) };
    let count = (table.block_count() - first).min(GROUP);
    let digests = table.get_many(first, usize_of(count))?;
    let unknown = (first..).zip(digests).filter(|(_, digest)| *digest == Digest::UNKNOWN);
    Ok(Some((unknown.map(|(block, _)| block).collect(), first + count)))
}

#[async_trait]
impl BlockDevice for ProvingDevice {
    fn size(&self) -> u64 {
        self.shared.inner.size()
    }

    fn read_only(&self) -> bool {
        self.shared.inner.read_only()
    }

    async fn read_at(&self, offset: u64, len: u32) -> Result<Bytes, BlockError> {
        self.shared.inner.read_at(offset, len).await
    }

    async fn write_at(&self, offset: u64, data: Bytes) -> Result<(), BlockError> {
        self.check_writable(offset, data.len() as u64)?;
        if data.is_empty() {
            return Ok(());
        }
        let Some(data) = self.at_once(offset, data).await? else { return Ok(()) };
        let (shared, written) = (self.shared.clone(), self.written.clone());
        let len = data.len() as u64;
        self.to_the_end(async move {
            shared.write(offset, data).await?;
            written.fetch_add(len, Ordering::AcqRel);
            Ok(())
        })
        .await
    }

    async fn write_zeroes(&self, offset: u64, len: u64) -> Result<(), BlockError> {
        self.check_writable(offset, len)?;
        let shared = self.shared.clone();
        let step = ZERO_STEP * shared.table.block_size().bytes();
        self.to_the_end(async move {
            let (mut at, end) = (offset, offset + len);
            while at < end {
                let stop = end.min((at / step + 1) * step);
                shared.zero(at, stop - at).await?;
                at = stop;
            }
            Ok(())
        })
        .await
    }

    async fn extents(&self, offset: u64, len: u64) -> Result<Vec<Extent>, BlockError> {
        self.shared.inner.extents(offset, len).await
    }

    async fn flush(&self) -> Result<(), BlockError> {
        self.shared.inner.flush().await
    }
}

#[cfg(test)]
mod tests;
