//! A disk of a snapshot, read by ranges of its file over HTTPS.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use hub_block::{BlockDevice, BlockError, Extent, ExtentKind, check_range};
use hub_vsphere::{Client, DatastoreFile};
use tokio::sync::Semaphore;

use super::fault::of_read;

/// The frozen file of a disk; the server says nothing about holes, so all of it is data.
pub(super) struct DatastoreDisk {
    pub(super) client: Arc<Client>,
    pub(super) file: DatastoreFile,
    pub(super) size: u64,
    /// What all jobs together may ask the hosts for at a time.
    pub(super) reads: Arc<Semaphore>,
}

#[async_trait]
impl BlockDevice for DatastoreDisk {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_only(&self) -> bool {
        true
    }

    async fn read_at(&self, offset: u64, len: u32) -> Result<Bytes, BlockError> {
        check_range(offset, u64::from(len), self.size)?;
        let turn = self.reads.acquire().await;
        let _turn =
            turn.map_err(|_| BlockError::Disconnected("the source is closed".to_owned()))?;
        let read = self.client.read_file(&self.file, offset, len).await;
        read.map_err(|error| of_read(&error, offset))
    }

    async fn write_at(&self, _: u64, _: Bytes) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }

    async fn write_zeroes(&self, _: u64, _: u64) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }

    async fn extents(&self, offset: u64, len: u64) -> Result<Vec<Extent>, BlockError> {
        check_range(offset, len, self.size)?;
        let all = Extent { offset, len, kind: ExtentKind::Data };
        Ok(if len == 0 { Vec::new() } else { vec![all] })
    }

    async fn flush(&self) -> Result<(), BlockError> {
        Ok(())
    }
}
