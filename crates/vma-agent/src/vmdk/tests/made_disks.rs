//! Every sparse format made by hand: what qemu reads, what we read and what was meant are the same.

use anyhow::Result;
use hub_block::BlockError;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::judge::{check, check_with_qemu, open, open_disk, write_chain};
use super::made::{Cell, Kind, Made};
use crate::fixture::has_qemu;

const KINDS: [Kind; 9] = [
    Kind::Hosted { grain: 65_536, table_entries: 512 },
    Kind::Hosted { grain: 4096, table_entries: 512 },
    Kind::Hosted { grain: 512, table_entries: 128 },
    Kind::Hosted { grain: 1 << 20, table_entries: 512 },
    Kind::Stream { footer: true },
    Kind::Stream { footer: false },
    Kind::Cowd { grain: 512 },
    Kind::Cowd { grain: 65_536 },
    Kind::SeSparse,
];

/// An extent of so many sectors; cells that its format does not have become others.
fn made(kind: Kind, sectors: u64, cells: &[Cell], scattered: bool) -> Result<Made> {
    let mut it = Made { kind, sectors, cells: Vec::new(), scattered };
    let count = usize::try_from((sectors * 512).div_ceil(it.grain()))?;
    let has_zero = matches!(kind, Kind::Hosted { .. } | Kind::SeSparse);
    let cell = |it: &Cell| if *it == Cell::Zero && !has_zero { Cell::Absent } else { *it };
    it.cells = cells.iter().cycle().take(count).map(cell).collect();
    Ok(it)
}

/// Data, holes and zeroes, some alone and some in rows.
const MIXED: [Cell; 11] = [
    Cell::Data(1),
    Cell::Data(2),
    Cell::Absent,
    Cell::Zero,
    Cell::Data(3),
    Cell::Absent,
    Cell::Absent,
    Cell::Data(4),
    Cell::Data(4),
    Cell::Zero,
    Cell::Absent,
];

#[tokio::test]
async fn every_format_reads_as_it_was_made() {
    let qemu = has_qemu().unwrap();
    for kind in KINDS {
        for scattered in [false, true] {
            // The last grain is cut, and the last table too.
            let layer = made(kind, 4 * 1024 + 777, &MIXED, scattered).unwrap();
            let folder = tempfile::tempdir().unwrap();
            let disk = write_chain(folder.path(), &[layer]).unwrap();
            if qemu {
                let checked = check_with_qemu(folder.path(), &disk);
                checked.map_err(|it| format!("qemu, {kind:?}: {it}")).unwrap();
            }
            check(folder.path(), &disk).await.map_err(|it| format!("{kind:?}: {it}")).unwrap();
        }
    }
}

#[tokio::test]
async fn every_format_stands_on_every_other() {
    let qemu = has_qemu().unwrap();
    let upper: Vec<_> = MIXED.iter().rev().copied().chain([Cell::Absent; 4]).collect();
    for base in KINDS {
        for top in KINDS {
            let folder = tempfile::tempdir().unwrap();
            // The delta is larger than its parent: the rest reads as zeroes.
            let layers =
                [made(base, 3001, &MIXED, false).unwrap(), made(top, 4099, &upper, true).unwrap()];
            let disk = write_chain(folder.path(), &layers).unwrap();
            if qemu && base == KINDS[0] {
                let checked = check_with_qemu(folder.path(), &disk);
                checked.map_err(|it| format!("qemu, {top:?}: {it}")).unwrap();
            }
            let checked = check(folder.path(), &disk).await;
            checked.map_err(|it| format!("{top:?} on {base:?}: {it}")).unwrap();
        }
    }
}

#[tokio::test]
async fn a_chain_tells_which_parts_are_new() {
    let folder = tempfile::tempdir().unwrap();
    let cells = |it: [Cell; 4]| made(Kind::SeSparse, 32, &it, false).unwrap();
    let (data, none) = (Cell::Data(1), Cell::Absent);
    let layers =
        [cells([data; 4]), cells([none, data, none, none]), cells([none, none, data, Cell::Zero])];
    write_chain(folder.path(), &layers).unwrap();
    let disk = open_disk(folder.path()).unwrap();
    for (stop, layers, first) in
        [(16_384, 1, 8192), (16_384, 2, 4096), (16_384, 3, 0), (12_000, 1, 8192)]
    {
        let areas = disk.areas(0..stop, layers).await.unwrap();
        assert_eq!(areas, std::slice::from_ref(&(first..stop)), "{layers} layers");
    }
    assert!(disk.areas(0..16_384, 0).await.unwrap().is_empty());
    assert!(disk.areas(0..16_385, 1).await.is_err());
}

/// A thread that may block is answered and refused as everybody else is.
#[test]
fn the_face_for_blocking_threads_answers_the_same() {
    for kind in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let layer = made(kind, 4 * 1024 + 777, &MIXED, true).unwrap();
        let disk = write_chain(folder.path(), &[layer]).unwrap();
        let size = disk.len() as u64;
        let now = open(folder.path()).unwrap().blocking().unwrap();
        assert_eq!(now.read_now(511, 140_000).unwrap().unwrap(), disk[511..140_511], "{kind:?}");
        assert!(now.read_now(size, 0).unwrap().unwrap().is_empty());
        for (offset, len) in [(size - 1, 2), (size, 1), (u64::MAX, 1)] {
            let beyond = now.read_now(offset, len);
            assert!(matches!(beyond, Some(Err(BlockError::OutOfRange { .. }))), "{beyond:?}");
        }
        assert!(matches!(now.write_now(0, &[1]), Some(Err(BlockError::ReadOnly))));
        assert_eq!(now.read_now(0, 1).unwrap().unwrap(), disk[..1], "a refused write");
    }
}

/// Layouts of one to three layers, each of any format and size.
fn layouts() -> impl Strategy<Value = Vec<Made>> {
    let cell = prop_oneof![
        3 => Just(Cell::Absent),
        1 => Just(Cell::Zero),
        3 => any::<u8>().prop_map(Cell::Data),
    ];
    let layer = (
        prop::sample::select(KINDS.to_vec()),
        1..6_000_u64,
        prop::collection::vec(cell, 1..40),
        any::<bool>(),
    );
    let layer = layer.prop_filter_map("a layer", |(kind, sectors, cells, scattered)| {
        made(kind, sectors, &cells, scattered).ok()
    });
    prop::collection::vec(layer, 1..4)
}

#[test]
fn any_layout_reads_as_the_model() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let mut runner = TestRunner::new(ProptestConfig::with_cases(64));
    let checked = runner.run(&layouts(), |layers| {
        let folder = tempfile::tempdir()?;
        let checked = write_chain(folder.path(), &layers)
            .and_then(|disk| runtime.block_on(check(folder.path(), &disk)));
        checked.map_err(|it| TestCaseError::fail(it.to_string()))
    });
    checked.unwrap();
}
