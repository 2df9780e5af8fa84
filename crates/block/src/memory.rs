//! A device in memory, for tests and for small things.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::RwLock;

use crate::{
    BlockDevice, BlockError, BlockingDevice, Extent, ExtentKind, check_range, merge_extents,
};

/// The step in which [`MemoryDevice`] tells data from zeroes.
const STEP: usize = 4096;

/// Bytes in memory behind the block seam.
#[derive(Debug)]
pub struct MemoryDevice {
    bytes: RwLock<Vec<u8>>,
    size: u64,
    read_only: bool,
}

impl MemoryDevice {
    /// A writable device that holds `bytes`.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { size: bytes.len() as u64, bytes: RwLock::new(bytes), read_only: false }
    }

    /// A device that holds `bytes` and refuses writes.
    pub fn new_read_only(bytes: Vec<u8>) -> Self {
        Self { read_only: true, ..Self::new(bytes) }
    }

    /// A copy of everything it holds.
    pub fn snapshot(&self) -> Vec<u8> {
        self.bytes.read().clone()
    }

    fn range(&self, offset: u64, len: u64) -> Result<std::ops::Range<usize>, BlockError> {
        check_range(offset, len, self.size)?;
        let out_of_range = |_| BlockError::OutOfRange { offset, len, size: self.size };
        let start = usize::try_from(offset).map_err(out_of_range)?;
        let len = usize::try_from(len).map_err(out_of_range)?;
        Ok(start..start + len)
    }

    fn writable(&self) -> Result<(), BlockError> {
        if self.read_only { Err(BlockError::ReadOnly) } else { Ok(()) }
    }
}

#[async_trait]
impl BlockDevice for MemoryDevice {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    async fn read_at(&self, offset: u64, len: u32) -> Result<Bytes, BlockError> {
        let range = self.range(offset, u64::from(len))?;
        Ok(Bytes::copy_from_slice(&self.bytes.read()[range]))
    }

    async fn write_at(&self, offset: u64, data: Bytes) -> Result<(), BlockError> {
        self.writable()?;
        let range = self.range(offset, data.len() as u64)?;
        self.bytes.write()[range].copy_from_slice(&data);
        Ok(())
    }

    async fn write_zeroes(&self, offset: u64, len: u64) -> Result<(), BlockError> {
        self.writable()?;
        let range = self.range(offset, len)?;
        self.bytes.write()[range].fill(0);
        Ok(())
    }

    async fn extents(&self, offset: u64, len: u64) -> Result<Vec<Extent>, BlockError> {
        let range = self.range(offset, len)?;
        let bytes = self.bytes.read();
        let mut at = offset;
        Ok(merge_extents(bytes[range].chunks(STEP).map(|chunk| {
            let zero = chunk.iter().all(|byte| *byte == 0);
            let kind = if zero { ExtentKind::Zero } else { ExtentKind::Data };
            let extent = Extent { offset: at, len: chunk.len() as u64, kind };
            at = extent.end();
            extent
        })))
    }

    async fn flush(&self) -> Result<(), BlockError> {
        Ok(())
    }

    fn blocking(self: Arc<Self>) -> Option<Arc<dyn BlockingDevice>> {
        Some(self)
    }
}

impl BlockingDevice for MemoryDevice {
    fn read_now(&self, offset: u64, len: u32) -> Option<Result<Bytes, BlockError>> {
        let range = self.range(offset, u64::from(len));
        Some(range.map(|range| Bytes::copy_from_slice(&self.bytes.read()[range])))
    }

    fn write_now(&self, offset: u64, data: &[u8]) -> Option<Result<(), BlockError>> {
        let range = self.writable().and_then(|()| self.range(offset, data.len() as u64));
        Some(range.map(|range| self.bytes.write()[range].copy_from_slice(data)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn passes_the_contract() {
        crate::contract::writable(|size| async move {
            Ok(Arc::new(MemoryDevice::new(vec![0; usize::try_from(size)?])) as Arc<dyn BlockDevice>)
        })
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn a_read_only_device_refuses_writes() {
        let device = MemoryDevice::new_read_only(vec![1; 512]);
        let refused = device.write_at(0, Bytes::from_static(b"x")).await;
        assert!(matches!(refused, Err(BlockError::ReadOnly)));
        assert!(matches!(device.write_zeroes(0, 1).await, Err(BlockError::ReadOnly)));
        assert_eq!(device.snapshot(), vec![1; 512]);
    }
}
