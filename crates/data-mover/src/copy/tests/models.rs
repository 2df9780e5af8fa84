//! Copies of random disks against plain vectors.

use hub_block::MemoryDevice;
use proptest::prelude::*;

use super::super::*;
use crate::oracle::{Oracle, block_on, first_lie, memory, seam, table_of};

const BLOCK: usize = 4_096;

/// A disk at two moments: generations per block, an odd end, a few changed bytes, perhaps growth.
#[derive(Clone, Debug)]
struct History {
    before: Vec<u8>,
    after: Vec<u8>,
    options: CopyOptions,
}

fn history() -> impl Strategy<Value = History> {
    let generations = || prop::collection::vec(0_u64..3, 1..24);
    let pokes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (
        1_usize..200,
        0_usize..80,
        generations(),
        generations(),
        any::<bool>(),
        pokes,
        1_u32..9,
        0_usize..5,
    )
        .prop_map(|(sectors, grown, old, new, rewritten, pokes, request, in_flight)| {
            let oracle = Oracle::new(1);
            let (small, large) = (sectors * 512, (sectors + grown) * 512);
            let before = oracle.mixed(small, BLOCK, &old);
            let mut after = oracle.mixed(large, BLOCK, if rewritten { &new } else { &old });
            for (at, byte) in pokes {
                let at = at.index(after.len());
                after[at] = byte;
            }
            let options = CopyOptions { request_bytes: request * 3_000, in_flight, on_range: None };
            History { before, after, options }
        })
}

struct Ended {
    outcome: CopyOutcome,
    target: Vec<u8>,
    table: Arc<DigestTable>,
    progress: Arc<Progress>,
}

fn run(
    source: &[u8],
    target: Vec<u8>,
    plan: CopyPlan,
    table: DigestTable,
    options: &CopyOptions,
) -> Result<Ended, CopyError> {
    let (target, table) = (memory(target), Arc::new(table));
    let progress = Arc::new(Progress::default());
    let source = Arc::new(MemoryDevice::new_read_only(source.to_vec()));
    let outcome = block_on(copy(
        source,
        seam(&target),
        plan,
        table.clone(),
        options.clone(),
        progress.clone(),
        CancellationToken::new(),
    ))?;
    Ok(Ended { outcome, target: target.snapshot(), table, progress })
}

/// The state from which a delta starts: the parent's content and table, at the current size.
fn inherited(history: &History) -> (Vec<u8>, DigestTable) {
    let mut target = history.before.clone();
    target.resize(history.after.len(), 0);
    let table = DigestTable::temporary(history.after.len() as u64, BlockSize::MIN).unwrap();
    table.copy_from(&table_of(&history.before, BlockSize::MIN).unwrap()).unwrap();
    (target, table)
}

/// Blocks that have to be sent, and their bytes that are data.
fn must_send(history: &History) -> (u64, u64) {
    let (old, new) = (&history.before, &history.after);
    let mut counts = (0, 0);
    for (index, block) in new.chunks(BLOCK).enumerate() {
        let start = index * BLOCK;
        let mut known = old.get(start..old.len().min(start + BLOCK)).unwrap_or_default().to_vec();
        let was_short = !known.is_empty() && known.len() < block.len();
        known.resize(block.len(), 0);
        if was_short || known != block {
            counts.0 += 1;
            counts.1 += if block.iter().any(|byte| *byte != 0) { block.len() as u64 } else { 0 };
        }
    }
    counts
}

fn check(ended: &Ended, history: &History) -> Result<(), TestCaseError> {
    prop_assert!(ended.target == history.after, "the target is not the source");
    prop_assert_eq!(first_lie(&ended.table, &history.after).unwrap(), None);
    let naive = table_of(&history.after, BlockSize::MIN).unwrap();
    prop_assert_eq!(ended.outcome.root, naive.root().unwrap());
    let seen = ended.progress.snapshot();
    prop_assert_eq!(seen.done, seen.total);
    prop_assert_eq!(seen.read, ended.outcome.bytes_read);
    prop_assert_eq!(seen.sent, ended.outcome.bytes_sent);
    prop_assert_eq!(ended.outcome.bytes_total, history.after.len() as u64);
    Ok(())
}

/// The ranges of sectors that differ, as a hypervisor would name them, with extra ones in no order.
fn areas(history: &History, extra: &[(prop::sample::Index, u16)]) -> Vec<Range<u64>> {
    let sectors = history.before.chunks(512).zip(history.after.chunks(512)).enumerate();
    let mut areas: Vec<_> = sectors
        .filter(|(_, (old, new))| old != new)
        .map(|(index, _)| index as u64 * 512..(index as u64 + 1) * 512)
        .collect();
    let end = history.after.len() as u64;
    for (at, len) in extra {
        let at = at.index(history.after.len()) as u64;
        areas.push(at..end.min(at + u64::from(*len)));
    }
    areas.reverse();
    areas
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_full_copy_is_the_source(history in history(), stale in any::<bool>()) {
        let table = DigestTable::temporary(history.after.len() as u64, BlockSize::MIN).unwrap();
        if stale {
            table.fill(0..table.block_count(), Digest::of(b"left over")).unwrap();
        }
        let zeroes = vec![0; history.after.len()];
        let ended = run(&history.after, zeroes, CopyPlan::Full, table, &history.options).unwrap();
        check(&ended, &history)?;
        let data: usize = history.after.chunks(BLOCK)
            .filter(|block| block.iter().any(|byte| *byte != 0)).map(<[u8]>::len).sum();
        prop_assert_eq!(ended.outcome.bytes_sent, data as u64);
        prop_assert_eq!(ended.outcome.bytes_read, data as u64);
        prop_assert_eq!(ended.progress.snapshot().total, history.after.len() as u64);
    }

    /// Traps C22 and U27: the delta is judged by content, whatever grew.
    #[test]
    fn a_delta_by_digest_sends_what_differs_and_nothing_else(history in history()) {
        let (target, table) = inherited(&history);
        let ended = run(&history.after, target, CopyPlan::ByDigest, table, &history.options).unwrap();
        check(&ended, &history)?;
        let (blocks, bytes) = must_send(&history);
        prop_assert_eq!(ended.outcome.blocks_changed, blocks);
        prop_assert_eq!(ended.outcome.bytes_sent, bytes);
    }

    #[test]
    fn a_delta_by_areas_is_as_good_as_the_areas(
        history in history(),
        extra in prop::collection::vec((any::<prop::sample::Index>(), any::<u16>()), 0..4),
    ) {
        let (target, table) = inherited(&history);
        let plan = CopyPlan::Areas(areas(&history, &extra));
        let ended = run(&history.after, target, plan, table, &history.options).unwrap();
        check(&ended, &history)?;
        let (blocks, bytes) = must_send(&history);
        prop_assert_eq!(ended.outcome.blocks_changed, blocks);
        prop_assert_eq!(ended.outcome.bytes_sent, bytes);
    }

    /// Areas that leave out a change leave it out of the table too, which says what the target holds;
    /// the source's own table then differs, and that is how the lie is found (P7).
    #[test]
    fn areas_that_lie_never_make_the_table_lie(history in history()) {
        let (target, table) = inherited(&history);
        let ended =
            run(&history.after, target, CopyPlan::Areas(Vec::new()), table, &history.options).unwrap();
        prop_assert_eq!(first_lie(&ended.table, &ended.target).unwrap(), None);
        let truth = table_of(&history.after, BlockSize::MIN).unwrap().root().unwrap();
        prop_assert_eq!(ended.outcome.root == truth, ended.target == history.after);
        let from = history.before.len() / BLOCK * BLOCK;
        prop_assert!(history.before.len() == history.after.len()
            || ended.target[from..] == history.after[from..]);
    }
}
