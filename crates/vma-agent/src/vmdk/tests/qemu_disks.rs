//! Disks that qemu made, read by us: byte for byte what was put in, and what qemu reads back.

use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::Result;
use hub_block::ExtentKind;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::judge::{check, check_with_qemu, open};
use crate::fixture::{descriptor, has_qemu, qemu};

const SUBFORMATS: [&str; 5] = [
    "monolithicSparse",
    "monolithicFlat",
    "twoGbMaxExtentSparse",
    "twoGbMaxExtentFlat",
    "streamOptimized",
];

/// Noise in some places and zeroes elsewhere.
fn content(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    for (start, stop) in [(0, 70_000), (300_000, 700_001), (len - 1000, len)] {
        let mut word = u32::try_from(start).unwrap_or(0) | 1;
        for byte in bytes.iter_mut().take(stop).skip(start) {
            word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = word.to_be_bytes()[0];
        }
    }
    bytes
}

fn convert(folder: &Path, disk: &[u8], options: &str) -> Result<()> {
    std::fs::write(folder.join("d.raw"), disk)?;
    qemu(
        "qemu-img",
        folder,
        &["convert", "-f", "raw", "-O", "vmdk", "-o", options, "d.raw", "d.vmdk"],
    )
}

#[tokio::test]
async fn every_subformat_of_any_capacity_reads_as_the_raw_disk() {
    if !has_qemu().unwrap() {
        return;
    }
    for kind in SUBFORMATS {
        // Whole grains; a cut grain; less than a grain.
        for len in [1 << 20, (1 << 20) + 512, (2 << 20) - 1536, 65_536 - 512] {
            let folder = tempfile::tempdir().unwrap();
            let disk = if len > 1 << 19 { content(len) } else { vec![7; len] };
            convert(folder.path(), &disk, &format!("subformat={kind}")).unwrap();
            let checked = check(folder.path(), &disk).await;
            checked.map_err(|it| format!("{kind} of {len} bytes: {it}")).unwrap();
        }
    }
}

#[tokio::test]
async fn grains_of_zeroes_are_zeroes_and_hide_the_parent() {
    if !has_qemu().unwrap() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut disk = content(1 << 20);
    std::fs::write(folder.path().join("d.raw"), &disk).unwrap();
    let base = ["convert", "-f", "raw", "-O", "vmdk", "d.raw", "base.vmdk"];
    qemu("qemu-img", folder.path(), &base).unwrap();
    let delta = ["create", "-q", "-f", "vmdk", "-F", "vmdk", "-b", "base.vmdk", "-o"];
    let options = ["zeroed_grain=on", "d.vmdk"];
    qemu("qemu-img", folder.path(), &[&delta[..], &options].concat()).unwrap();
    let writes = ["-f", "vmdk", "-c", "write -z 64k 128k", "-c", "write -P 9 512k 3k", "d.vmdk"];
    qemu("qemu-io", folder.path(), &writes).unwrap();
    disk[65_536..3 * 65_536].fill(0);
    disk[512 << 10..515 << 10].fill(9);
    check_with_qemu(folder.path(), &disk).unwrap();
    check(folder.path(), &disk).await.unwrap();
    let device = open(folder.path()).unwrap();
    let extents = device.extents(65_536, 131_072).await.unwrap();
    assert_eq!(extents.len(), 1);
    assert_eq!(extents[0].kind, ExtentKind::Zero);
}

#[tokio::test]
async fn a_disk_in_pieces_is_read_across_them() {
    if !has_qemu().unwrap() {
        return;
    }
    const GIB: u64 = 1 << 30;
    for kind in ["twoGbMaxExtentSparse", "twoGbMaxExtentFlat"] {
        let folder = tempfile::tempdir().unwrap();
        let raw = std::fs::File::create_new(folder.path().join("d.raw")).unwrap();
        raw.set_len(5 * GIB + 512).unwrap();
        let written = [2 * GIB - 70_000, 4 * GIB - 4096, 5 * GIB - 512];
        for at in written {
            raw.write_all_at(&content(140_000)[..if at > 4 * GIB { 1024 } else { 140_000 }], at)
                .unwrap();
        }
        let options = format!("subformat={kind}");
        let arguments = ["convert", "-f", "raw", "-O", "vmdk", "-o", &options, "d.raw", "d.vmdk"];
        qemu("qemu-img", folder.path(), &arguments).unwrap();
        let device = open(folder.path()).unwrap();
        assert_eq!(device.size(), 5 * GIB + 512);
        for at in [0, 2 * GIB - 200_000, 3 * GIB, 4 * GIB - 100_000, 5 * GIB + 512 - 400_000] {
            let mut expected = vec![0; 400_000];
            raw.read_exact_at(&mut expected, at).unwrap();
            assert!(device.read_at(at, 400_000).await.unwrap() == expected, "{kind} at {at}");
        }
        let extents = device.extents(0, device.size()).await.unwrap();
        let data = extents.iter().filter(|it| it.kind == ExtentKind::Data);
        assert!(data.map(|it| it.len).sum::<u64>() < 2 << 20, "{kind}: {extents:?}");
        assert_eq!(extents.iter().map(|it| it.len).sum::<u64>(), device.size());
    }
}

#[tokio::test]
async fn an_extent_may_begin_anywhere_in_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let disk = content(1 << 20);
    let sector = disk.len() / 512;
    let lines = format!(
        "RW {0} FLAT \"b\" 3\nRW {1} ZERO\nRW {2} FLAT \"a\" 0",
        sector / 2,
        sector / 4,
        sector - sector / 2 - sector / 4
    );
    let text = descriptor("twoGbMaxExtentFlat", &lines).replace('\n', "\r\n");
    std::fs::write(folder.path().join("d.vmdk"), text).unwrap();
    std::fs::write(folder.path().join("b"), [vec![0xee; 1536], disk.clone()].concat()).unwrap();
    std::fs::write(folder.path().join("a"), &disk[disk.len() * 3 / 4..]).unwrap();
    let mut expected = disk.clone();
    expected[disk.len() / 2..disk.len() * 3 / 4].fill(0);
    check(folder.path(), &expected).await.unwrap();
}

#[tokio::test]
async fn holes_of_a_flat_disk_are_zero_and_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let sectors = (1_u64 << 40) / 512;
    let text = descriptor("vmfs", &format!("RW {sectors} VMFS \"d-flat.vmdk\""));
    std::fs::write(folder.path().join("d.vmdk"), text).unwrap();
    let flat = std::fs::File::create_new(folder.path().join("d-flat.vmdk")).unwrap();
    flat.set_len(1 << 40).unwrap();
    flat.write_all_at(&[5; 4096], 1 << 39).unwrap();
    let device = open(folder.path()).unwrap();
    let extents = device.extents(4096, (1 << 40) - 8192).await.unwrap();
    let data: Vec<_> = extents.iter().filter(|it| it.kind == ExtentKind::Data).collect();
    assert_eq!((data.len(), data[0].offset), (1, 1 << 39));
    assert!(data[0].len < 1 << 20);
}

#[derive(Clone, Debug)]
struct Write {
    at: u64,
    len: u64,
    /// 0 writes zeroes as such.
    byte: u8,
}

/// Three layers with writes of a guest in each.
fn histories() -> impl Strategy<Value = Vec<Vec<Write>>> {
    let write = (0..1990_u64, 1..300_u64, 0..6_u8).prop_map(|(at, len, byte)| {
        let (at, len) = (at * 512, len * 512);
        Write { at, len: len.min(1_019_392 - at), byte }
    });
    prop::collection::vec(prop::collection::vec(write, 0..6), 1..4)
}

/// Lets qemu make a chain and write to it as a guest would.
fn play(folder: &Path, history: &[Vec<Write>]) -> Result<Vec<u8>> {
    let mut disk = vec![0; 1_019_392];
    for (number, writes) in history.iter().enumerate() {
        let last = number + 1 == history.len();
        let name = if last { "d.vmdk".to_owned() } else { format!("{number}.vmdk") };
        let parent = format!("{}.vmdk", number.saturating_sub(1));
        let backing = ["-F", "vmdk", "-b", &parent];
        let backing = if number == 0 { &[][..] } else { &backing };
        let create = ["create", "-q", "-f", "vmdk", "-o", "zeroed_grain=on"];
        qemu("qemu-img", folder, &[&create, backing, &[&name, "1019392"]].concat())?;
        let mut arguments = vec!["-f".to_owned(), "vmdk".to_owned()];
        for Write { at, len, byte } in writes {
            let how = if *byte == 0 { "-z".to_owned() } else { format!("-P {byte}") };
            arguments.extend(["-c".to_owned(), format!("write {how} {at} {len}")]);
            let range = usize::try_from(*at)?..usize::try_from(at + len)?;
            disk.get_mut(range).unwrap_or_default().fill(*byte);
        }
        arguments.push(name);
        if !writes.is_empty() {
            let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
            qemu("qemu-io", folder, &arguments)?;
        }
    }
    Ok(disk)
}

#[test]
fn whatever_guests_write_through_snapshots_is_read() {
    if !has_qemu().unwrap() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let mut runner = TestRunner::new(ProptestConfig::with_cases(16));
    let checked = runner.run(&histories(), |history| {
        let folder = tempfile::tempdir()?;
        let checked = play(folder.path(), &history)
            .and_then(|disk| runtime.block_on(check(folder.path(), &disk)));
        checked.map_err(|it| TestCaseError::fail(it.to_string()))
    });
    checked.unwrap();
}
