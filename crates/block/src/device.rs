//! The trait that every device implements, its face for threads that may block, and the range rule they share.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{BlockError, Extent};

/// Something that holds a fixed number of bytes and can be read, and perhaps written, anywhere.
///
/// **Visible**: a read that starts after a write has returned sees that write.
/// Reads and writes that overlap in time may see either content, per byte.
/// **Durable**: nothing is, until [`flush`](Self::flush) returns; a flush covers the writes that had returned before it was called.
/// **Order**: calls may run concurrently and complete in any order; the caller that needs an order awaits.
/// **Cancellation**: dropping a future may leave its write done, undone or partly done; the range is then undefined until written again.
#[async_trait]
pub trait BlockDevice: Send + Sync {
    /// The size in bytes; it never changes while the device is open.
    fn size(&self) -> u64;

    /// Whether writes are refused.
    fn read_only(&self) -> bool;

    /// Reads exactly `len` bytes at `offset`; reading beyond the end is [`BlockError::OutOfRange`].
    async fn read_at(&self, offset: u64, len: u32) -> Result<Bytes, BlockError>;

    /// Writes all of `data` at `offset`; writing beyond the end is [`BlockError::OutOfRange`] and changes nothing.
    async fn write_at(&self, offset: u64, data: Bytes) -> Result<(), BlockError>;

    /// Makes a range read as zeroes, without moving zeroes where the device can avoid it.
    async fn write_zeroes(&self, offset: u64, len: u64) -> Result<(), BlockError>;

    /// Describes a range as extents that are in order, not empty, without gaps, and cover it exactly.
    ///
    /// An extent called [`Zero`](crate::ExtentKind::Zero) does read as zeroes; one called data may, too.
    async fn extents(&self, offset: u64, len: u64) -> Result<Vec<Extent>, BlockError>;

    /// Makes every write that has returned durable against power loss.
    async fn flush(&self) -> Result<(), BlockError>;

    /// The same device for a thread that may block, where it has such a face.
    ///
    /// Whoever has more to do with the bytes than to move them, such as hashing them, does both on one thread then.
    fn blocking(self: Arc<Self>) -> Option<Arc<dyn BlockingDevice>> {
        None
    }
}

/// What a device can do at once on the calling thread, which may block: its work on files, never a wait for others.
///
/// `None` is "not without waiting": nothing has been read or written, and the same call of [`BlockDevice`] does it.
/// What that trait says of visibility, durability and order holds here, too.
pub trait BlockingDevice: Send + Sync {
    /// As [`BlockDevice::read_at`].
    fn read_now(&self, offset: u64, len: u32) -> Option<Result<Bytes, BlockError>>;

    /// As [`BlockDevice::write_at`].
    fn write_now(&self, offset: u64, data: &[u8]) -> Option<Result<(), BlockError>>;
}

/// Refuses a range that leaves the device; the one rule all devices share.
pub fn check_range(offset: u64, len: u64, size: u64) -> Result<(), BlockError> {
    match offset.checked_add(len) {
        Some(end) if end <= size => Ok(()),
        _ => Err(BlockError::OutOfRange { offset, len, size }),
    }
}
