//! Damage of every kind, found at its place.

use hub_block::{FaultPlan, FaultyDevice, MemoryDevice};
use proptest::prelude::*;

use super::*;
use crate::BlockSize;
use crate::oracle::{Oracle, block_on, memory, table_of};

async fn check(
    device: Arc<dyn BlockDevice>,
    table: &DigestTable,
    in_flight: usize,
) -> Result<VerifyOutcome, CopyError> {
    let options = CopyOptions { request_bytes: 16_384, in_flight, on_range: None };
    let progress = Arc::new(Progress::default());
    let outcome =
        verify(device, table, options, progress.clone(), CancellationToken::new()).await?;
    let seen = progress.snapshot();
    assert_eq!((seen.done, seen.read), (seen.total, outcome.bytes_read));
    Ok(outcome)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// P4: flipped bits, zeroed and swapped blocks are all found, each at its place, and nothing else is.
    #[test]
    fn damage_is_found_where_it_is(
        sectors in 1_usize..200,
        generations in prop::collection::vec(0_u64..3, 1..9),
        flips in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        lost in prop::option::of(any::<prop::sample::Index>()),
        in_flight in 1_usize..5,
    ) {
        let good = Oracle::new(1).mixed(sectors * 512, 4_096, &generations);
        let table = table_of(&good, BlockSize::MIN).unwrap();
        let mut bad = good.clone();
        for flip in flips {
            let bit = flip.index(bad.len() * 8);
            bad[bit / 8] ^= 1 << (bit % 8);
        }
        if let Some(lost) = lost {
            let start = lost.index(bad.len()) / 4_096 * 4_096;
            let end = bad.len().min(start + 4_096);
            bad[start..end].fill(0);
        }
        let blocks = good.chunks(4_096).zip(bad.chunks(4_096)).enumerate();
        let wrong: Vec<u64> =
            blocks.filter(|(_, (a, b))| a != b).map(|(index, _)| index as u64).collect();
        let outcome = block_on(check(memory(bad.clone()), &table, in_flight)).unwrap();
        prop_assert_eq!(outcome.is_sound(), wrong.is_empty());
        prop_assert_eq!(outcome.mismatch_count, wrong.len() as u64);
        prop_assert_eq!(outcome.blocks_checked, table.block_count());
        prop_assert_eq!(outcome.mismatches.iter().map(|it| it.block).collect::<Vec<_>>(), wrong);
        for mismatch in outcome.mismatches {
            let start = usize_of(mismatch.offset);
            let found = Digest::of(&bad[start..bad.len().min(start + 4_096)]);
            prop_assert_eq!(mismatch.found, Found::Digest(found));
            prop_assert_eq!(mismatch.expected, table.get(mismatch.block).unwrap());
        }
    }
}

#[tokio::test]
async fn an_empty_image_of_an_empty_disk_is_sound_without_reading() {
    let table = DigestTable::temporary(1 << 20, BlockSize::USUAL).unwrap();
    let outcome = check(memory(vec![0; 1 << 20]), &table, 4).await.unwrap();
    assert!(outcome.is_sound());
    assert_eq!((outcome.blocks_checked, outcome.bytes_read), (16, 0));
}

#[tokio::test]
async fn only_the_first_mismatches_are_kept() {
    let blocks = MAX_MISMATCHES_KEPT + 50;
    let table = table_of(&Oracle::new(1).disk(blocks * 4_096, 4_096, 1), BlockSize::MIN).unwrap();
    let other = Oracle::new(2).disk(blocks * 4_096, 4_096, 1);
    let outcome = check(memory(other), &table, 4).await.unwrap();
    assert_eq!(outcome.mismatch_count, blocks as u64);
    let kept: Vec<_> = outcome.mismatches.iter().map(|it| usize_of(it.block)).collect();
    assert_eq!(kept, (0..MAX_MISMATCHES_KEPT).collect::<Vec<_>>());
}

/// An image whose own metadata is damaged for a range: neither extents nor content can be had.
struct Torn {
    inner: MemoryDevice,
    bad: Range<u64>,
}

#[async_trait::async_trait]
impl BlockDevice for Torn {
    fn size(&self) -> u64 {
        self.inner.size()
    }
    fn read_only(&self) -> bool {
        true
    }
    async fn read_at(&self, offset: u64, len: u32) -> Result<bytes::Bytes, BlockError> {
        if offset < self.bad.end && self.bad.start < offset + u64::from(len) {
            return Err(BlockError::Corrupt {
                offset: 77,
                what: "entry points nowhere".to_owned(),
            });
        }
        self.inner.read_at(offset, len).await
    }
    async fn write_at(&self, _offset: u64, _data: bytes::Bytes) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }
    async fn write_zeroes(&self, _offset: u64, _len: u64) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }
    async fn extents(&self, _offset: u64, _len: u64) -> Result<Vec<Extent>, BlockError> {
        Err(BlockError::Corrupt { offset: 77, what: "entry points nowhere".to_owned() })
    }
    async fn flush(&self) -> Result<(), BlockError> {
        Ok(())
    }
}

#[tokio::test]
async fn damaged_metadata_is_a_mismatch_of_the_blocks_it_hits() {
    let content = Oracle::new(1).disk(20 * 4_096, 4_096, 1);
    let table = table_of(&content, BlockSize::MIN).unwrap();
    let torn = Torn { inner: MemoryDevice::new(content), bad: 6 * 4_096 + 5..8 * 4_096 };
    let outcome = check(Arc::new(torn), &table, 2).await.unwrap();
    assert_eq!(outcome.mismatches.iter().map(|it| it.block).collect::<Vec<_>>(), [6, 7]);
    for mismatch in outcome.mismatches {
        let Found::Unreadable(reason) = mismatch.found else { panic!("{mismatch:?}") };
        assert_eq!(reason, "corrupt at offset 77: entry points nowhere");
    }
}

#[tokio::test]
async fn a_lost_connection_is_not_damage() {
    let content = Oracle::new(1).disk(20 * 4_096, 4_096, 1);
    let table = table_of(&content, BlockSize::MIN).unwrap();
    let device = FaultyDevice::new(memory(content), FaultPlan::DisconnectFrom(3));
    let ended = check(Arc::new(device), &table, 1).await;
    assert!(matches!(ended, Err(CopyError::Source { offset: 32_768, .. })));
}

#[tokio::test]
async fn other_sizes_and_cancelled_runs_are_refused() {
    let table = DigestTable::temporary(8_192, BlockSize::MIN).unwrap();
    let ended = check(memory(vec![0; 8_704]), &table, 1).await;
    assert!(matches!(ended, Err(CopyError::SizeMismatch { source_bytes: 8_704, .. })));
    let cancel = CancellationToken::new();
    cancel.cancel();
    let (device, options) = (memory(vec![0; 8_192]), CopyOptions::default());
    let ended = verify(device, &table, options, Arc::default(), cancel).await;
    assert!(matches!(ended, Err(CopyError::Cancelled)));
}

/// A block that nobody has vouched for is not sound, whatever it holds.
#[tokio::test]
async fn an_unknown_block_is_a_mismatch() {
    let table = DigestTable::temporary(8_192, BlockSize::MIN).unwrap();
    table.set(1, Digest::UNKNOWN).unwrap();
    let outcome = check(memory(vec![0; 8_192]), &table, 1).await.unwrap();
    assert_eq!((outcome.mismatch_count, outcome.mismatches[0].block), (1, 1));
}

/// A verification can be a task of its own, and so can the loading of a table.
#[test]
fn the_futures_can_move_between_threads() {
    fn sendable<T: Send>(_: &T) {}
    let table = DigestTable::temporary(0, BlockSize::MIN).unwrap();
    sendable(&check(memory(Vec::new()), &table, 1));
    sendable(&table.load(&MemoryDevice::new(Vec::new())));
}
