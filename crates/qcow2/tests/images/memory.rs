//! How much memory the largest disks take, measured from outside of a process of its own.

use std::process::Command;

use anyhow::Context;
use hub_block::BlockDevice;
use hub_qcow2::{ImageUpdater, ImageWriter};

use crate::model::standalone;

/// Names the directory that the child is to work in.
const CHILD: &str = "HUB_TEST_MEMORY_CHILD";
/// Every one of them touches another L2 table of 64 KiB, so that together they would take 192 MiB.
const TABLES: u64 = 3000;
const TABLE_SPAN: u64 = 512 << 20;
/// What a writer, a runtime and a test program may take together.
const MOST_KIB: u64 = 96 << 10;

/// An 8 TiB disk written in an order that jumps about, and then updated in the same way.
#[test]
fn a_huge_disk_takes_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["memory::a_child_that_writes_a_huge_disk", "--exact", "--nocapture"])
        .env(CHILD, folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{said}{}", String::from_utf8_lossy(&child.stderr));
    let peak = std::fs::read_to_string(folder.path().join("peak")).unwrap();
    let peak: u64 = peak.parse().unwrap();
    assert!(peak < MOST_KIB, "{peak} KiB were resident");
    let report = hub_qcow2::check_image(&folder.path().join("disk.qcow2")).unwrap();
    assert!(report.is_clean() && report.data_clusters == 2 * TABLES, "{report:?}");
    crate::qemu::require_clean(&folder.path().join("disk.qcow2")).unwrap();
}

/// Does nothing unless it is the child of the test above.
#[tokio::test]
async fn a_child_that_writes_a_huge_disk() {
    let Some(folder) = std::env::var_os(CHILD) else { return };
    let folder = std::path::PathBuf::from(folder);
    let path = folder.join("disk.qcow2");
    let order = (0..TABLES).map(|number| number * 7919 % 16_384 * TABLE_SPAN);
    let writer = ImageWriter::create_new(&path, standalone(8 << 40, 16), None).unwrap();
    for at in order.clone() {
        writer.write_at(at, bytes::Bytes::from_static(&[7; 512])).await.unwrap();
    }
    writer.finish().await.unwrap();
    drop(writer);
    let updater = ImageUpdater::open(&path).unwrap();
    for at in order {
        updater.write_at(at + (1 << 20), bytes::Bytes::from_static(&[8; 512])).await.unwrap();
    }
    updater.finish().await.unwrap();
    std::fs::write(folder.join("peak"), peak().unwrap().to_string()).unwrap();
}

/// The most memory that was ever resident, in KiB.
fn peak() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("a peak")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}
