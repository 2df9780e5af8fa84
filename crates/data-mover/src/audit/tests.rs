//! Samples that go round, and lies that they find.

use hub_block::{FaultPlan, FaultyDevice, MemoryDevice};
use proptest::prelude::*;

use super::*;
use crate::oracle::{Oracle, block_on, table_of};
use crate::{Digest, Found};

const BLOCK: u64 = 4_096;

fn runs(count: u32) -> NonZeroU32 {
    NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN)
}

fn one(range: &Range<u64>) -> &[Range<u64>] {
    std::slice::from_ref(range)
}

fn plan(capacity: u64, areas: &[Range<u64>], count: u32, from: u64) -> AuditSample {
    AuditSample::plan(capacity, BlockSize::MIN, areas, runs(count), from)
}

#[test]
fn the_stretch_goes_on_where_the_last_one_ended_and_begins_again_at_the_end() {
    let disk = 10 * BLOCK - 100;
    let first = plan(disk, &[], 4, 0);
    assert_eq!((first.ranges(), first.next()), (one(&(0..3 * BLOCK)), 3 * BLOCK));
    let last = plan(disk, &[], 4, 9 * BLOCK);
    assert_eq!(last.ranges(), [0..2 * BLOCK, 9 * BLOCK..disk]);
    assert_eq!((last.blocks(), last.bytes(), last.next()), (3, 3 * BLOCK - 100, 2 * BLOCK));
    // A place that is none any more: the start of the disk is as good as any.
    assert_eq!(plan(disk, &[], 4, u64::MAX), first);
    assert_eq!(plan(disk, &[], 4, BLOCK + 7).ranges(), one(&(BLOCK..4 * BLOCK)));
}

#[test]
fn what_has_changed_is_left_out_and_the_stretch_moves_on_all_the_same() {
    let areas = [5 * BLOCK - 1..5 * BLOCK + 1, 7 * BLOCK..7 * BLOCK, 0..1, 6 * BLOCK..99 * BLOCK];
    let sample = plan(8 * BLOCK, &areas, 2, 2 * BLOCK);
    assert_eq!((sample.ranges(), sample.next()), (one(&(2 * BLOCK..4 * BLOCK)), 6 * BLOCK));
    // An area without a byte hides no block.
    let empty = plan(8 * BLOCK, one(&(3 * BLOCK + 5..3 * BLOCK + 5)), 2, 2 * BLOCK);
    assert_eq!(empty.blocks(), 4);
    let all = plan(8 * BLOCK, one(&(0..8 * BLOCK)), 2, 2 * BLOCK);
    assert_eq!((all.ranges().len(), all.blocks(), all.next()), (0, 0, 6 * BLOCK));
}

#[test]
fn one_run_reads_everything_and_a_small_disk_a_block_at_a_time() {
    assert_eq!(plan(10 * BLOCK, &[], 1, 4 * BLOCK).bytes(), 10 * BLOCK);
    let small = plan(3 * BLOCK, &[], 100, 2 * BLOCK);
    assert_eq!((small.ranges(), small.next()), (one(&(2 * BLOCK..3 * BLOCK)), 0));
    assert_eq!((plan(0, &[], 100, 7).blocks(), plan(0, &[], 100, 7).next()), (0, 0));
}

/// What may happen to a disk between two of its points.
#[derive(Clone, Debug)]
enum Run {
    /// By areas, and complete; perhaps with another setting.
    Done { areas: Vec<(prop::sample::Index, u64)>, runs: u32 },
    /// By areas, and for nothing: the place of the next sample stays.
    Failed { areas: Vec<(prop::sample::Index, u64)>, runs: u32 },
    /// Everything was read, because the disk has grown by so many bytes, or for another reason.
    Whole { grown: u64 },
}

fn history() -> impl Strategy<Value = (u64, u32, Vec<Run>)> {
    (1_u64..200 * BLOCK, 1_u32..40).prop_flat_map(|(capacity, most)| {
        let areas =
            || prop::collection::vec((any::<prop::sample::Index>(), 0_u64..20 * BLOCK), 0..4);
        let run = prop_oneof![
            8 => (areas(), 1..=most).prop_map(|(areas, runs)| Run::Done { areas, runs }),
            2 => (areas(), 1..=most).prop_map(|(areas, runs)| Run::Failed { areas, runs }),
            1 => (0_u64..30 * BLOCK).prop_map(|grown| Run::Whole { grown }),
        ];
        (Just(capacity), Just(most), prop::collection::vec(run, 1..150))
    })
}

proptest! {
    /// The promise: whatever happens to a disk, no block is reported unchanged in so many completed runs without being
    /// read in one of them.
    #[test]
    fn no_block_goes_unseen_for_as_many_runs_as_were_promised((capacity, most, history) in history()) {
        let mut capacity = capacity;
        let mut from = 0;
        let mut unseen = vec![0_u32; usize::try_from(capacity.div_ceil(BLOCK)).unwrap()];
        for run in history {
            let (done, areas, count) = match run {
                Run::Whole { grown } => {
                    capacity += grown;
                    unseen = vec![0; usize::try_from(capacity.div_ceil(BLOCK)).unwrap()];
                    continue;
                }
                Run::Done { areas, runs } => (true, areas, runs),
                Run::Failed { areas, runs } => (false, areas, runs),
            };
            let disk = usize::try_from(capacity).unwrap();
            let areas: Vec<_> = areas
                .into_iter()
                .map(|(at, len)| (at.index(disk) as u64, len))
                .map(|(at, len)| at..capacity.min(at + len))
                .collect();
            let sample = plan(capacity, &areas, count, from);
            let width = unseen.len().div_ceil(usize::try_from(count).unwrap());
            prop_assert!(sample.blocks() <= width as u64, "a run reads no more than its part");
            prop_assert!(sample.next() < capacity);
            let mut seen = vec![false; unseen.len()];
            let mut end = 0;
            for range in sample.ranges() {
                prop_assert!(range.start >= end && range.start < range.end && range.end <= capacity);
                end = range.end;
                for block in range.start / BLOCK..range.end.div_ceil(BLOCK) {
                    seen[usize::try_from(block).unwrap()] = true;
                }
            }
            prop_assert_eq!(seen.iter().filter(|it| **it).count() as u64, sample.blocks());
            let sampled = seen.clone();
            for area in areas.iter().filter(|it| it.start < it.end) {
                for block in area.start / BLOCK..area.end.div_ceil(BLOCK) {
                    let block = usize::try_from(block).unwrap();
                    prop_assert!(!sampled[block], "a changed block is in the sample");
                    seen[block] = true;
                }
            }
            if !done {
                continue;
            }
            from = sample.next();
            for (unseen, seen) in unseen.iter_mut().zip(seen) {
                *unseen = if seen { 0 } else { *unseen + 1 };
                prop_assert!(*unseen < most, "a block was not seen in {most} runs");
            }
        }
    }
}

async fn look(
    source: Arc<dyn BlockDevice>,
    table: &DigestTable,
    sample: &AuditSample,
) -> Result<VerifyOutcome, CopyError> {
    let progress = Arc::new(Progress::default());
    let outcome = audit(
        source,
        table,
        sample,
        CopyOptions::default(),
        progress.clone(),
        CancellationToken::new(),
    )
    .await?;
    let counted = progress.snapshot();
    assert_eq!((counted.total, counted.done), (sample.bytes(), sample.bytes()));
    assert_eq!((counted.read, counted.sent), (outcome.bytes_read, 0));
    Ok(outcome)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Trap U36: every change that was not told is found by the run whose stretch it lies in, and within as many runs
    /// as were promised; nothing else is called a lie.
    #[test]
    fn a_change_that_was_left_out_is_found_in_time(
        sectors in 1_usize..200,
        generations in prop::collection::vec(0_u64..3, 1..9),
        at in any::<prop::sample::Index>(),
        zeroed in any::<bool>(),
        promised in 1_u32..20,
        start in any::<prop::sample::Index>(),
    ) {
        let before = Oracle::new(1).mixed(sectors * 512, 4_096, &generations);
        let table = table_of(&before, BlockSize::MIN).unwrap();
        let mut after = before.clone();
        let place = at.index(after.len());
        after[place] = if zeroed { 0 } else { after[place] ^ 0x40 };
        let block = place / 4_096;
        let is_lie = after != before;
        let found = Digest::of(&after[block * 4_096..after.len().min((block + 1) * 4_096)]);
        let read = table_of(&after, BlockSize::MIN).unwrap();
        let device: Arc<dyn BlockDevice> = Arc::new(MemoryDevice::new_read_only(after));
        let mut from = start.index(before.len()) as u64;
        let mut lies = 0;
        for _ in 0..promised {
            let sample = plan(before.len() as u64, &[], promised, from);
            let outcome = block_on(look(device.clone(), &table, &sample)).unwrap();
            let read = audit_read(&read, &table, &sample).unwrap();
            prop_assert_eq!((read.blocks_checked, &read.mismatches), (outcome.blocks_checked, &outcome.mismatches));
            prop_assert_eq!(outcome.blocks_checked, sample.blocks());
            for lie in &outcome.mismatches {
                prop_assert_eq!((lie.block, lie.offset), (block as u64, block as u64 * BLOCK));
                prop_assert_eq!((lie.expected, &lie.found), (table.get(lie.block).unwrap(), &Found::Digest(found)));
            }
            lies += outcome.mismatch_count;
            from = sample.next();
        }
        prop_assert_eq!(lies > 0, is_lie);
    }
}

/// More than one group of digests, and more mismatches than are kept.
#[test]
fn what_a_copy_has_read_is_compared_block_by_block_but_for_what_was_named() {
    const BLOCKS: u64 = 3_000;
    let table = DigestTable::temporary(BLOCKS * BLOCK, BlockSize::MIN).unwrap();
    let read = DigestTable::temporary(BLOCKS * BLOCK, BlockSize::MIN).unwrap();
    let other = Digest::of(b"changed");
    for block in [0, 1_023, 1_024, 2_999] {
        read.set(block, other).unwrap();
    }
    let area = 1_023 * BLOCK + 1..1_023 * BLOCK + 2;
    let sample = plan(BLOCKS * BLOCK, one(&area), 1, 7 * BLOCK);
    let found = audit_read(&read, &table, &sample).unwrap();
    let blocks: Vec<_> = found.mismatches.iter().map(|it| it.block).collect();
    assert_eq!((found.mismatch_count, found.blocks_checked), (3, BLOCKS - 1));
    assert_eq!((blocks, sample.next()), (vec![0, 1_024, 2_999], 7 * BLOCK));
    read.fill(0..BLOCKS, other).unwrap();
    let found = audit_read(&read, &table, &sample).unwrap();
    assert_eq!((found.mismatch_count, found.mismatches.len()), (BLOCKS - 1, MAX_MISMATCHES_KEPT));
    let larger = DigestTable::temporary(BLOCKS * BLOCK + 1, BlockSize::MIN).unwrap();
    assert!(audit_read(&larger, &table, &sample).is_err());
    let coarser = BlockSize::new(8_192).unwrap();
    let coarser = DigestTable::temporary(BLOCKS * BLOCK, coarser).unwrap();
    assert!(audit_read(&coarser, &table, &sample).is_err());
    assert!(audit_read(&table, &coarser, &sample).is_err());
}

#[tokio::test]
async fn what_cannot_be_read_is_no_lie_and_ends_the_audit() {
    let disk = Oracle::new(1).disk(64 * 4_096, 4_096, 1);
    let table = table_of(&disk, BlockSize::MIN).unwrap();
    let sample = plan(64 * BLOCK, &[], 2, 0);
    let memory = Arc::new(MemoryDevice::new_read_only(disk));
    assert!(look(memory.clone(), &table, &sample).await.unwrap().is_sound());
    let faulty = FaultyDevice::new(memory, FaultPlan::IoErrorAt(1));
    let ended = look(Arc::new(faulty), &table, &sample).await;
    assert!(matches!(ended, Err(CopyError::Source { offset: 0, .. })), "{ended:?}");
    let other = look(Arc::new(MemoryDevice::new(vec![0; 63 * 4_096])), &table, &sample).await;
    assert!(matches!(other, Err(CopyError::SizeMismatch { .. })), "{other:?}");
}
