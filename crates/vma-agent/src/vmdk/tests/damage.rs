//! Damaged disks are refused or corrupt, and never read as zeroes.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use hub_block::BlockError;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::judge::{open_disk, write_chain};
use super::made::{Cell, Kind, Made};
use crate::vmdk::{CowdHeader, HostedHeader, SeSparseHeader, VmdkError};

const KINDS: [Kind; 4] = [
    Kind::Hosted { grain: 4096, table_entries: 512 },
    Kind::Stream { footer: true },
    Kind::Cowd { grain: 4096 },
    Kind::SeSparse,
];

fn full(kind: Kind) -> Made {
    let mut made = Made { kind, sectors: 520, cells: Vec::new(), scattered: false };
    let count = (520 * 512_u64).div_ceil(made.grain());
    made.cells = vec![Cell::Data(3); usize::try_from(count).unwrap_or(0)];
    made
}

/// The file that holds the grains.
fn extent(kind: Kind) -> &'static str {
    if matches!(kind, Kind::Stream { .. }) { "d.vmdk" } else { "0-extent.vmdk" }
}

/// Reads all of `d.vmdk`; says what is wrong with it, and nothing where it can be read.
async fn read_all(folder: &Path, expected: &[u8]) -> Result<Option<String>> {
    use hub_block::BlockDevice;

    let disk = match open_disk(folder) {
        Ok(disk) => disk,
        Err(refused) => return Ok(Some(refused.to_string())),
    };
    let mut broken = None;
    for (number, part) in expected.chunks(4096).enumerate() {
        match disk.read_at(number as u64 * 4096, u32::try_from(part.len())?).await {
            Ok(read) => ensure!(read == part, "block {number} reads as something else"),
            Err(BlockError::Corrupt { what, .. }) => broken = Some(what),
            Err(error) => return Err(error).context("not corrupt"),
        }
    }
    // The map is damaged where the blocks are, or else the blocks are.
    match disk.extents(0, disk.size()).await {
        Ok(_) | Err(BlockError::Corrupt { .. }) => Ok(broken),
        Err(error) => Err(error.into()),
    }
}

#[tokio::test]
async fn p5_a_disk_that_is_cut_anywhere_is_refused_or_corrupt_and_never_zeroes() {
    for kind in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let disk = write_chain(folder.path(), &[full(kind)]).unwrap();
        assert_eq!(read_all(folder.path(), &disk).await.unwrap(), None, "{kind:?}");
        let path = folder.path().join(extent(kind));
        let whole = std::fs::read(&path).unwrap();
        let odd = (0..whole.len()).step_by(whole.len() / 60 + 1);
        let around = [1, 79, 511, 512, 513, 1024, whole.len() - 1, whole.len() - 512];
        for len in odd.chain(around) {
            std::fs::write(&path, &whole[..len]).unwrap();
            let broken = read_all(folder.path(), &disk).await;
            let broken = broken.map_err(|it| format!("{kind:?} cut to {len}: {it:#}")).unwrap();
            // The last grain need not be whole; whatever else is missing is noticed.
            let spare = matches!(kind, Kind::Hosted { .. } | Kind::Cowd { .. } | Kind::SeSparse);
            assert!(broken.is_some() || (spare && len + 4096 > whole.len()), "{kind:?}, {len}");
        }
    }
}

#[tokio::test]
async fn corruption_is_named_with_file_and_offset() {
    use hub_block::BlockDevice;

    let folder = tempfile::tempdir().unwrap();
    write_chain(folder.path(), &[full(Kind::Cowd { grain: 4096 })]).unwrap();
    let path = folder.path().join("0-extent.vmdk");
    let disk = open_disk(folder.path()).unwrap();
    let len = std::fs::metadata(&path).unwrap().len();
    // The file shrinks under our hands.
    std::fs::File::options().write(true).open(&path).unwrap().set_len(len - 5 * 4096).unwrap();
    let lost = disk.read_at(512 * 512, 4096).await.unwrap_err();
    let BlockError::Corrupt { offset, what } = lost else { panic!("{lost}") };
    assert_eq!(offset, len - 4096);
    assert!(what.contains("0-extent.vmdk"), "{what}");
    disk.read_at(0, 4096).await.unwrap();
}

#[tokio::test]
async fn tables_that_point_at_themselves_or_out_of_the_file_are_corrupt() {
    use hub_block::BlockDevice;

    // The directory lies in sector 4 of a COWD extent, its one table in sector 5, the first grain in sector 37.
    let folder = tempfile::tempdir().unwrap();
    write_chain(folder.path(), &[full(Kind::Cowd { grain: 4096 })]).unwrap();
    let path = folder.path().join("0-extent.vmdk");
    let whole = std::fs::read(&path).unwrap();
    for (entry, value) in [(4, 4_u32), (4, 0xffff_ffff), (5, 4), (5, 0xffff_ffff), (5, 600)] {
        let mut bytes = whole.clone();
        bytes[entry * 512..entry * 512 + 4].copy_from_slice(&value.to_le_bytes());
        std::fs::write(&path, bytes).unwrap();
        let broken = open_disk(folder.path()).unwrap().read_at(0, 512).await.unwrap_err();
        let BlockError::Corrupt { offset, .. } = broken else { panic!("{broken}") };
        assert_eq!(offset, entry as u64 * 512, "entry {entry} = {value}");
    }
}

#[tokio::test]
async fn a_grain_that_does_not_inflate_to_what_it_should_is_corrupt() {
    use hub_block::BlockDevice;

    let kind = Kind::Stream { footer: false };
    let folder = tempfile::tempdir().unwrap();
    write_chain(folder.path(), &[full(kind)]).unwrap();
    let path = folder.path().join("d.vmdk");
    let whole = std::fs::read(&path).unwrap();
    let marker = 21 * 512;
    // The grain's sector; a length of 0, of too much, of too little; the stream's first byte; a byte in it.
    let damages: [(usize, &[u8]); 6] = [
        (marker, &[128]),
        (marker + 8, &[0; 4]),
        (marker + 8, &[0xff; 4]),
        (marker + 8, &[9, 0, 0, 0]),
        (marker + 12, &[0]),
        (marker + 5000, &[0xaa, 0x55]),
    ];
    for (at, bytes) in damages {
        let mut broken = whole.clone();
        broken[at..at + bytes.len()].copy_from_slice(bytes);
        std::fs::write(&path, broken).unwrap();
        let refused = open_disk(folder.path()).unwrap().read_at(0, 512).await.unwrap_err();
        let BlockError::Corrupt { offset, what } = refused else { panic!("{refused}") };
        assert_eq!(offset, marker as u64, "{what}");
    }
}

#[test]
fn a_journal_that_was_not_replayed_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    write_chain(folder.path(), &[full(Kind::SeSparse)]).unwrap();
    let path = folder.path().join("0-extent.vmdk");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[512 + 24] = 1;
    std::fs::write(&path, bytes).unwrap();
    let refused = open_disk(folder.path()).unwrap_err();
    let refused = refused.downcast::<VmdkError>().unwrap();
    assert!(refused.is_unsupported(), "{refused}");
    let cause = std::error::Error::source(&refused).unwrap().to_string();
    assert!(cause.contains("journal"), "{cause}");
}

#[test]
fn headers_that_another_reader_would_take_differently_are_refused() {
    let stream = full(Kind::Stream { footer: true }).file("").unwrap();
    HostedHeader::parse(&stream[..512]).unwrap();
    // Version; newlines; method without flag; flag without markers; entries per table.
    for (at, byte) in [(4, 4), (73, 13), (77, 0), (77, 2), (10, 1), (44, 255), (46, 1)] {
        let mut bytes = stream[..512].to_vec();
        bytes[at] = byte;
        assert!(HostedHeader::parse(&bytes).is_err(), "byte {at}");
    }
    let sparse = full(Kind::SeSparse).file("").unwrap();
    SeSparseHeader::parse(&sparse[..512]).unwrap();
    for at in [0, 8, 24, 32, 40, 72, 208, 511] {
        let mut bytes = sparse[..512].to_vec();
        bytes[at] ^= 0x80;
        assert!(SeSparseHeader::parse(&bytes).is_err(), "byte {at}");
    }
}

/// A made extent with some of its bytes replaced, mostly in headers and tables.
fn malformed() -> impl Strategy<Value = (Kind, Vec<(usize, u8)>)> {
    let place = prop_oneof![0..80_usize, 0..2600_usize, 0..300_000_usize];
    let byte = prop_oneof![Just(0), Just(0xff), any::<u8>()];
    (prop::sample::select(KINDS.to_vec()), prop::collection::vec((place, byte), 1..12))
}

#[test]
fn no_damage_makes_it_panic_or_take_memory() {
    use hub_block::BlockDevice;

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let mut runner = TestRunner::new(ProptestConfig::with_cases(200));
    let checked = runner.run(&malformed(), |(kind, damage)| {
        let folder = tempfile::tempdir()?;
        let whole = write_chain(folder.path(), &[full(kind)])
            .and_then(|_| Ok(std::fs::read(folder.path().join(extent(kind)))?));
        let mut bytes = whole.map_err(|it| TestCaseError::fail(it.to_string()))?;
        for (at, byte) in damage {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        std::fs::write(folder.path().join(extent(kind)), bytes)?;
        let Ok(disk) = open_disk(folder.path()) else { return Ok(()) };
        runtime.block_on(async {
            let size = disk.size().min(1 << 20);
            let _ = disk.extents(0, size).await;
            let _ = disk.read_at(0, u32::try_from(size).unwrap_or(0)).await;
        });
        Ok(())
    });
    checked.unwrap();
}

proptest! {
    #[test]
    fn no_header_makes_it_panic(magic in 0..3_usize, mut bytes in prop::collection::vec(any::<u8>(), 0..600), len: u64) {
        let magics: [&[u8]; 3] = [b"KDMV", b"COWD", &0xcafe_babe_u64.to_le_bytes()];
        let magic = magics[magic];
        if let Some(head) = bytes.get_mut(..magic.len()) {
            head.copy_from_slice(magic);
        }
        let layouts = [
            HostedHeader::parse(&bytes).and_then(|it| it.layout(len)),
            HostedHeader::parse(&bytes).and_then(|it| it.parse_footer(&bytes)).and_then(|it| it.layout(len)),
            CowdHeader::parse(&bytes).and_then(|it| it.layout(len)),
            SeSparseHeader::parse(&bytes).and_then(|it| it.layout(len)),
        ];
        for layout in layouts.into_iter().flatten() {
            prop_assert!(layout.grain.is_power_of_two() && layout.grain <= 1 << 30);
            prop_assert!(layout.table_len() <= 32_768);
            prop_assert!(layout.directory_at + layout.directory_len() <= len);
            prop_assert!(layout.coverage().saturating_mul(layout.directory_entries) >= layout.capacity);
        }
    }
}
