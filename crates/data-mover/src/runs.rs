//! From a device's extents to runs of whole blocks, asked ahead of those who work on them side by side.

use std::ops::Range;

use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt};
use hub_block::{BlockDevice, BlockError, Extent, ExtentKind, merge_extents};
use tokio::sync::mpsc;

use crate::CopyError;

/// Extents are asked for so many bytes at a time, which bounds how many can be in memory.
const WINDOW: u64 = 1 << 30;

/// What to do when a device cannot describe a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WithoutExtents {
    /// Give up with the device's error.
    Fail,
    /// Read the range, which shows the damage where it is.
    Read,
}

/// How the runs are cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    /// Size of a block in bytes.
    pub block: u64,
    /// Longest run of data, in bytes; a multiple of the block.
    pub request: u64,
    /// What to do when a device cannot describe a range.
    pub without_extents: WithoutExtents,
}

/// Sends the runs of `ranges` in order; ends early when the receiver is gone.
///
/// The ranges are whole blocks. Waits for room in the channel, so it is at most that far ahead.
pub(crate) async fn send_runs(
    device: &dyn BlockDevice,
    ranges: Vec<Range<u64>>,
    cut: Cut,
    runs: mpsc::Sender<Extent>,
) -> Result<(), (u64, BlockError)> {
    for range in ranges {
        let mut at = range.start;
        while at < range.end {
            let window = at..range.end.min(at + WINDOW);
            let len = window.end - window.start;
            let extents = match (device.extents(at, len).await, cut.without_extents) {
                (Ok(extents), _) => extents,
                (Err(error), WithoutExtents::Fail) => return Err((at, error)),
                (Err(_), WithoutExtents::Read) => Vec::new(),
            };
            at = window.end;
            for run in block_runs(window, extents, cut.block) {
                for piece in pieces(run, cut.request) {
                    if runs.send(piece).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }
    Ok(())
}

/// Lets `work` take the runs as they come, so many at a time; the first error ends it.
pub(crate) async fn each_run<W: Future<Output = Result<(), CopyError>>>(
    mut runs: mpsc::Receiver<Extent>,
    lanes: usize,
    work: impl Fn(Extent) -> W,
) -> Result<(), CopyError> {
    let mut busy = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(done) = busy.next() => done?,
            run = runs.recv(), if busy.len() < lanes => match run {
                Some(run) => busy.push(work(run)),
                None => break,
            },
        }
    }
    busy.try_collect().await
}

/// Cuts a run of data to requests; a run of zeroes costs nothing and stays whole.
fn pieces(run: Extent, request: u64) -> impl Iterator<Item = Extent> {
    let step = if run.kind == ExtentKind::Data { request } else { run.len };
    let mut at = run.offset;
    std::iter::from_fn(move || {
        let len = (run.end() - at).min(step);
        let piece = Extent { offset: at, len, kind: run.kind };
        at += len;
        (len > 0).then_some(piece)
    })
}

/// Turns extents into runs of whole blocks that cover the window exactly.
///
/// A block is zero only when all of it lies in zero extents; whatever the extents leave out, overlap
/// or put out of order is data, so a device that answers badly costs time and never content.
/// The window starts on a block and ends on one or at the end of the disk.
pub(crate) fn block_runs(window: Range<u64>, extents: Vec<Extent>, block: u64) -> Vec<Extent> {
    let mut runs = Vec::new();
    let mut at = window.start;
    for extent in merge_extents(extents).into_iter().filter(|it| it.kind == ExtentKind::Zero) {
        let end = extent.offset.saturating_add(extent.len).min(window.end);
        let start = extent.offset.max(window.start).div_ceil(block).saturating_mul(block);
        let end = if end == window.end { end } else { end / block * block };
        if start < at || start >= end {
            continue;
        }
        push(&mut runs, at..start, ExtentKind::Data);
        push(&mut runs, start..end, ExtentKind::Zero);
        at = end;
    }
    push(&mut runs, at..window.end, ExtentKind::Data);
    merge_extents(runs)
}

fn push(runs: &mut Vec<Extent>, range: Range<u64>, kind: ExtentKind) {
    if range.start < range.end {
        runs.push(Extent { offset: range.start, len: range.end - range.start, kind });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn extent(offset: u64, len: u64, kind: ExtentKind) -> Extent {
        Extent { offset, len, kind }
    }

    #[test]
    fn data_is_widened_and_zeroes_are_narrowed() {
        use ExtentKind::{Data, Zero};
        let extents = vec![extent(0, 9, Zero), extent(9, 2, Data), extent(11, 14, Zero)];
        let runs = block_runs(0..25, extents, 8);
        assert_eq!(runs, [extent(0, 8, Zero), extent(8, 8, Data), extent(16, 9, Zero)]);
    }

    #[test]
    fn neighbouring_zero_extents_count_together() {
        let extents = vec![extent(0, 3, ExtentKind::Zero), extent(3, 5, ExtentKind::Zero)];
        assert_eq!(block_runs(0..8, extents, 8), [extent(0, 8, ExtentKind::Zero)]);
    }

    #[test]
    fn data_is_cut_to_requests_and_zeroes_are_not() {
        let cut: Vec<_> = pieces(extent(8, 20, ExtentKind::Data), 8).map(|it| it.len).collect();
        assert_eq!(cut, [8, 8, 4]);
        assert_eq!(pieces(extent(8, 20, ExtentKind::Zero), 8).count(), 1);
    }

    proptest! {
        /// Whatever a device answers, the window is covered, and only what it calls zero is skipped.
        #[test]
        fn nonsense_never_hides_a_byte(
            raw in prop::collection::vec((0_u64..200, 0_u64..80, any::<bool>()), 0..8),
            blocks in 1_u64..12, tail in 1_u64..=8,
        ) {
            let kind = |zero| if zero { ExtentKind::Zero } else { ExtentKind::Data };
            let extents: Vec<_> = raw.iter().map(|(at, len, zero)| extent(*at, *len, kind(*zero))).collect();
            let window = 16..16 + (blocks - 1) * 8 + tail;
            let said_zero = |byte: u64| extents.iter()
                .any(|it| it.kind == ExtentKind::Zero && (it.offset..it.end()).contains(&byte));
            let mut at = window.start;
            for run in block_runs(window.clone(), extents.clone(), 8) {
                prop_assert_eq!(run.offset, at);
                prop_assert!(run.len > 0 && (run.offset % 8 == 0));
                at = run.end();
                if run.kind == ExtentKind::Zero {
                    prop_assert!((run.offset..run.end()).all(said_zero));
                }
            }
            prop_assert_eq!(at, window.end);
        }
    }
}
