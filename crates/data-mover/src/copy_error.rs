//! Why a copy or a verification did not finish, and on which side.

use std::io;

use hub_block::BlockError;

use crate::examine::NotSeen;

/// A copy that did not reach its end; nothing may be concluded from the target but by its table.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The two devices and the table are not made for the same disk; no byte was moved.
    #[error(
        "sizes differ: the source has {source_bytes} bytes, the target {target_bytes}, \
         the digest table is for {table_bytes}"
    )]
    SizeMismatch {
        /// Size of the source.
        source_bytes: u64,
        /// Size of the target; for a verification, that of the image again.
        target_bytes: u64,
        /// Size of the disk that the table is for.
        table_bytes: u64,
    },
    /// A changed area leaves the disk or ends before it starts; no byte was moved.
    #[error("the area from {start} to {end} is not inside the disk of {capacity} bytes")]
    AreaOutOfRange {
        /// First byte of the area.
        start: u64,
        /// The byte after its last one.
        end: u64,
        /// Size of the disk.
        capacity: u64,
    },
    /// The source could not be read.
    #[error("reading the source failed at offset {offset}")]
    Source {
        /// The first byte that was asked for.
        offset: u64,
        /// What the source said.
        #[source]
        error: BlockError,
    },
    /// The target could not be written or flushed.
    #[error("writing the target failed at offset {offset}")]
    Target {
        /// The first byte that was to be written; the size of the disk for the last flush.
        offset: u64,
        /// What the target said.
        #[source]
        error: BlockError,
    },
    /// The digest table could not be read or written.
    #[error("the digest table failed")]
    Table(#[source] io::Error),
    /// The caller asked for the end.
    #[error("cancelled")]
    Cancelled,
    /// A thread that computes digests was lost.
    #[error("a digest could not be computed")]
    Digest(#[source] tokio::task::JoinError),
}

impl CopyError {
    pub(crate) fn unseen_at(offset: u64) -> impl FnOnce(NotSeen) -> Self {
        move |error| match error {
            NotSeen::Unread(error) => Self::Source { offset, error },
            NotSeen::Lost(error) => Self::Digest(error),
        }
    }

    pub(crate) fn target_at(offset: u64) -> impl FnOnce(BlockError) -> Self {
        move |error| Self::Target { offset, error }
    }
}
