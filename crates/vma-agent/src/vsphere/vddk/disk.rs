//! A disk behind an nbdkit of its own.

use async_trait::async_trait;
use bytes::Bytes;
use hub_block::{BlockDevice, BlockError, Extent};
use hub_nbd::NbdClient;

use super::nbdkit::Nbdkit;

/// A disk that is being read; dropping it ends its process.
pub(super) struct VddkDisk {
    // The connection closes before its server is told to end.
    client: NbdClient,
    process: Nbdkit,
}

impl VddkDisk {
    pub(super) fn new(client: NbdClient, process: Nbdkit) -> Self {
        Self { client, process }
    }

    /// What went wrong, in the words of VDDK where it has said any.
    async fn told<T>(&self, done: Result<T, BlockError>) -> Result<T, BlockError> {
        match done {
            Err(error @ (BlockError::OutOfRange { .. } | BlockError::ReadOnly)) => Err(error),
            Err(error) => {
                let reason = self.process.complaint(&error.to_string()).await;
                Err(BlockError::Io(std::io::Error::other(reason)))
            }
            done => done,
        }
    }
}

#[async_trait]
impl BlockDevice for VddkDisk {
    fn size(&self) -> u64 {
        self.client.size()
    }

    fn read_only(&self) -> bool {
        true
    }

    async fn read_at(&self, offset: u64, len: u32) -> Result<Bytes, BlockError> {
        self.told(self.client.read_at(offset, len).await).await
    }

    async fn write_at(&self, _: u64, _: Bytes) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }

    async fn write_zeroes(&self, _: u64, _: u64) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }

    async fn extents(&self, offset: u64, len: u64) -> Result<Vec<Extent>, BlockError> {
        self.told(self.client.extents(offset, len).await).await
    }

    async fn flush(&self) -> Result<(), BlockError> {
        Ok(())
    }
}
