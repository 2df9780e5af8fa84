//! What can go wrong with a device, in words that a job can act on.

use std::io;

/// A failed operation on a block device.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlockError {
    /// The range leaves the device; nothing was read or written.
    #[error("range of {len} bytes at {offset} leaves the device of {size} bytes")]
    OutOfRange {
        /// First byte asked for.
        offset: u64,
        /// Bytes asked for.
        len: u64,
        /// Size of the device.
        size: u64,
    },
    /// A write to a device that was opened for reading.
    #[error("the device is read-only")]
    ReadOnly,
    /// The place where the device keeps its bytes is full.
    #[error("no space left where the image is stored")]
    NoSpace,
    /// The content does not make sense at a place; reading on would serve wrong bytes.
    #[error("corrupt at offset {offset}: {what}")]
    Corrupt {
        /// Where, in the file or stream that is corrupt.
        offset: u64,
        /// What was found.
        what: String,
    },
    /// The other end of a connection is gone, or was told to go.
    #[error("the connection to the device is gone: {0}")]
    Disconnected(String),
    /// Nothing was heard within the deadline.
    #[error("no answer from the device within {0:?}")]
    TimedOut(std::time::Duration),
    /// The operation does not exist here.
    #[error("not supported: {0}")]
    Unsupported(String),
    /// The operating system refused.
    #[error("input/output error")]
    Io(#[source] io::Error),
}

impl From<io::Error> for BlockError {
    fn from(error: io::Error) -> Self {
        if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            Self::NoSpace
        } else {
            Self::Io(error)
        }
    }
}
