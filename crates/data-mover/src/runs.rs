//! From a device's extents to runs of whole blocks, asked ahead of those who work on them side by side.

use std::ops::Range;

use futures::stream::FuturesUnordered;
use futures::{StreamExt, TryStreamExt};
use hub_block::{BlockDevice, BlockError, Extent, ExtentKind, merge_extents};
use tokio::sync::mpsc;

use crate::CopyError;

/// Extents are asked for so many bytes at a time, which bounds how many can be in memory.
const WINDOW: u64 = 1 << 30;

/// Ranges within so many bytes are asked about together: a question costs a change of threads, and changed areas
/// are many.
const NEAR: u64 = 256 << 20;

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

/// Sends the runs of `ranges`, which are in order; ends early when the receiver is gone.
///
/// The ranges are whole blocks. Waits for room in the channel, so it is at most that far ahead.
pub(crate) async fn send_runs(
    device: &dyn BlockDevice,
    ranges: Vec<Range<u64>>,
    cut: Cut,
    runs: mpsc::Sender<Extent>,
) -> Result<(), (u64, BlockError)> {
    for group in groups(&ranges) {
        // Where the question fails, each range is asked about alone: what lies between them is nobody's concern.
        let shared = match group {
            [first, .., last] => device.extents(first.start, last.end - first.start).await.ok(),
            _ => None,
        };
        for range in group {
            let all_taken = match &shared {
                Some(extents) => {
                    let found = block_runs(range.clone(), about(extents, range), cut.block);
                    send_pieces(found, cut, &runs).await
                }
                None => send_range(device, range.clone(), cut, &runs).await?,
            };
            if !all_taken {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Ranges that lie near each other, so that one question about extents does for all of them.
fn groups(ranges: &[Range<u64>]) -> impl Iterator<Item = &[Range<u64>]> {
    let mut left = ranges;
    std::iter::from_fn(move || {
        let start = left.first()?.start;
        let near = left.iter().take_while(|it| it.end.saturating_sub(start) <= NEAR).count();
        let (group, rest) = left.split_at(near.max(1));
        left = rest;
        Some(group)
    })
}

/// Those extents that say something about a range.
fn about(extents: &[Extent], range: &Range<u64>) -> Vec<Extent> {
    let first = extents.partition_point(|it| it.end() <= range.start);
    let from = extents.get(first..).unwrap_or_default();
    from.iter().take_while(|it| it.offset < range.end).copied().collect()
}

/// Asks about one range, window by window, and sends its runs; false when nobody takes them.
async fn send_range(
    device: &dyn BlockDevice,
    range: Range<u64>,
    cut: Cut,
    runs: &mpsc::Sender<Extent>,
) -> Result<bool, (u64, BlockError)> {
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
        if !send_pieces(block_runs(window, extents, cut.block), cut, runs).await {
            return Ok(false);
        }
    }
    Ok(true)
}

/// False when nobody takes them.
async fn send_pieces(found: Vec<Extent>, cut: Cut, runs: &mpsc::Sender<Extent>) -> bool {
    for run in found {
        for piece in pieces(run, cut.request) {
            if runs.send(piece).await.is_err() {
                return false;
            }
        }
    }
    true
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

    #[test]
    fn ranges_are_asked_about_together_while_they_are_near() {
        let ranges = [0..1, 5..NEAR, NEAR..NEAR + 1, NEAR + 7..3 * NEAR, 4 * NEAR..4 * NEAR + 1];
        let found: Vec<_> = groups(&ranges).map(<[_]>::len).collect();
        assert_eq!(found, [2, 1, 1, 1]);
    }

    /// What a device says of all ranges at once gives the runs that asking about each would give.
    #[tokio::test]
    async fn ranges_that_are_asked_about_together_have_the_same_runs() {
        let device = hub_block::MemoryDevice::new(vec![0; 1 << 20]);
        for at in [0_u64, 100_000, 300_000, 700_000] {
            device.write_at(at, vec![1; 5000].into()).await.unwrap();
        }
        let ranges: Vec<_> =
            [0..8192, 65_536..131_072, 290_816..331_776, 1_044_480..1 << 20].into();
        let cut = Cut { block: 4096, request: 16_384, without_extents: WithoutExtents::Fail };
        let (together, mut found) = mpsc::channel(1000);
        send_runs(&device, ranges.clone(), cut, together).await.unwrap();
        let (alone, mut expected) = mpsc::channel(1000);
        for range in ranges {
            assert!(send_range(&device, range, cut, &alone).await.unwrap());
        }
        drop(alone);
        let mut kinds = [0, 0];
        while let Some(run) = expected.recv().await {
            kinds[usize::from(run.kind == ExtentKind::Data)] += 1;
            assert_eq!(found.recv().await, Some(run));
        }
        assert_eq!(found.recv().await, None);
        assert!(kinds[0] > 0 && kinds[1] > 0, "{kinds:?}");
    }

    /// Damage between the ranges is not theirs.
    #[tokio::test]
    async fn ranges_are_asked_about_alone_where_asking_about_all_fails() {
        let device = Hole(hub_block::MemoryDevice::new(vec![0; 1 << 20]));
        let cut = Cut { block: 4096, request: 16_384, without_extents: WithoutExtents::Fail };
        let (sender, mut found) = mpsc::channel(1000);
        send_runs(&device, vec![0..4096, 8192..12_288], cut, sender).await.unwrap();
        let mut starts = Vec::new();
        while let Some(run) = found.recv().await {
            starts.push(run.offset);
        }
        assert_eq!(starts, [0, 8192]);
        let (sender, _found) = mpsc::channel(1000);
        let refused = send_runs(&device, vec![0..8192, 12_288..16_384], cut, sender).await;
        assert!(matches!(refused, Err((0, BlockError::Corrupt { .. }))));
    }

    /// Cannot describe what touches the second page.
    struct Hole(hub_block::MemoryDevice);

    #[async_trait::async_trait]
    impl BlockDevice for Hole {
        fn size(&self) -> u64 {
            self.0.size()
        }
        fn read_only(&self) -> bool {
            false
        }
        async fn read_at(&self, offset: u64, len: u32) -> Result<bytes::Bytes, BlockError> {
            self.0.read_at(offset, len).await
        }
        async fn write_at(&self, offset: u64, data: bytes::Bytes) -> Result<(), BlockError> {
            self.0.write_at(offset, data).await
        }
        async fn write_zeroes(&self, offset: u64, len: u64) -> Result<(), BlockError> {
            self.0.write_zeroes(offset, len).await
        }
        async fn extents(&self, offset: u64, len: u64) -> Result<Vec<Extent>, BlockError> {
            if offset < 8192 && offset + len > 4096 {
                return Err(BlockError::Corrupt { offset: 4096, what: "a hole".to_owned() });
            }
            self.0.extents(offset, len).await
        }
        async fn flush(&self) -> Result<(), BlockError> {
            self.0.flush().await
        }
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
