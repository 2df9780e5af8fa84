//! What a copy promises beyond the bytes: bounds, few requests, progress, and refusals.

use hub_block::{FaultPlan, FaultyDevice, MemoryDevice, RawFile};
use parking_lot::Mutex;

use super::super::*;
use crate::oracle::{Oracle, ShortAnswers, memory, seam, table_of};

const MIB: usize = 1 << 20;

fn fresh(size: usize) -> Arc<DigestTable> {
    Arc::new(DigestTable::temporary(size as u64, BlockSize::USUAL).unwrap())
}

async fn plain(
    source: Arc<dyn BlockDevice>,
    target: Arc<dyn BlockDevice>,
    plan: CopyPlan,
    table: Arc<DigestTable>,
) -> Result<CopyOutcome, CopyError> {
    let progress = Arc::new(Progress::default());
    let options = CopyOptions::default();
    copy(source, target, plan, table, options, progress, CancellationToken::new()).await
}

/// Traps D7 and U25: the 102 GB disk that was written to the 5 GB target.
#[tokio::test]
async fn sizes_that_differ_are_refused_before_a_byte_moves() {
    for (source, target, table) in [(8, 9, 8), (9, 8, 8), (8, 8, 9), (9, 9, 8)] {
        let watched =
            |len: usize| Arc::new(FaultyDevice::new(memory(vec![1; len * 512]), FaultPlan::Never));
        let (from, to) = (watched(source), watched(target));
        let refused =
            plain(from.clone(), to.clone(), CopyPlan::Full, fresh(table * 512)).await.unwrap_err();
        assert!(matches!(refused, CopyError::SizeMismatch { .. }), "{refused}");
        assert_eq!(from.operations() + to.operations(), 0);
    }
}

#[tokio::test]
async fn a_read_only_target_is_refused_before_a_byte_moves() {
    let target = Arc::new(MemoryDevice::new_read_only(vec![0; 512]));
    let source = Arc::new(FaultyDevice::new(memory(vec![1; 512]), FaultPlan::Never));
    let refused = plain(source.clone(), target, CopyPlan::Full, fresh(512)).await;
    assert!(matches!(refused, Err(CopyError::Target { error: BlockError::ReadOnly, .. })));
    assert_eq!(source.operations(), 0);
}

/// Trap D46: a delta with nothing in it is a success, and flushes.
#[tokio::test]
async fn an_empty_delta_succeeds() {
    let content = Oracle::new(4).mixed(MIB + 512, 65_536, &[1, 0, 2]);
    let naive = table_of(&content, BlockSize::USUAL).unwrap();
    for plan in [CopyPlan::ByDigest, CopyPlan::Areas(Vec::new())] {
        let table = fresh(content.len());
        table.copy_from(&naive).unwrap();
        let target = Arc::new(FaultyDevice::new(memory(content.clone()), FaultPlan::Never));
        let outcome = plain(memory(content.clone()), target.clone(), plan, table).await.unwrap();
        assert_eq!((outcome.blocks_changed, outcome.bytes_sent), (0, 0));
        assert_eq!(outcome.root, naive.root().unwrap());
        assert_eq!(target.operations(), 1);
    }
}

#[tokio::test]
async fn a_disk_without_bytes_is_copied_too() {
    let outcome =
        plain(memory(Vec::new()), memory(Vec::new()), CopyPlan::Full, fresh(0)).await.unwrap();
    assert_eq!((outcome.bytes_total, outcome.blocks_changed), (0, 0));
}

/// Neighbours leave as one write: 4 MiB of data are four requests and a flush.
#[tokio::test]
async fn neighbouring_blocks_leave_as_one_write() {
    let content = Oracle::new(5).disk(4 * MIB, 65_536, 1);
    let target = Arc::new(FaultyDevice::new(memory(vec![0; 4 * MIB]), FaultPlan::Never));
    plain(memory(content), target.clone(), CopyPlan::Full, fresh(4 * MIB)).await.unwrap();
    assert_eq!(target.operations(), 5);
}

/// Counts how much is asked of a device at a time.
struct Gauge {
    inner: Arc<dyn BlockDevice>,
    now: AtomicU64,
    most: AtomicU64,
    longest: AtomicU64,
}

#[async_trait::async_trait]
impl BlockDevice for Gauge {
    fn size(&self) -> u64 {
        self.inner.size()
    }
    fn read_only(&self) -> bool {
        true
    }
    async fn read_at(&self, offset: u64, len: u32) -> Result<Bytes, BlockError> {
        let now = self.now.fetch_add(1, Ordering::AcqRel) + 1;
        self.most.fetch_max(now, Ordering::AcqRel);
        self.longest.fetch_max(u64::from(len), Ordering::AcqRel);
        tokio::task::yield_now().await;
        let data = self.inner.read_at(offset, len).await;
        self.now.fetch_sub(1, Ordering::AcqRel);
        data
    }
    async fn write_at(&self, _offset: u64, _data: Bytes) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }
    async fn write_zeroes(&self, _offset: u64, _len: u64) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }
    async fn extents(&self, offset: u64, len: u64) -> Result<Vec<Extent>, BlockError> {
        self.inner.extents(offset, len).await
    }
    async fn flush(&self) -> Result<(), BlockError> {
        Ok(())
    }
}

#[tokio::test]
async fn requests_in_flight_and_their_size_are_bounded() {
    let content = Oracle::new(6).disk(4 * MIB, 65_536, 1);
    let zero = || AtomicU64::new(0);
    let (now, most, longest) = (zero(), zero(), zero());
    let gauge = Arc::new(Gauge { inner: memory(content), now, most, longest });
    let seen: Arc<Mutex<Vec<Range<u64>>>> = Arc::default();
    let progress = Arc::new(Progress::default());
    let (ranges, counters) = (seen.clone(), progress.clone());
    let done = AtomicU64::new(0);
    let options = CopyOptions {
        request_bytes: 200_000,
        in_flight: 3,
        on_range: Some(Arc::new(move |range| {
            ranges.lock().push(range);
            let now = counters.snapshot();
            assert!(done.fetch_max(now.done, Ordering::AcqRel) <= now.done);
            assert!(now.done <= now.total && now.sent <= now.read);
        })),
    };
    let (source, target) = (gauge.clone(), memory(vec![0; 4 * MIB]));
    let (table, cancel) = (fresh(4 * MIB), CancellationToken::new());
    copy(source, target, CopyPlan::Full, table, options, progress, cancel).await.unwrap();
    assert_eq!(gauge.most.load(Ordering::Acquire), 3);
    assert_eq!(gauge.longest.load(Ordering::Acquire), 3 * 65_536);

    let mut ranges = seen.lock().clone();
    ranges.sort_unstable_by_key(|range| range.start);
    assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
    assert_eq!((ranges[0].start, ranges[ranges.len() - 1].end), (0, 4 * MIB as u64));
}

/// The seam for resuming: what was reported before a cut need not be looked at again.
#[tokio::test]
async fn the_rest_of_a_cut_copy_is_a_plan_of_areas() {
    let content = Oracle::new(7).disk(4 * MIB, 65_536, 1);
    let (image, table) = (memory(vec![0; 4 * MIB]), fresh(4 * MIB));
    let done: Arc<Mutex<Vec<Range<u64>>>> = Arc::default();
    let (seen, cancel) = (done.clone(), CancellationToken::new());
    let stop = cancel.clone();
    let on_range: RangeObserver = Arc::new(move |range| {
        seen.lock().push(range);
        if seen.lock().len() == 2 {
            stop.cancel();
        }
    });
    let options = CopyOptions { in_flight: 1, on_range: Some(on_range), ..Default::default() };
    let progress = Arc::new(Progress::default());
    let (from, plan) = (memory(content.clone()), CopyPlan::Full);
    let cut =
        copy(from.clone(), seam(&image), plan, table.clone(), options, progress, cancel).await;
    assert!(matches!(cut, Err(CopyError::Cancelled)));

    let done = done.lock().clone();
    let size = 4 * MIB as u64;
    let all = (0..size).step_by(65_536).map(|at| at..at + 65_536);
    let rest: Vec<_> = all.filter(|it| !done.iter().any(|done| done.contains(&it.start))).collect();
    let outcome = plain(from, seam(&image), CopyPlan::Areas(rest), table).await.unwrap();
    assert_eq!(image.snapshot(), content);
    assert_eq!(outcome.bytes_read + done.iter().map(|it| it.end - it.start).sum::<u64>(), size);
    assert_eq!(outcome.root, table_of(&content, BlockSize::USUAL).unwrap().root().unwrap());
}

/// Memory and time go with the data, not with the size of the disk.
#[tokio::test]
async fn an_empty_disk_of_eight_tebibytes_costs_next_to_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let size = (8_u64 << 40) + 512;
    let device =
        |name: &str| Arc::new(RawFile::create_new(&folder.path().join(name), size).unwrap());
    let (source, target) = (device("source"), device("target"));
    let content = Bytes::from(Oracle::new(9).block(1, 1, 4_096));
    for offset in [0, 3 << 40, size - 4_096] {
        source.write_at(offset, content.clone()).await.unwrap();
    }
    let table = DigestTable::temporary(size, BlockSize::for_capacity(size)).unwrap();
    let outcome = plain(source, target.clone(), CopyPlan::Full, Arc::new(table)).await.unwrap();
    assert!(outcome.bytes_read <= 8 * MIB as u64, "{} bytes read", outcome.bytes_read);
    assert!((3..=4).contains(&outcome.blocks_changed));
    for offset in [0, 3 << 40, size - 4_096] {
        assert_eq!(target.read_at(offset, 4_096).await.unwrap(), content);
    }
}

/// A source that answers with too little is corrupt; its bytes are not taken for others.
#[tokio::test]
async fn a_short_answer_is_an_error() {
    let source = Arc::new(ShortAnswers(MemoryDevice::new(vec![1; 8_192])));
    let refused = plain(source, memory(vec![0; 8_192]), CopyPlan::Full, fresh(8_192)).await;
    let Err(CopyError::Source { offset: 0, error: BlockError::Corrupt { .. } }) = refused else {
        panic!("{refused:?}");
    };
}

/// A copy can be a task of its own.
#[test]
fn the_future_can_move_between_threads() {
    fn sendable<T: Send>(_: &T) {}
    let work = plain(memory(vec![]), memory(vec![]), CopyPlan::Full, fresh(0));
    sendable(&work);
}
