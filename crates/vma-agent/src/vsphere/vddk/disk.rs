//! A disk behind an nbdkit of its own.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hub_block::{BlockDevice, BlockError, Extent};
use hub_nbd::NbdClient;

use super::nbdkit::Nbdkit;
use crate::vsphere::Tasks;

/// How long a connection may take to close, which logs out of the host.
const GOODBYE: Duration = Duration::from_secs(3);

/// A disk that is being read; dropping it ends its process.
pub(super) struct VddkDisk {
    size: u64,
    /// There until this is dropped.
    open: Option<(NbdClient, Nbdkit)>,
    tasks: Arc<Tasks>,
}

impl VddkDisk {
    pub(super) fn new(client: NbdClient, process: Nbdkit, tasks: Arc<Tasks>) -> Self {
        Self { size: client.size(), open: Some((client, process)), tasks }
    }

    fn client(&self) -> Result<&NbdClient, BlockError> {
        let open = self.open.as_ref().map(|it| &it.0);
        open.ok_or_else(|| BlockError::Disconnected("the disk is closed".to_owned()))
    }

    /// What went wrong, in the words of VDDK where it has said any.
    async fn told<T>(&self, done: Result<T, BlockError>) -> Result<T, BlockError> {
        match done {
            Err(error @ (BlockError::OutOfRange { .. } | BlockError::ReadOnly)) => Err(error),
            Err(error) => {
                let Some((_, process)) = &self.open else { return Err(error) };
                let reason = process.complaint(&error.to_string()).await;
                Err(BlockError::Io(std::io::Error::other(reason)))
            }
            done => done,
        }
    }
}

impl Drop for VddkDisk {
    /// The connection closes before its process is told to end, so that VDDK closes the disk at the host.
    fn drop(&mut self) {
        let Some((client, process)) = self.open.take() else { return };
        self.tasks.spawn(async move {
            if tokio::time::timeout(GOODBYE, client.close()).await.is_err() {
                tracing::debug!("a reader does not close its disk");
            }
            drop(process);
        });
    }
}

#[async_trait]
impl BlockDevice for VddkDisk {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_only(&self) -> bool {
        true
    }

    async fn read_at(&self, offset: u64, len: u32) -> Result<Bytes, BlockError> {
        self.told(self.client()?.read_at(offset, len).await).await
    }

    async fn write_at(&self, _: u64, _: Bytes) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }

    async fn write_zeroes(&self, _: u64, _: u64) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }

    async fn extents(&self, offset: u64, len: u64) -> Result<Vec<Extent>, BlockError> {
        self.told(self.client()?.extents(offset, len).await).await
    }

    async fn flush(&self) -> Result<(), BlockError> {
        Ok(())
    }
}
