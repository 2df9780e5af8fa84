//! The contract of the block seam, for everything here that can be written.

use std::sync::Arc;

use hub_block::BlockDevice;
use hub_qcow2::{ImageUpdater, ImageWriter};

use crate::model::standalone;

#[tokio::test(flavor = "multi_thread")]
async fn the_writer_passes() {
    for bits in [9, 16, 21] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.qcow2");
        hub_block::contract::writable(|size| {
            let path = path.clone();
            async move {
                let _ = std::fs::remove_file(&path);
                let writer = ImageWriter::create_new(&path, standalone(size, bits), None)?;
                Ok(Arc::new(writer) as Arc<dyn BlockDevice>)
            }
        })
        .await
        .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_updater_passes() {
    for bits in [9, 16] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.qcow2");
        hub_block::contract::writable(|size| {
            let path = path.clone();
            async move {
                let _ = std::fs::remove_file(&path);
                let writer = ImageWriter::create_new(&path, standalone(size, bits), None)?;
                writer.finish().await?;
                Ok(Arc::new(ImageUpdater::open(&path)?) as Arc<dyn BlockDevice>)
            }
        })
        .await
        .unwrap();
    }
}
