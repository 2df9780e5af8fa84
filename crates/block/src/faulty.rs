//! A device that fails on purpose, so that tests can show what a fault leaves behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{BlockDevice, BlockError, Extent};

/// Which calls fail, and how; operations are counted from 1 over reads, writes, zeroes and flushes together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultPlan {
    /// Nothing fails.
    Never,
    /// The operation with this number and all later ones fail as a full disk.
    NoSpaceFrom(u64),
    /// Only the operation with this number fails, as an I/O error.
    IoErrorAt(u64),
    /// The operation with this number and all later ones fail as a lost connection.
    DisconnectFrom(u64),
}

/// A device in front of another one that fails by plan.
pub struct FaultyDevice {
    inner: Arc<dyn BlockDevice>,
    plan: FaultPlan,
    count: AtomicU64,
}

impl FaultyDevice {
    /// Puts a plan before a device.
    pub fn new(inner: Arc<dyn BlockDevice>, plan: FaultPlan) -> Self {
        Self { inner, plan, count: AtomicU64::new(0) }
    }

    /// How many operations were asked for, failed ones included.
    pub fn operations(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    fn step(&self) -> Result<(), BlockError> {
        let number = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        match self.plan {
            FaultPlan::NoSpaceFrom(first) if number >= first => Err(BlockError::NoSpace),
            FaultPlan::IoErrorAt(only) if number == only => {
                Err(BlockError::Io(std::io::Error::other("injected fault")))
            }
            FaultPlan::DisconnectFrom(first) if number >= first => {
                Err(BlockError::Disconnected("injected fault".to_owned()))
            }
            FaultPlan::Never
            | FaultPlan::NoSpaceFrom(_)
            | FaultPlan::IoErrorAt(_)
            | FaultPlan::DisconnectFrom(_) => Ok(()),
        }
    }
}

#[async_trait]
impl BlockDevice for FaultyDevice {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn read_only(&self) -> bool {
        self.inner.read_only()
    }

    async fn read_at(&self, offset: u64, len: u32) -> Result<Bytes, BlockError> {
        self.step()?;
        self.inner.read_at(offset, len).await
    }

    async fn write_at(&self, offset: u64, data: Bytes) -> Result<(), BlockError> {
        self.step()?;
        self.inner.write_at(offset, data).await
    }

    async fn write_zeroes(&self, offset: u64, len: u64) -> Result<(), BlockError> {
        self.step()?;
        self.inner.write_zeroes(offset, len).await
    }

    async fn extents(&self, offset: u64, len: u64) -> Result<Vec<Extent>, BlockError> {
        self.inner.extents(offset, len).await
    }

    async fn flush(&self) -> Result<(), BlockError> {
        self.step()?;
        self.inner.flush().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryDevice;

    #[tokio::test]
    async fn a_full_disk_stays_full() {
        let inner = Arc::new(MemoryDevice::new(vec![0; 4096]));
        let device = FaultyDevice::new(inner, FaultPlan::NoSpaceFrom(2));
        device.write_at(0, Bytes::from_static(b"a")).await.unwrap();
        for _ in 0..2 {
            let full = device.write_at(0, Bytes::from_static(b"b")).await;
            assert!(matches!(full, Err(BlockError::NoSpace)));
        }
        assert_eq!(device.operations(), 3);
    }

    #[tokio::test]
    async fn one_bad_operation_is_only_one() {
        let inner = Arc::new(MemoryDevice::new(vec![0; 4096]));
        let device = FaultyDevice::new(inner, FaultPlan::IoErrorAt(1));
        assert!(matches!(device.read_at(0, 1).await, Err(BlockError::Io(_))));
        device.read_at(0, 1).await.unwrap();
    }
}
