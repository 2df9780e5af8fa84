//! Whether a source tells the truth about changes: some of what it calls unchanged is read all the same, in turn.

use std::io;
use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::Arc;

use hub_block::BlockDevice;
use tokio_util::sync::CancellationToken;

use crate::digest_table::{GROUP, usize_of};
use crate::runs::WithoutExtents;
use crate::verify::{Check, Found, MAX_MISMATCHES_KEPT, Mismatch};
use crate::{BlockSize, CopyError, CopyOptions, DigestTable, Progress, VerifyOutcome};

/// What one run reads of the blocks that were reported unchanged, and where the next run goes on.
///
/// A run takes the next stretch of the disk, so long that `runs` stretches cover it, and begins again at its start
/// when it comes to its end. What the stretch has of changed blocks is left out, because the copy reads it anyway.
///
/// **What holds**: a block that is reported unchanged in `runs` completed runs, one after the other, is in the sample
/// of one of them, if each begins where the last completed one said, whatever the areas were. A disk that has grown
/// since is read as a whole, which no sample replaces. Where `runs` is changed on the way, the largest one counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditSample {
    ranges: Vec<Range<u64>>,
    blocks: u64,
    bytes: u64,
    next: u64,
}

impl AuditSample {
    /// Takes the stretch that begins at byte `from`, rounded down to a block; one beyond the end begins at 0.
    ///
    /// `areas` are byte ranges that are said to have changed; they may be unsorted, overlap, be empty or lie outside.
    /// Costs one look at each area, and memory for those that the stretch touches.
    pub fn plan(
        capacity: u64,
        block_size: BlockSize,
        areas: &[Range<u64>],
        runs: NonZeroU32,
        from: u64,
    ) -> Self {
        let size = block_size.bytes();
        let count = block_size.blocks(capacity);
        let first = Some(from / size).filter(|it| *it < count).unwrap_or(0);
        let end = first + count.div_ceil(u64::from(runs.get()));
        let stretches = [0..end.saturating_sub(count), first..end.min(count)];
        let blocks: Vec<_> =
            stretches.into_iter().flat_map(|it| unchanged(it, areas, size)).collect();
        let at = |block: u64| block.saturating_mul(size).min(capacity);
        let ranges: Vec<_> = blocks.iter().map(|it| at(it.start)..at(it.end)).collect();
        Self {
            blocks: blocks.iter().map(|it| it.end - it.start).sum(),
            bytes: ranges.iter().map(|it| it.end - it.start).sum(),
            ranges,
            next: at(if end >= count { end - count } else { end }),
        }
    }

    /// The bytes to read: whole blocks, in order, without overlaps.
    pub fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    /// How many blocks that is.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// How many bytes of the disk that is.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Where the next run begins, once this one is complete; a byte of the disk.
    pub fn next(&self) -> u64 {
        self.next
    }
}

/// The blocks of a stretch that no area touches, as ranges in order.
fn unchanged(stretch: Range<u64>, areas: &[Range<u64>], size: u64) -> Vec<Range<u64>> {
    let touched = areas.iter().filter(|it| it.start < it.end);
    let touched = touched.map(|it| it.start / size..it.end.div_ceil(size));
    let mut touched: Vec<_> =
        touched.filter(|it| it.start < stretch.end && it.end > stretch.start).collect();
    touched.sort_unstable_by_key(|it| it.start);
    let mut left = Vec::new();
    let mut at = stretch.start;
    for blocks in touched {
        if at < blocks.start {
            left.push(at..blocks.start);
        }
        at = at.max(blocks.end);
    }
    if at < stretch.end {
        left.push(at..stretch.end);
    }
    left
}

/// Compares a sample of the source with the table, which is the parent's; every mismatch is a change that the source
/// did not tell.
///
/// Extents that the source calls zero are compared without reading. Changes nothing. What cannot be read ends it with
/// [`CopyError::Source`], because it says nothing about the truth. Memory and cancellation are as for
/// [`copy`](crate::copy()).
pub async fn audit(
    source: Arc<dyn BlockDevice>,
    table: &DigestTable,
    sample: &AuditSample,
    options: CopyOptions,
    progress: Arc<Progress>,
    cancel: CancellationToken,
) -> Result<VerifyOutcome, CopyError> {
    let check = Check::new(source, table, options, progress, cancel)?;
    let mut outcome = check.run(sample.ranges.clone(), WithoutExtents::Fail).await?;
    outcome.blocks_checked = sample.blocks;
    Ok(outcome)
}

/// The same, of digests that are known already because a copy has read the whole source: `read` is its table.
///
/// Blocks on file I/O; refuses tables of disks of different size, or with other blocks, as invalid input.
pub fn audit_read(
    read: &DigestTable,
    table: &DigestTable,
    sample: &AuditSample,
) -> io::Result<VerifyOutcome> {
    if read.capacity() != table.capacity() || read.block_size() != table.block_size() {
        let what = "the two digest tables are of different disks";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    let size = table.block_size().bytes();
    let mut outcome = VerifyOutcome { blocks_checked: sample.blocks, ..VerifyOutcome::default() };
    for range in &sample.ranges {
        let (mut first, end) = (range.start / size, range.end.div_ceil(size));
        while first < end {
            let count = usize_of((end - first).min(GROUP));
            let (found, expected) = (read.get_many(first, count)?, table.get_many(first, count)?);
            for ((block, expected), found) in (first..).zip(expected).zip(found) {
                if found != expected {
                    outcome.mismatch_count += 1;
                    let (offset, found) = (block * size, Found::Digest(found));
                    if outcome.mismatches.len() < MAX_MISMATCHES_KEPT {
                        outcome.mismatches.push(Mismatch { block, offset, expected, found });
                    }
                }
            }
            first += count as u64;
        }
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests;
