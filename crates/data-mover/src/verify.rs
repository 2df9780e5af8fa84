//! Comparing an image with its manifest: what is wrong, where, and how much of it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hub_block::{BlockDevice, BlockError, Extent, ExtentKind};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::digest::digests_of;
use crate::digest_table::{GROUP, usize_of};
use crate::examine::look_at;
use crate::runs::{WithoutExtents, each_run, send_runs};
use crate::{CopyError, CopyOptions, Digest, DigestTable, Progress};

/// So many mismatches are kept, those with the lowest offsets; the others are only counted.
pub const MAX_MISMATCHES_KEPT: usize = 100;

/// What a block turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Its bytes have this digest.
    Digest(Digest),
    /// It could not be read, for this reason.
    Unreadable(String),
}

/// A block that is not what the manifest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The block's number.
    pub block: u64,
    /// Its first byte on the disk.
    pub offset: u64,
    /// The digest in the manifest.
    pub expected: Digest,
    /// What was found instead.
    pub found: Found,
}

/// The result of a verification that reached the end of the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyOutcome {
    /// Blocks compared, those that the image calls zero included.
    pub blocks_checked: u64,
    /// Bytes read from the image.
    pub bytes_read: u64,
    /// How many blocks are wrong.
    pub mismatch_count: u64,
    /// The first of them by offset, at most [`MAX_MISMATCHES_KEPT`].
    pub mismatches: Vec<Mismatch>,
}

impl VerifyOutcome {
    /// Whether every block is what the manifest says.
    pub fn is_sound(&self) -> bool {
        self.mismatch_count == 0
    }
}

/// Compares every block of an image with the digest table of its manifest.
///
/// Extents that the image calls zero are compared without reading. A block that cannot be read, because
/// the image's own metadata is damaged or the file system refuses, is a mismatch like another and does not end the run;
/// a connection that is lost or silent does, as [`CopyError::Source`].
/// Holds at most `in_flight` requests in memory; once `cancel` is set no further
/// request begins and those under way are dropped.
/// Of `options`, the observer is told which ranges have been compared.
pub async fn verify(
    device: Arc<dyn BlockDevice>,
    manifest_table: &DigestTable,
    options: CopyOptions,
    progress: Arc<Progress>,
    cancel: CancellationToken,
) -> Result<VerifyOutcome, CopyError> {
    let check = Check::new(device, manifest_table, options, progress, cancel)?;
    let everything = std::iter::once(0..manifest_table.capacity()).collect();
    let mut outcome = check.run(everything, WithoutExtents::Read).await?;
    outcome.blocks_checked = manifest_table.block_count();
    Ok(outcome)
}

#[derive(Default)]
struct Wrong {
    count: u64,
    first: BTreeMap<u64, Mismatch>,
}

/// The comparison of some ranges of a device with a table.
pub(crate) struct Check<'a> {
    device: Arc<dyn BlockDevice>,
    table: &'a DigestTable,
    options: CopyOptions,
    progress: Arc<Progress>,
    cancel: CancellationToken,
    wrong: Mutex<Wrong>,
    read: AtomicU64,
}

impl<'a> Check<'a> {
    /// Refuses a device of another size than the table's.
    pub(crate) fn new(
        device: Arc<dyn BlockDevice>,
        table: &'a DigestTable,
        options: CopyOptions,
        progress: Arc<Progress>,
        cancel: CancellationToken,
    ) -> Result<Self, CopyError> {
        let (size, capacity) = (device.size(), table.capacity());
        if size != capacity {
            return Err(CopyError::SizeMismatch {
                source_bytes: size,
                target_bytes: size,
                table_bytes: capacity,
            });
        }
        let (wrong, read) = (Mutex::default(), AtomicU64::new(0));
        Ok(Self { device, table, options, progress, cancel, wrong, read })
    }

    /// Compares `ranges`, which are whole blocks in order; `unreadable` says whether what cannot be read is a mismatch
    /// or the end. How many blocks were compared is left to the caller, who has chosen them.
    pub(crate) async fn run(
        self,
        ranges: Vec<Range<u64>>,
        unreadable: WithoutExtents,
    ) -> Result<VerifyOutcome, CopyError> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => return Err(CopyError::Cancelled),
            done = self.compare(ranges, unreadable) => done?,
        }
        let wrong = self.wrong.into_inner();
        Ok(VerifyOutcome {
            blocks_checked: 0,
            bytes_read: self.read.into_inner(),
            mismatch_count: wrong.count,
            mismatches: wrong.first.into_values().collect(),
        })
    }

    async fn compare(
        &self,
        ranges: Vec<Range<u64>>,
        unreadable: WithoutExtents,
    ) -> Result<(), CopyError> {
        self.progress.add_total(ranges.iter().map(|it| it.end - it.start).sum());
        let cut = self.options.cut(self.table.block_size(), unreadable);
        let (sender, receiver) = mpsc::channel(self.options.lanes() * 4);
        let asking = async {
            let asked = send_runs(&*self.device, ranges, cut, sender).await;
            asked.map_err(|(offset, error)| CopyError::Source { offset, error })
        };
        let checking = each_run(receiver, self.options.lanes(), |run| self.check(run, unreadable));
        tokio::try_join!(asking, checking)?;
        Ok(())
    }

    async fn check(&self, run: Extent, unreadable: WithoutExtents) -> Result<(), CopyError> {
        if self.cancel.is_cancelled() {
            return Err(CopyError::Cancelled);
        }
        match run.kind {
            ExtentKind::Zero => self.check_zeroes(run).await?,
            ExtentKind::Data => match self.check_data(run).await {
                Err(CopyError::Source { error, .. })
                    if unreadable == WithoutExtents::Read && shows_damage(&error) =>
                {
                    self.check_each(run).await?;
                }
                other => other?,
            },
        }
        self.progress.add_done(run.len);
        if let Some(tell) = &self.options.on_range {
            tell(run.offset..run.end());
        }
        Ok(())
    }

    async fn check_data(&self, run: Extent) -> Result<(), CopyError> {
        let size = self.table.block_size();
        let looked = look_at(&self.device, run, move |data| digests_of(&data, size));
        let found = looked.await.map_err(CopyError::unseen_at(run.offset))?;
        self.read.fetch_add(run.len, Ordering::AcqRel);
        self.progress.add_read(run.len);
        let first = run.offset / size.bytes();
        let expected = self.table.get_many(first, found.len()).map_err(CopyError::Table)?;
        for ((block, expected), found) in (first..).zip(expected).zip(found) {
            if found != expected {
                self.note(block, expected, Found::Digest(found));
            }
        }
        Ok(())
    }

    /// After a request that failed: block by block, so that damage is blamed on no more than it hit.
    async fn check_each(&self, run: Extent) -> Result<(), CopyError> {
        let size = self.table.block_size().bytes();
        for block in run.offset / size..run.end().div_ceil(size) {
            let bytes = self.table.bytes_of(block..block + 1);
            let one = Extent { offset: bytes.start, len: bytes.end - bytes.start, kind: run.kind };
            match self.check_data(one).await {
                Err(CopyError::Source { error, .. }) if shows_damage(&error) => {
                    let expected = self.table.get(block).map_err(CopyError::Table)?;
                    self.note(block, expected, Found::Unreadable(error.to_string()));
                }
                other => other?,
            }
        }
        Ok(())
    }

    async fn check_zeroes(&self, run: Extent) -> Result<(), CopyError> {
        let size = self.table.block_size().bytes();
        let end = run.end().div_ceil(size);
        let mut block = run.offset / size;
        while let Some(first) = self.table.next_stored(block).map_err(CopyError::Table)? {
            if first >= end {
                break;
            }
            let count = (end - first).min(GROUP);
            let expected = self.table.get_many(first, usize_of(count)).map_err(CopyError::Table)?;
            for (block, expected) in (first..).zip(expected) {
                if expected != Digest::ZERO {
                    self.note(block, expected, Found::Digest(Digest::ZERO));
                }
            }
            block = first + count;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    fn note(&self, block: u64, expected: Digest, found: Found) {
        let offset = self.table.bytes_of(block..block + 1).start;
        let mut wrong = self.wrong.lock();
        wrong.count += 1;
        wrong.first.insert(block, Mismatch { block, offset, expected, found });
        if wrong.first.len() > MAX_MISMATCHES_KEPT {
            wrong.first.pop_last();
        }
    }
}

/// Whether an error says something about the image, not about the way to it.
fn shows_damage(error: &BlockError) -> bool {
    !matches!(error, BlockError::Disconnected(_) | BlockError::TimedOut(_))
}

#[cfg(test)]
mod tests;
