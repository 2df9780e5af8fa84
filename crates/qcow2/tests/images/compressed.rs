//! Images with compressed clusters, written by us and judged by qemu.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use hub_block::{BlockDevice, BlockError};
use hub_qcow2::{CreateOptions, ImageWriter, Zstd};
use proptest::prelude::*;

use crate::model::{
    Batch, batches, noise, open, overlay, perform_all, require_equal, run_case, standalone,
};
use crate::qemu;

fn zstd(options: CreateOptions) -> CreateOptions {
    CreateOptions { compression: Some(Zstd::default()), ..options }
}

fn create(path: &Path, options: CreateOptions) -> anyhow::Result<Arc<ImageWriter>> {
    Ok(Arc::new(ImageWriter::create_new(path, options, None)?))
}

/// Random work with rewrites, and tables and segments that leave the memory early.
async fn random_writes(size: usize, bits: u32, work: Vec<Batch>) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("disk.qcow2");
    let options = CreateOptions { table_memory: 0, ..zstd(standalone(size as u64, bits)) };
    let writer = create(&path, options)?;
    let device: Arc<dyn BlockDevice> = writer.clone();
    let mut model = vec![0; size];
    for (round, work) in work.chunks(2).enumerate() {
        perform_all(&device, &mut model, work).await?;
        if round % 2 == 0 {
            writer.flush().await?;
        }
        require_equal(&*writer, &model).await?;
    }
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
        (Just(12), 1_usize..1000),
        (Just(16), 1_usize..3000),
        (Just(21), 1_usize..12_000),
    ];
    shape.prop_flat_map(|(bits, sectors)| {
        (Just(sectors * 512), Just(bits), batches(sectors * 512, 1 << bits))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn random_concurrent_writes_arrive((size, bits, work) in disk()) {
        run_case(random_writes(size, bits, work))?;
    }
}

/// What can be made smaller takes less space, what cannot is stored plain, and zeroes take none.
#[tokio::test]
async fn clusters_are_compressed_where_it_helps() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.qcow2");
    let writer = create(&path, zstd(standalone(64 << 16, 16))).unwrap();
    let mut model = vec![0; 64 << 16];
    for (at, byte) in model[..24 << 16].iter_mut().enumerate() {
        *byte = (at / 700 % 251).to_le_bytes()[0] | 1;
    }
    model[32 << 16..40 << 16].copy_from_slice(&noise(7, 8 << 16));
    writer.write_at(0, Bytes::from(model.clone())).await.unwrap();
    require_equal(&*writer, &model).await.unwrap();
    let finished = writer.finish().await.unwrap();
    assert_eq!(finished.data_clusters, 32);
    // The header, 8 plain clusters, one of streams, and four tables.
    assert!(finished.file_bytes <= 16 << 16, "{finished:?}");
    let taken = std::fs::metadata(&path).unwrap().blocks() * 512;
    assert!(taken < 15 << 16, "{taken} bytes are allocated");
    require_equal(&*writer, &model).await.unwrap();
    qemu::require_clean(&path).unwrap();
    qemu::require_content(&path, &model).unwrap();
}

/// A redialled connection sends a block again, and other tools write in pieces of any size.
#[tokio::test]
async fn a_compressed_cluster_can_be_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.qcow2");
    let writer = create(&path, zstd(standalone(8 << 16, 16))).unwrap();
    let mut model = vec![5; 8 << 16];
    for _ in 0..3 {
        writer.write_at(0, Bytes::from(model.clone())).await.unwrap();
    }
    for (start, len, byte) in [(70_000, 512, 6), (131_000, 200, 7), (200_000, 100_000, 8)] {
        model[start..start + len].fill(byte);
        writer.write_at(start as u64, Bytes::from(vec![byte; len])).await.unwrap();
    }
    model[..65_536].fill(0);
    writer.write_zeroes(0, 65_536).await.unwrap();
    writer.flush().await.unwrap();
    model[400_000..400_100].fill(0);
    writer.write_zeroes(400_000, 100).await.unwrap();
    require_equal(&*writer, &model).await.unwrap();
    writer.finish().await.unwrap();
    qemu::require_clean(&path).unwrap();
    qemu::require_content(&path, &model).unwrap();
}

/// Streams of a few bytes: the refcounts of 16 bits hold even for the largest clusters.
#[tokio::test(flavor = "multi_thread")]
async fn very_short_streams_do_not_overflow_a_refcount() {
    let folder = tempfile::tempdir().unwrap();
    for (bits, clusters) in [(12_u32, 20_000_u64), (21, 40)] {
        let path = folder.path().join(format!("{bits}.qcow2"));
        let writer = create(&path, zstd(standalone(clusters << bits, bits))).unwrap();
        let piece = Bytes::from(vec![1; 1 << 21]);
        for at in (0..clusters << bits).step_by(1 << 21) {
            let len = (1 << 21).min((clusters << bits) - at);
            writer.write_at(at, piece.slice(..usize::try_from(len).unwrap())).await.unwrap();
        }
        let finished = writer.finish().await.unwrap();
        assert_eq!(finished.data_clusters, clusters);
        qemu::require_clean(&path).unwrap();
    }
}

/// A compressed overlay over a plain full, as an incremental backup is.
#[tokio::test]
async fn an_overlay_is_compressed_over_what_it_stands_on() {
    let folder = tempfile::tempdir().unwrap();
    let below = vec![3; 8 << 16];
    crate::model::make_image(&folder.path().join("full.qcow2"), 16, &below).await.unwrap();
    let path = folder.path().join("top.qcow2");
    let options = zstd(overlay(10 << 16, 16, "full.qcow2", 8 << 16));
    let full = Arc::new(open(folder.path(), "full.qcow2").unwrap());
    let writer = ImageWriter::create_new(&path, options, Some(full)).unwrap();
    let mut model = below;
    model.resize(10 << 16, 0);
    for (start, len, byte) in [(65_536, 131_072, 4), (300_000, 1000, 5), (600_000, 55_360, 6)] {
        model[start..start + len].fill(byte);
        writer.write_at(start as u64, Bytes::from(vec![byte; len])).await.unwrap();
    }
    writer.write_zeroes(65_536, 65_536).await.unwrap();
    model[65_536..131_072].fill(0);
    require_equal(&writer, &model).await.unwrap();
    writer.finish().await.unwrap();
    qemu::require_clean(&path).unwrap();
    qemu::require_content(&path, &model).unwrap();
}

#[test]
fn levels_are_those_of_zstd() {
    assert_eq!(Zstd::new(0), None);
    assert_eq!(Zstd::new(20), None);
    assert_eq!(Zstd::new(19).map(Zstd::level), Some(19));
}

/// Every second image of a long chain is compressed, and each one is larger than the one below.
#[tokio::test]
async fn a_chain_of_64_mixes_compressed_and_plain() {
    let folder = tempfile::tempdir().unwrap();
    let mut model = vec![1; 4 << 16];
    crate::model::make_image(&folder.path().join("0.qcow2"), 16, &model).await.unwrap();
    for number in 1..64_usize {
        let (below, size) = (model.len(), model.len() + 1024);
        let plain = overlay(size as u64, 16, &format!("{}.qcow2", number - 1), below as u64);
        let options = if number % 2 == 0 { plain } else { zstd(plain) };
        let path = folder.path().join(format!("{number}.qcow2"));
        let full = open(folder.path(), &format!("{}.qcow2", number - 1)).unwrap();
        let writer = ImageWriter::create_new(&path, options, Some(Arc::new(full))).unwrap();
        model.resize(size, 0);
        let byte = number.to_le_bytes()[0];
        for (start, len) in [((number % 4) << 16, 65_536), (number * 3000, 700), (size - 600, 600)]
        {
            model[start..start + len].fill(byte);
            writer.write_at(start as u64, Bytes::from(vec![byte; len])).await.unwrap();
        }
        writer.finish().await.unwrap();
    }
    let top = open(folder.path(), "63.qcow2").unwrap();
    assert_eq!(top.depth(), 64);
    require_equal(&top, &model).await.unwrap();
    qemu::require_clean(&folder.path().join("63.qcow2")).unwrap();
    qemu::require_content(&folder.path().join("63.qcow2"), &model).unwrap();
}

/// Promise P5: streams that were accepted and do not fit on the disk are kept until they do.
#[tokio::test]
async fn a_segment_that_finds_no_space_is_written_later() {
    let Some(disk) = crate::writes::SmallDisk::mount().unwrap() else {
        eprintln!("SKIPPED: a small file system cannot be mounted without the right to do so");
        return;
    };
    let ballast = disk.path().join("ballast");
    std::fs::write(&ballast, vec![1; 900 << 10]).unwrap();
    let path = disk.path().join("disk.qcow2");
    let writer = create(&path, zstd(standalone(8 << 20, 12))).unwrap();
    let mut model = vec![0; 8 << 20];
    let mut refused = 0;
    // Three quarters of each cluster cannot be made smaller.
    for (number, cluster) in model.chunks_mut(4096).take(200).enumerate() {
        cluster[..3072].copy_from_slice(&noise(number as u64 * 977 + 5, 3072));
        cluster[3072..].fill(9);
        let written = writer.write_at(number as u64 * 4096, Bytes::copy_from_slice(cluster)).await;
        if let Err(error) = written {
            assert!(matches!(error, BlockError::NoSpace), "{error:?}");
            cluster.fill(0);
            refused += 1;
        }
    }
    assert!(refused > 0, "the disk was large enough");
    assert!(matches!(writer.flush().await, Err(BlockError::NoSpace)));
    require_equal(&*writer, &model).await.unwrap();
    std::fs::remove_file(&ballast).unwrap();
    writer.finish().await.unwrap();
    require_equal(&open(disk.path(), "disk.qcow2").unwrap(), &model).await.unwrap();
    qemu::require_clean(&path).unwrap();
}
