//! The table against a plain vector, and its edges.

use std::os::unix::fs::MetadataExt;

use proptest::prelude::*;

use super::*;

fn table(blocks: u64) -> DigestTable {
    DigestTable::temporary(blocks * 4_096, BlockSize::MIN).unwrap()
}

fn some(seed: u64) -> Digest {
    Digest::of(&seed.to_le_bytes())
}

#[test]
fn a_fresh_table_is_zero_everywhere() {
    let table = DigestTable::temporary(10_000, BlockSize::MIN).unwrap();
    assert_eq!((table.block_count(), table.capacity()), (3, 10_000));
    assert_eq!(table.get_many(0, 3).unwrap(), [Digest::ZERO; 3]);
    assert_eq!(table.next_stored(0).unwrap(), None);
    assert_eq!(table.bytes_of(2..3), 8_192..10_000);
}

#[test]
fn blocks_outside_are_refused() {
    let table = table(3);
    let kind = |result: io::Result<()>| result.unwrap_err().kind();
    assert_eq!(kind(table.get(3).map(drop)), io::ErrorKind::InvalidInput);
    assert_eq!(kind(table.get(u64::MAX).map(drop)), io::ErrorKind::InvalidInput);
    assert_eq!(kind(table.get_many(2, 2).map(drop)), io::ErrorKind::InvalidInput);
    assert_eq!(kind(table.set(3, Digest::ZERO)), io::ErrorKind::InvalidInput);
    assert_eq!(kind(table.set_many(2, &[Digest::ZERO; 2])), io::ErrorKind::InvalidInput);
    assert_eq!(kind(table.fill(0..4, some(1))), io::ErrorKind::InvalidInput);
}

#[test]
fn a_table_that_would_be_too_large_is_refused() {
    let refused = DigestTable::temporary(5 << 40, BlockSize::USUAL).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    let refused = DigestTable::temporary(u64::MAX, BlockSize::MAX).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
}

/// The table of an empty 8 TiB disk takes no space and its root no time worth the name.
#[test]
fn a_table_of_eight_tebibytes_is_cheap_while_it_is_empty() {
    let capacity = 8 << 40;
    let table = DigestTable::temporary(capacity, BlockSize::for_capacity(capacity)).unwrap();
    table.set(table.block_count() - 1, some(1)).unwrap();
    let copy = DigestTable::temporary(capacity, table.block_size()).unwrap();
    copy.copy_from(&table).unwrap();
    assert_eq!(copy.root().unwrap(), table.root().unwrap());
    for table in [&table, &copy] {
        let on_disk = table.file.metadata().unwrap().blocks() * 512;
        assert!(on_disk <= 1 << 20, "{on_disk} bytes");
    }
}

#[test]
fn a_sealed_table_does_not_change() {
    let table = table(5_000);
    table.set(4_000, some(1)).unwrap();
    table.freeze();
    let kind = |result: io::Result<()>| result.unwrap_err().kind();
    assert_eq!(kind(table.set(0, some(2))), io::ErrorKind::PermissionDenied);
    assert_eq!(kind(table.fill(0..5_000, Digest::ZERO)), io::ErrorKind::PermissionDenied);
    assert_eq!(kind(table.clear()), io::ErrorKind::PermissionDenied);
    assert_eq!(table.get(4_000).unwrap(), some(1));
}

#[test]
fn a_parent_with_other_blocks_or_a_larger_disk_is_refused() {
    let child = table(10);
    child.set(1, some(1)).unwrap();
    for parent in [table(11), DigestTable::temporary(4_096, BlockSize::USUAL).unwrap()] {
        let refused = child.copy_from(&parent).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    }
    assert_eq!(child.get(1).unwrap(), some(1));
}

/// Trap C22: the disk grew between two runs.
#[test]
fn growth_makes_a_short_last_block_unknown() {
    let parent = DigestTable::temporary(10_000, BlockSize::MIN).unwrap();
    parent.set_many(0, &[some(1), some(2), some(3)]).unwrap();
    let same = DigestTable::temporary(10_000, BlockSize::MIN).unwrap();
    same.copy_from(&parent).unwrap();
    assert_eq!(same.get(2).unwrap(), some(3));
    assert_eq!(same.first_new_block(), 3);

    let grown = DigestTable::temporary(20_000, BlockSize::MIN).unwrap();
    grown.copy_from(&parent).unwrap();
    let expected = [some(1), some(2), Digest::UNKNOWN, Digest::ZERO, Digest::ZERO];
    assert_eq!(grown.get_many(0, 5).unwrap(), expected);
    assert_eq!(grown.first_new_block(), 3);

    let even = table(3);
    even.copy_from(&table(2)).unwrap();
    assert_eq!(even.get_many(0, 3).unwrap(), [Digest::ZERO; 3]);
}

#[test]
fn several_threads_set_their_own_blocks() {
    let table = table(400);
    std::thread::scope(|scope| {
        for lane in 0..4 {
            let table = &table;
            scope.spawn(move || {
                for block in (lane..400).step_by(4) {
                    table.set(block, some(block)).unwrap();
                }
            });
        }
    });
    let all = table.get_many(0, 400).unwrap();
    assert!((0..).zip(&all).all(|(block, found)| *found == some(block)));
}

#[derive(Clone, Debug)]
enum Step {
    Set(prop::sample::Index, u64),
    Fill(prop::sample::Index, prop::sample::Index, bool),
    Clear,
    CopyOut,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let index = any::<prop::sample::Index>;
    let step = prop_oneof![
        8 => (index(), 0_u64..9).prop_map(|(at, seed)| Step::Set(at, seed)),
        4 => (index(), index(), any::<bool>()).prop_map(|(a, b, zero)| Step::Fill(a, b, zero)),
        1 => Just(Step::Clear),
        1 => Just(Step::CopyOut),
    ];
    prop::collection::vec(step, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn it_behaves_as_a_vector(blocks in 1_u64..6_000, steps in steps()) {
        let mut table = table(blocks);
        let mut model = vec![Digest::ZERO; usize_of(blocks)];
        for step in steps {
            match step {
                Step::Set(at, seed) => {
                    let at = at.index(model.len());
                    model[at] = some(seed);
                    table.set(at as u64, some(seed)).unwrap();
                }
                Step::Fill(a, b, zero) => {
                    let (a, b) = (a.index(model.len()), b.index(model.len()));
                    let value = if zero { Digest::ZERO } else { some(99) };
                    model[a.min(b)..a.max(b)].fill(value);
                    table.fill(a.min(b) as u64..a.max(b) as u64, value).unwrap();
                }
                Step::Clear => {
                    model.fill(Digest::ZERO);
                    table.clear().unwrap();
                }
                Step::CopyOut => {
                    let copy = DigestTable::temporary(table.capacity(), BlockSize::MIN).unwrap();
                    copy.set(0, some(7)).unwrap();
                    copy.copy_from(&table).unwrap();
                    table = copy;
                }
            }
        }
        prop_assert_eq!(table.get_many(0, model.len()).unwrap(), &model[..]);
        for block in 0..blocks {
            let stored = table.next_stored(block).unwrap().unwrap_or(blocks);
            let (from, to) = (usize_of(block), usize_of(stored.max(block)));
            prop_assert!(model[from..to].iter().all(|it| *it == Digest::ZERO));
        }
    }
}
