//! The writer of new images.

use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use hub_block::{BlockDevice, BlockError};
use hub_qcow2::{CreateError, CreateOptions, ImageReader, ImageWriter, InsideDirectory, OpenError};
use proptest::prelude::*;

use crate::model::{
    Batch, batches, open, overlay, perform_all, require_equal, run_case, standalone,
};
use crate::qemu;

async fn random_writes(size: usize, bits: u32, work: Vec<Batch>) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    // Small clusters have more tables than may stay in memory.
    let options = CreateOptions { table_memory: 0, ..standalone(size as u64, bits) };
    let path = folder.path().join("disk.qcow2");
    let writer = Arc::new(ImageWriter::create_new(&path, options, None)?);
    let mut model = vec![0; size];
    let device: Arc<dyn BlockDevice> = writer.clone();
    perform_all(&device, &mut model, &work).await?;
    require_equal(&*writer, &model).await?;
    let finished = writer.finish().await?;
    anyhow::ensure!(finished.file_bytes == std::fs::metadata(&path)?.len(), "another length");
    require_equal(&*writer, &model).await?;
    require_equal(&open(folder.path(), "disk.qcow2")?, &model).await?;
    let report = hub_qcow2::check_image(&path)?;
    anyhow::ensure!(report.data_clusters == finished.data_clusters, "another count of clusters");
    qemu::require_clean(&path)?;
    qemu::require_content(&path, &model)
}

fn disk() -> impl Strategy<Value = (usize, u32, Vec<Batch>)> {
    let shape = prop_oneof![
        (Just(9_u32), 1_usize..1000),
        (Just(12), 1_usize..400),
        (Just(16), 1_usize..1500),
    ];
    shape.prop_flat_map(|(bits, sectors)| {
        (Just(sectors * 512), Just(bits), batches(sectors * 512, 1 << bits))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn random_concurrent_writes_arrive((size, bits, work) in disk()) {
        run_case(random_writes(size, bits, work))?;
    }
}

/// Large clusters make the time between looking at the map and changing it long enough to meet.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn partial_writes_to_one_cluster_all_arrive() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.qcow2");
    let writer = ImageWriter::create_new(&path, standalone(16 << 21, 21), None).unwrap();
    let writer = Arc::new(writer);
    for cluster in 0..16_u64 {
        let mut tasks = tokio::task::JoinSet::new();
        for part in 0..8_u64 {
            let (writer, offset) = (writer.clone(), (cluster << 21) + part * 1000);
            tasks.spawn(async move { writer.write_at(offset, Bytes::from(vec![3; 1000])).await });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap().unwrap();
        }
        let bytes = writer.read_at(cluster << 21, 8000).await.unwrap();
        assert!(bytes.iter().all(|it| *it == 3), "a write to cluster {cluster} is lost");
    }
    assert_eq!(writer.allocated_bytes(), 16 << 21);
}

/// Trap D2 and C6: the size is exact, whatever it is; and nothing is taken for what was not written.
#[tokio::test]
async fn every_size_makes_a_clean_image() {
    let folder = tempfile::tempdir().unwrap();
    let sizes = [512, 1536, 65_536, 66_048, 5_368_709_120, 109_521_666_048, 8 << 40];
    for (number, size) in sizes.into_iter().enumerate() {
        for written in [false, true] {
            let name = format!("{number}-{written}.qcow2");
            let path = folder.path().join(&name);
            let writer = ImageWriter::create_new(&path, standalone(size, 16), None).unwrap();
            writer.write_zeroes(0, size).await.unwrap();
            if written {
                writer.write_at(size - 512, Bytes::from(vec![7; 512])).await.unwrap();
                writer.write_at(0, Bytes::from(vec![8; 512])).await.unwrap();
            }
            let finished = writer.finish().await.unwrap();
            assert!(finished.file_bytes < 1 << 20, "{size}: {finished:?}");
            qemu::require_clean(&path).unwrap();
            let reader = open(folder.path(), &name).unwrap();
            assert_eq!(reader.size(), size);
            let (first, last) = if written { (8, 7) } else { (0, 0) };
            let end = reader.read_at(size - 512, 512).await.unwrap();
            assert!(end.iter().all(|it| *it == if size == 512 { first } else { last }));
            assert_eq!(reader.read_at(0, 1).await.unwrap()[0], first);
        }
    }
}

#[tokio::test]
async fn a_full_image_and_large_clusters_are_clean() {
    let folder = tempfile::tempdir().unwrap();
    // At 512 bytes a cluster, many refcount blocks and L1 clusters are needed to describe all.
    for (bits, size) in [(9, 3 << 20), (16, (9 << 20) + 512), (21, (9 << 20) + 512)] {
        let path = folder.path().join(format!("{bits}.qcow2"));
        let model: Vec<u8> = (0..size).map(|at: usize| (at % 253).to_le_bytes()[0] | 1).collect();
        crate::model::make_image(&path, bits, &model).await.unwrap();
        qemu::require_clean(&path).unwrap();
        qemu::require_content(&path, &model).unwrap();
    }
}

/// Trap C1: zeroes take no space, one byte that is not zero is never lost.
#[tokio::test]
async fn zeroes_take_no_space_and_single_bytes_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.qcow2");
    let writer = ImageWriter::create_new(&path, standalone(1 << 20, 16), None).unwrap();
    writer.write_at(0, Bytes::from(vec![0; 1 << 20])).await.unwrap();
    writer.write_at(5, Bytes::from(vec![0; 100_000])).await.unwrap();
    assert_eq!(writer.allocated_bytes(), 0);
    for at in [0, 40_000, 65_535, 65_536, 1_048_575] {
        let mut bytes = vec![0; 1 << 20];
        bytes[at] = 1;
        writer.write_at(0, Bytes::from(bytes.clone())).await.unwrap();
        assert_eq!(writer.read_at(0, 1 << 20).await.unwrap(), bytes, "{at}");
    }
    assert_eq!(writer.allocated_bytes(), 3 * 65_536);
    writer.write_at(0, Bytes::from(vec![9; 65_536])).await.unwrap();
    assert_eq!(writer.allocated_bytes(), 3 * 65_536);
}

/// Promise P1: before `finish` has returned, nobody takes the file for an image.
#[tokio::test]
async fn an_unfinished_file_is_no_image() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.qcow2");
    let writer = ImageWriter::create_new(&path, standalone(1 << 20, 16), None).unwrap();
    writer.write_at(0, Bytes::from(vec![7; 200_000])).await.unwrap();
    writer.flush().await.unwrap();
    drop(writer);
    let gate = InsideDirectory::new(folder.path());
    let opened = ImageReader::open_chain(&gate, &path).err().unwrap();
    assert!(matches!(opened, OpenError::NotQcow2(_)));
    assert!(std::fs::read(&path).unwrap()[..65_536].iter().all(|it| *it == 0));
    if qemu::available() {
        let info = qemu::img(&["info", qemu::text(&path).unwrap()]).unwrap();
        assert!(String::from_utf8_lossy(&info.stdout).contains("file format: raw"));
    }
}

#[tokio::test]
async fn a_finished_image_refuses_writes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.qcow2");
    let writer = ImageWriter::create_new(&path, standalone(1 << 20, 16), None).unwrap();
    writer.write_at(0, Bytes::from(vec![7; 512])).await.unwrap();
    let first = writer.finish().await.unwrap();
    assert_eq!(first.data_clusters, 1);
    assert_eq!(writer.finish().await.unwrap(), first);
    assert!(writer.read_only());
    let refused = writer.write_at(0, Bytes::from(vec![1; 512])).await;
    assert!(matches!(refused, Err(BlockError::ReadOnly)));
    assert!(matches!(writer.write_zeroes(0, 512).await, Err(BlockError::ReadOnly)));
    qemu::require_clean(&path).unwrap();
}

/// Trap D14: a file that exists is never overwritten.
#[test]
fn an_existing_file_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.qcow2");
    std::fs::write(&path, b"precious").unwrap();
    let refused = ImageWriter::create_new(&path, standalone(512, 16), None);
    assert!(matches!(refused, Err(CreateError::Exists(_))));
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[test]
fn impossible_options_make_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.qcow2");
    let create = |options: CreateOptions| ImageWriter::create_new(&path, options, None).err();
    for size in [0, 511, 513, 1 << 62] {
        let refused = create(standalone(size, 16));
        assert!(matches!(refused, Some(CreateError::VirtualSize(_))), "{size}");
    }
    for bits in [0, 8, 22, 64] {
        let refused = create(standalone(512, bits));
        assert!(matches!(refused, Some(CreateError::ClusterBits(_))), "{bits}");
    }
    // Trap C27: backing names stay relative, so that a repository can be moved.
    let long = "x".repeat(1024);
    for name in ["", "/full.qcow2", "../full.qcow2", "a/../b", "./..", "nbd:host", &long] {
        let refused = create(overlay(512, 16, name, 512));
        assert!(matches!(refused, Some(CreateError::BackingName(_))), "{name}");
    }
    let below: Arc<dyn BlockDevice> = Arc::new(hub_block::MemoryDevice::new(vec![0; 512]));
    let options = overlay(512, 16, "full.qcow2", 1024);
    let refused = ImageWriter::create_new(&path, options, Some(below)).err();
    assert!(matches!(refused, Some(CreateError::BackingMismatch)));
    assert!(!path.exists());
}

/// A small file system that goes away with the test.
pub(crate) struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    pub(crate) fn path(&self) -> &std::path::Path {
        self.0.path()
    }

    pub(crate) fn mount() -> anyhow::Result<Option<Self>> {
        let folder = tempfile::tempdir()?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(folder.path())
            .output()
            .is_ok_and(|it| it.status.success());
        Ok(mounted.then_some(Self(folder)))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

/// Promise P5: a full disk is named as such, and what fits can still be finished.
#[tokio::test]
async fn a_full_disk_is_an_error_that_can_be_told() {
    let Some(disk) = SmallDisk::mount().unwrap() else {
        eprintln!("SKIPPED: a small file system cannot be mounted without the right to do so");
        return;
    };
    let path = disk.0.path().join("disk.qcow2");
    let writer = ImageWriter::create_new(&path, standalone(8 << 20, 12), None).unwrap();
    writer.write_at(0, Bytes::from(vec![7; 500_000])).await.unwrap();
    let full = writer.write_at(1 << 20, Bytes::from(vec![8; 2 << 20])).await;
    assert!(matches!(full, Err(BlockError::NoSpace)), "{full:?}");
    assert!(writer.read_at(1 << 20, 4096).await.unwrap().iter().all(|it| *it == 0));
    writer.finish().await.unwrap();
    qemu::require_clean(&path).unwrap();
    let reader = open(disk.0.path(), "disk.qcow2").unwrap();
    assert!(reader.read_at(0, 500_000).await.unwrap().iter().all(|it| *it == 7));
}
