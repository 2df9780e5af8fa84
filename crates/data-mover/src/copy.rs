//! The copy: a bounded pipeline from a source to a target, with a digest of everything on the way.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use hub_block::{BlockDevice, BlockError, Extent, ExtentKind};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::digest::digests_of;
use crate::digest_table::{GROUP, usize_of};
use crate::examine::look_at;
use crate::plan::examined;
use crate::runs::{Cut, WithoutExtents, each_run, send_runs};
use crate::{BlockSize, CopyError, CopyPlan, Digest, DigestTable, Progress};

/// Is told each range of bytes whose content the target has now; it is durable only after the last flush.
pub type RangeObserver = Arc<dyn Fn(Range<u64>) + Send + Sync>;

/// How much is under way at a time.
#[derive(Clone)]
pub struct CopyOptions {
    /// Bytes per request, rounded down to whole blocks; at least one block. 1 MiB unless set.
    pub request_bytes: u32,
    /// Requests under way at a time; at least 1. 16 unless set.
    pub in_flight: usize,
    /// Told what is done, in no order; what it wrote down is the plan's rest after a cut.
    /// Must not block.
    pub on_range: Option<RangeObserver>,
}

impl Default for CopyOptions {
    fn default() -> Self {
        Self { request_bytes: 1 << 20, in_flight: 16, on_range: None }
    }
}

impl fmt::Debug for CopyOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CopyOptions")
            .field("request_bytes", &self.request_bytes)
            .field("in_flight", &self.in_flight)
            .finish_non_exhaustive()
    }
}

impl CopyOptions {
    pub(crate) fn cut(&self, size: BlockSize, without_extents: WithoutExtents) -> Cut {
        let block = size.bytes();
        let request = u64::from(self.request_bytes) / block * block;
        Cut { block, request: request.max(block), without_extents }
    }

    pub(crate) fn lanes(&self) -> usize {
        self.in_flight.max(1)
    }
}

/// What a finished copy did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyOutcome {
    /// The size of the disk.
    pub bytes_total: u64,
    /// Bytes read from the source.
    pub bytes_read: u64,
    /// Bytes of data written to the target; zeroes that were only asked for do not count.
    pub bytes_sent: u64,
    /// Blocks that differed from the table, those that became zero included.
    pub blocks_changed: u64,
    /// The root of the table, which now describes the whole target.
    pub root: Digest,
}

/// Copies what the plan examines and the table does not already hold, and flushes the target.
///
/// The source is read once, zero extents not at all; a block is compared with its digest in the table and
/// sent when it differs; neighbours that changed leave as one write. A plan that finds nothing succeeds.
/// **Memory**: `in_flight` requests and a bounded number of extents, whatever the size of the disk.
/// **Cancellation**: once `cancel` is set no further request begins; those under way are dropped, so the target is
/// undefined where the table says [`Digest::UNKNOWN`]. Dropping the future does the same.
/// **After an error** the table still tells the truth about the target: a copy over the same table and
/// target with [`CopyPlan::ByDigest`], or with the areas that are left, finishes the work.
///
/// Errors name the side; [`CopyError::SizeMismatch`] and [`CopyError::AreaOutOfRange`] come before a byte moves.
pub async fn copy(
    source: Arc<dyn BlockDevice>,
    target: Arc<dyn BlockDevice>,
    plan: CopyPlan,
    table: Arc<DigestTable>,
    options: CopyOptions,
    progress: Arc<Progress>,
    cancel: CancellationToken,
) -> Result<CopyOutcome, CopyError> {
    check_fit(&*source, &*target, &table)?;
    let copy = Copy { source, target, table, options, progress, cancel, counts: Counts::default() };
    let cancelled = copy.cancel.cancelled();
    tokio::select! {
        biased;
        () = cancelled => Err(CopyError::Cancelled),
        outcome = copy.run(plan) => outcome,
    }
}

/// Traps D7 and U25: a disk is never written to a target of another size.
fn check_fit(
    source: &dyn BlockDevice,
    target: &dyn BlockDevice,
    table: &DigestTable,
) -> Result<(), CopyError> {
    let (source_bytes, target_bytes) = (source.size(), target.size());
    let table_bytes = table.capacity();
    if source_bytes != target_bytes || source_bytes != table_bytes {
        return Err(CopyError::SizeMismatch { source_bytes, target_bytes, table_bytes });
    }
    if target.read_only() {
        return Err(CopyError::Target { offset: 0, error: BlockError::ReadOnly });
    }
    Ok(())
}

#[derive(Debug, Default)]
struct Counts {
    read: AtomicU64,
    sent: AtomicU64,
    changed: AtomicU64,
}

struct Copy {
    source: Arc<dyn BlockDevice>,
    target: Arc<dyn BlockDevice>,
    table: Arc<DigestTable>,
    options: CopyOptions,
    progress: Arc<Progress>,
    cancel: CancellationToken,
    counts: Counts,
}

/// Neighbouring blocks that differ from the table.
struct Change {
    first: u64,
    digests: Vec<Digest>,
}

impl Change {
    fn blocks(&self) -> Range<u64> {
        self.first..self.first + self.digests.len() as u64
    }

    fn is_zero(&self) -> bool {
        self.digests.first() == Some(&Digest::ZERO)
    }
}

impl Copy {
    async fn run(&self, plan: CopyPlan) -> Result<CopyOutcome, CopyError> {
        let ranges = self.on_table(move |table| examined(plan, table)).await?;
        self.progress.add_total(ranges.iter().map(|it| it.end - it.start).sum());

        let cut = self.options.cut(self.table.block_size(), WithoutExtents::Fail);
        let (sender, receiver) = mpsc::channel(self.options.lanes() * 4);
        let asking = async {
            let asked = send_runs(&*self.source, ranges, cut, sender).await;
            asked.map_err(|(offset, error)| CopyError::Source { offset, error })
        };
        let moving = each_run(receiver, self.options.lanes(), |run| self.move_run(run));
        tokio::try_join!(asking, moving)?;

        let end = self.table.capacity();
        self.target.flush().await.map_err(CopyError::target_at(end))?;
        self.table.forget_growth();
        let root = self.on_table(|table| table.root().map_err(CopyError::Table)).await?;
        Ok(CopyOutcome {
            bytes_total: end,
            bytes_read: self.counts.read.load(Ordering::Acquire),
            bytes_sent: self.counts.sent.load(Ordering::Acquire),
            blocks_changed: self.counts.changed.load(Ordering::Acquire),
            root,
        })
    }

    async fn move_run(&self, run: Extent) -> Result<(), CopyError> {
        if self.cancel.is_cancelled() {
            return Err(CopyError::Cancelled);
        }
        match run.kind {
            ExtentKind::Data => self.move_data(run).await?,
            ExtentKind::Zero => self.move_zeroes(run).await?,
        }
        self.progress.add_done(run.len);
        if let Some(tell) = &self.options.on_range {
            tell(run.offset..run.end());
        }
        Ok(())
    }

    async fn move_data(&self, run: Extent) -> Result<(), CopyError> {
        let (data, changes) = self.examine(run).await?;
        for change in changes {
            let bytes = self.table.bytes_of(change.blocks());
            let part = usize_of(bytes.start - run.offset)..usize_of(bytes.end - run.offset);
            let content = (!change.is_zero()).then(|| data.slice(part));
            self.send(change, content).await?;
        }
        Ok(())
    }

    /// Reads a run and finds what differs from the table.
    ///
    /// Changes nothing, because a look goes on to its end even when its copy has been dropped.
    async fn examine(&self, run: Extent) -> Result<(Bytes, Vec<Change>), CopyError> {
        let table = self.table.clone();
        let first = run.offset / table.block_size().bytes();
        let looked = look_at(&self.source, run, move |data| {
            let found = digests_of(&data, table.block_size());
            let known = table.get_many(first, found.len()).map_err(CopyError::Table)?;
            Ok((data, changes(first, &known, found)))
        });
        let seen = looked.await.map_err(CopyError::unseen_at(run.offset))?;
        self.counts.read.fetch_add(run.len, Ordering::AcqRel);
        self.progress.add_read(run.len);
        seen
    }

    /// Blocks that the source says are zero: those that were not become so, none is read.
    async fn move_zeroes(&self, run: Extent) -> Result<(), CopyError> {
        let size = self.table.block_size().bytes();
        let mut block = run.offset / size;
        let end = run.end().div_ceil(size);
        while block < end {
            let (changes, next) =
                self.on_table(move |table| became_zero(table, block..end)).await?;
            for change in changes {
                self.send(change, None).await?;
            }
            block = next;
        }
        Ok(())
    }

    /// Writes a change; while it is under way, the table does not claim to know the blocks.
    async fn send(&self, change: Change, content: Option<Bytes>) -> Result<(), CopyError> {
        let bytes = self.table.bytes_of(change.blocks());
        self.table.fill(change.blocks(), Digest::UNKNOWN).map_err(CopyError::Table)?;
        let sent = match content {
            Some(data) => {
                let sent = data.len() as u64;
                self.target.write_at(bytes.start, data).await.map(|()| sent)
            }
            None => {
                let len = bytes.end - bytes.start;
                self.target.write_zeroes(bytes.start, len).await.map(|()| 0)
            }
        };
        let sent = sent.map_err(CopyError::target_at(bytes.start))?;
        self.table.set_many(change.first, &change.digests).map_err(CopyError::Table)?;
        self.counts.sent.fetch_add(sent, Ordering::AcqRel);
        self.counts.changed.fetch_add(change.digests.len() as u64, Ordering::AcqRel);
        self.progress.add_sent(sent);
        Ok(())
    }

    /// Hashing and the table's file I/O run on a thread that may be kept busy.
    async fn on_table<T: Send + 'static>(
        &self,
        work: impl FnOnce(&DigestTable) -> Result<T, CopyError> + Send + 'static,
    ) -> Result<T, CopyError> {
        let table = self.table.clone();
        tokio::task::spawn_blocking(move || work(&table)).await.map_err(CopyError::Digest)?
    }
}

/// Runs of blocks that differ; a run is all zero or has no zero block, because it leaves as one request.
fn changes(first: u64, known: &[Digest], found: Vec<Digest>) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    for ((block, known), found) in (first..).zip(known).zip(found) {
        if *known == found {
            continue;
        }
        match changes.last_mut() {
            Some(last)
                if last.blocks().end == block && last.is_zero() == (found == Digest::ZERO) =>
            {
                last.digests.push(found);
            }
            _ => changes.push(Change { first: block, digests: vec![found] }),
        }
    }
    changes
}

/// The changes in the next group of a run of zeroes, and the block to go on with.
fn became_zero(table: &DigestTable, blocks: Range<u64>) -> Result<(Vec<Change>, u64), CopyError> {
    let stored = table.next_stored(blocks.start).map_err(CopyError::Table)?;
    let Some(first) = stored.filter(|block| *block < blocks.end) else {
        return Ok((Vec::new(), blocks.end));
    };
    let count = (blocks.end - first).min(GROUP);
    let known = table.get_many(first, usize_of(count)).map_err(CopyError::Table)?;
    let zeroes = vec![Digest::ZERO; known.len()];
    Ok((changes(first, &known, zeroes), first + count))
}

#[cfg(test)]
mod tests;
