//! Damage: any bytes are answered with an error or with bytes, never with a panic, and check finds bit rot.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::OnceLock;

use bytes::Bytes;
use hub_block::BlockDevice;
use hub_qcow2::{ImageUpdater, ImageWriter, check_image};
use proptest::prelude::*;

use crate::model::{make_image, open, overlay, run_case};
use crate::qemu;

const BITS: u32 = 9;
const SIZE: u64 = 40 * 1024;

/// A small image of every kind of entry over a full one: file names and bytes.
async fn specimen(folder: &Path) -> anyhow::Result<Vec<u8>> {
    let below = vec![9; usize::try_from(SIZE)?];
    make_image(&folder.join("full"), BITS, &below).await?;
    let options = overlay(SIZE, BITS, "full", SIZE);
    let writer = ImageWriter::create_new(&folder.join("top"), options, None)?;
    writer.write_at(0, Bytes::from(vec![1; 4096])).await?;
    writer.write_zeroes(1024, 2048).await?;
    writer.write_at(36 * 1024, Bytes::from(vec![2; 1024])).await?;
    writer.write_zeroes(20 * 1024, 1024).await?;
    writer.finish().await?;
    Ok(std::fs::read(folder.join("top"))?)
}

fn bytes_of_specimen() -> anyhow::Result<&'static [u8]> {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    if BYTES.get().is_none() {
        let folder = tempfile::tempdir()?;
        let runtime = tokio::runtime::Runtime::new()?;
        let made = runtime.block_on(specimen(folder.path()))?;
        let _ = BYTES.set(made);
    }
    Ok(BYTES.get().map_or(&[][..], Vec::as_slice))
}

/// An image of another tool whose clusters are all compressed; nothing where that tool is missing.
fn compressed_specimen() -> anyhow::Result<&'static [u8]> {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    if BYTES.get().is_none() && qemu::available() {
        let folder = tempfile::tempdir()?;
        let (raw, packed) = (folder.path().join("raw"), folder.path().join("packed"));
        let source: Vec<u8> =
            (0..40_960_usize).map(|at| (at * at / 89 % 23).to_le_bytes()[0]).collect();
        std::fs::write(&raw, source)?;
        let (from, to) = (qemu::text(&raw)?, qemu::text(&packed)?);
        let options = "cluster_size=512,compression_type=zstd";
        qemu::img(&["convert", "-c", "-o", options, "-f", "raw", "-O", "qcow2", from, to])?;
        let _ = BYTES.set(std::fs::read(&packed)?);
    }
    Ok(BYTES.get().map_or(&[][..], Vec::as_slice))
}

/// Asks everything of an image that may be anything; only panics and wrong lengths are failures.
async fn ask_everything(folder: &Path) -> anyhow::Result<()> {
    let path = folder.join("top");
    let _ = check_image(&path);
    if let Ok(reader) = open(folder, "top") {
        let size = reader.size();
        for offset in (0..size.min(1 << 20)).step_by(4096) {
            let len = (size - offset).min(4096);
            if let Ok(bytes) = reader.read_at(offset, u32::try_from(len)?).await {
                anyhow::ensure!(bytes.len() as u64 == len, "{} bytes", bytes.len());
            }
            let _ = reader.extents(offset, len).await;
        }
    }
    if let Ok(updater) = ImageUpdater::open(&path) {
        let len = updater.size().min(8192);
        let _ = updater.write_at(0, Bytes::from(vec![5; usize::try_from(len)?])).await;
        let _ = updater.finish().await;
    }
    Ok(())
}

async fn damaged(bytes: Vec<u8>) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("top"), bytes)?;
    std::fs::copy(folder.path().join("top"), folder.path().join("full"))?;
    ask_everything(folder.path()).await
}

/// Words that are likely to hurt.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        (0_u64..64).prop_map(|bit| 1 << bit),
        (0_u64..100).prop_map(|cluster| cluster << BITS),
        (0_u64..100).prop_map(|cluster| cluster << BITS | 1 << 63),
        Just(u64::MAX),
        Just(0),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn changed_words_never_panic(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), word()), 1..4),
        in_header in any::<bool>(),
        without_backing in any::<bool>(),
    ) {
        let specimen = bytes_of_specimen().map_err(|it| TestCaseError::fail(it.to_string()))?;
        let mut bytes = specimen.to_vec();
        if without_backing {
            bytes[8..20].fill(0);
        }
        for (place, word) in changes {
            let at = place.index(if in_header { 40 } else { bytes.len() / 4 }) * 4;
            let end = bytes.len().min(at + 8);
            bytes[at..end].copy_from_slice(&word.to_be_bytes()[..end - at]);
        }
        run_case(damaged(bytes))?;
    }

    /// Entries of compressed clusters that point anywhere, and streams that unpack to anything.
    #[test]
    fn changed_words_of_a_compressed_image_never_panic(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), word()), 1..6),
        compressed in any::<bool>(),
    ) {
        let specimen = compressed_specimen().map_err(|it| TestCaseError::fail(it.to_string()))?;
        let mut bytes = specimen.to_vec();
        for (place, word) in changes {
            if bytes.is_empty() {
                return Ok(());
            }
            let at = place.index(bytes.len() / 8) * 8;
            // Half of the words become entries of compressed clusters, whatever they were.
            let word = if compressed { word & !(1 << 63) | 1 << 62 } else { word };
            bytes[at..at + 8].copy_from_slice(&word.to_be_bytes());
        }
        run_case(damaged(bytes))?;
    }

    #[test]
    fn random_bytes_behind_the_magic_never_panic(tail in proptest::collection::vec(any::<u8>(), 0..2048)) {
        let mut bytes = vec![0x51, 0x46, 0x49, 0xFB, 0, 0, 0, 3];
        bytes.extend(tail);
        run_case(damaged(bytes))?;
    }
}

#[tokio::test]
async fn a_file_cut_anywhere_is_refused_or_read_as_far_as_it_goes() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = specimen(folder.path()).await.unwrap();
    for len in (0..bytes.len()).step_by(128) {
        std::fs::write(folder.path().join("top"), &bytes[..len]).unwrap();
        let clean = check_image(&folder.path().join("top")).is_ok_and(|it| it.is_clean());
        assert!(!clean, "a file of {len} bytes passed");
        ask_everything(folder.path()).await.unwrap();
    }
}

/// Promise P4, for metadata: every single flipped bit of a table in use is found.
#[tokio::test]
async fn every_flipped_bit_of_a_table_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = specimen(folder.path()).await.unwrap();
    let path = folder.path().join("top");
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    assert!(check_image(&path).unwrap().is_clean());
    let word =
        |at: usize| bytes[at..at + 8].iter().fold(0, |value, byte| value << 8 | usize::from(*byte));
    let offset = |entry: usize| entry & 0x00FF_FFFF_FFFF_FE00;
    let cluster = 1 << BITS;
    let (l1, table) = (word(40), word(48));
    let mut tables = vec![(l1, 16), (table, cluster)];
    tables.extend((0..2).map(|at| (offset(word(l1 + at * 8)), cluster)));
    tables.extend((0..64).map(|at| (word(table + at * 8), cluster)).filter(|(at, _)| *at != 0));
    assert_eq!(tables.len(), 5, "L1, refcount table, two L2 tables, one refcount block");
    for (start, len) in tables {
        for at in start..start + len {
            for bit in 0..8 {
                let flipped = [bytes[at] ^ 1 << bit];
                file.write_all_at(&flipped, at as u64).unwrap();
                let clean = check_image(&path).is_ok_and(|it| it.is_clean());
                // That a cluster reads as zeroes, or not, refers to nothing: only the data can tell.
                let zero_flag = bit == 0 && at % 8 == 7;
                assert!(!clean || zero_flag, "bit {bit} of byte {at} was not found");
            }
            file.write_all_at(&bytes[at..=at], at as u64).unwrap();
        }
    }
}
