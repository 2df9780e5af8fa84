//! The updater of standalone images.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use hub_block::BlockDevice;
use hub_qcow2::{ImageUpdater, ImageWriter, OpenError};
use proptest::prelude::*;

use crate::model::{
    Batch, batches, make_image, open, overlay, perform_all, require_equal, run_case, standalone,
};
use crate::qemu;

const SIZE: usize = 700 * 512;

/// Updates in rounds; the file is sound before, between and after, also for one who looks or dies midway.
async fn rounds(bits: u32, rounds: Vec<Vec<Batch>>) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("replica.qcow2");
    let writer = ImageWriter::create_new(&path, standalone(SIZE as u64, bits), None)?;
    writer.write_at(65_536, Bytes::from(vec![1; 70_000])).await?;
    writer.finish().await?;
    let mut model = vec![0; SIZE];
    model[65_536..135_536].fill(1);
    for (number, work) in rounds.into_iter().enumerate() {
        let updater = Arc::new(ImageUpdater::open_within(&path, 0)?);
        let device: Arc<dyn BlockDevice> = updater.clone();
        let (first, second) = work.split_at(work.len() / 2);
        perform_all(&device, &mut model, first).await?;
        require_sound_midway(folder.path(), &path)?;
        if number % 2 == 0 {
            updater.finish().await?;
            require_equal(&open(folder.path(), "replica.qcow2")?, &model).await?;
        }
        perform_all(&device, &mut model, second).await?;
        require_equal(&*updater, &model).await?;
        let finished = updater.finish().await?;
        anyhow::ensure!(finished.file_bytes == std::fs::metadata(&path)?.len(), "another length");
        require_equal(&*updater, &model).await?;
        require_equal(&open(folder.path(), "replica.qcow2")?, &model).await?;
        let report = hub_qcow2::check_image(&path)?;
        anyhow::ensure!(report.data_clusters == finished.data_clusters, "another count");
        qemu::require_clean(&path)?;
    }
    qemu::require_content(&path, &model)
}

/// What a crash at this moment would leave is an image without errors that can be updated again.
fn require_sound_midway(folder: &Path, path: &Path) -> anyhow::Result<()> {
    let crashed = folder.join("crashed.qcow2");
    std::fs::copy(path, &crashed)?;
    qemu::require_clean(&crashed)?;
    ImageUpdater::open(&crashed)?;
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn updates_arrive_and_leave_a_sound_image(
        (bits, work) in prop_oneof![Just(9_u32), Just(12), Just(16)].prop_flat_map(|bits| {
            (Just(bits), proptest::collection::vec(batches(SIZE, 1 << bits), 1..4))
        })
    ) {
        run_case(rounds(bits, work))?;
    }
}

/// Tables that were replaced make room for the next ones, so a replica does not grow without new data.
#[tokio::test]
async fn many_updates_do_not_let_the_file_grow() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("replica.qcow2");
    let mut model = vec![0; 1 << 20];
    make_image(&path, 12, &model).await.unwrap();
    let mut longest = 0;
    for round in 0..12_u8 {
        let updater = ImageUpdater::open(&path).unwrap();
        let bytes = vec![round + 1; 8192];
        updater.write_at(4096, Bytes::from(bytes.clone())).await.unwrap();
        updater.write_zeroes(0, 4096 + 4096 * u64::from(round % 2)).await.unwrap();
        let file_bytes = updater.finish().await.unwrap().file_bytes;
        if round < 3 {
            longest = longest.max(file_bytes);
        }
        assert!(file_bytes <= longest, "round {round}: {file_bytes}");
        model[4096..12_288].copy_from_slice(&bytes);
        model[..4096 + 4096 * usize::from(round % 2)].fill(0);
    }
    qemu::require_clean(&path).unwrap();
    require_equal(&open(folder.path(), "replica.qcow2").unwrap(), &model).await.unwrap();
}

/// Overwritten clusters stay where they are; nothing of a new cluster is seen before `finish`.
#[tokio::test]
async fn new_clusters_are_seen_only_after_finish() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("replica.qcow2");
    let mut model = vec![0; 4 * 65_536];
    model[..65_536].fill(1);
    make_image(&path, 16, &model).await.unwrap();
    let updater = ImageUpdater::open(&path).unwrap();
    updater.write_at(0, Bytes::from(vec![2; 65_536 * 2])).await.unwrap();
    updater.flush().await.unwrap();
    model[..65_536].fill(2);
    require_equal(&open(folder.path(), "replica.qcow2").unwrap(), &model).await.unwrap();
    drop(updater);
    require_equal(&open(folder.path(), "replica.qcow2").unwrap(), &model).await.unwrap();
    qemu::require_clean(&path).unwrap();
    let updater = ImageUpdater::open(&path).unwrap();
    updater.write_at(131_072, Bytes::from(vec![3; 512])).await.unwrap();
    updater.finish().await.unwrap();
    model[131_072..131_584].fill(3);
    require_equal(&open(folder.path(), "replica.qcow2").unwrap(), &model).await.unwrap();
    qemu::require_clean(&path).unwrap();
}

#[tokio::test]
async fn images_of_other_tools_can_be_updated() {
    if !qemu::available() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("replica.qcow2");
    let text = path.to_str().unwrap();
    qemu::img(&["create", "-q", "-f", "qcow2", text, "1000k"]).unwrap();
    qemu::io(&path, &["write -P 1 0 100k".to_owned(), "write -z 64k 64k".to_owned()]).unwrap();
    let mut model = vec![0; 1_024_000];
    model[..65_536].fill(1);
    let updater = ImageUpdater::open(&path).unwrap();
    require_equal(&updater, &model).await.unwrap();
    for (start, byte) in [(70_000, 2), (500_000, 3), (1_023_000, 4)] {
        updater.write_at(start as u64, Bytes::from(vec![byte; 1000])).await.unwrap();
        model[start..start + 1000].fill(byte);
    }
    updater.finish().await.unwrap();
    require_equal(&open(folder.path(), "replica.qcow2").unwrap(), &model).await.unwrap();
    qemu::require_clean(&path).unwrap();
    qemu::require_content(&path, &model).unwrap();
}

#[tokio::test]
async fn only_sound_standalone_images_are_opened() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    make_image(&at("full.qcow2"), 16, &[1; 1024]).await.unwrap();
    let options = overlay(1024, 16, "full.qcow2", 1024);
    ImageWriter::create_new(&at("top.qcow2"), options, None).unwrap().finish().await.unwrap();
    let opened = ImageUpdater::open(&at("top.qcow2")).err().unwrap();
    assert!(matches!(opened, OpenError::Unsupported { .. }), "{opened}");
    let mut bytes = std::fs::read(at("full.qcow2")).unwrap();
    let length = bytes.len();
    // The last cluster is the refcount table.
    bytes[length - 65_536..length - 65_528].fill(0);
    std::fs::write(at("rotten.qcow2"), &bytes).unwrap();
    let opened = ImageUpdater::open(&at("rotten.qcow2")).err().unwrap();
    assert!(matches!(opened, OpenError::Corrupt { .. }), "{opened}");
}
