//! Why a file is no manifest, or no longer the one that was sealed.

use std::io;

use crate::{Digest, InvalidBlockSize};

/// A manifest that could not be written, read or believed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The file could not be read or written, or the table is not complete.
    #[error("the manifest file failed")]
    Io(#[from] io::Error),
    /// The file does not start as a manifest does; it may never have been sealed.
    #[error("not a manifest, or one that was never sealed")]
    NotAManifest,
    /// A version that this reader does not know.
    #[error("manifest version {0} is unknown; this reader knows version 1")]
    UnknownVersion(u32),
    /// A length in the header is out of bounds.
    #[error("the manifest's header says that it has {header} bytes with an identity of {identity}")]
    HeaderLength {
        /// Header length, as read.
        header: u32,
        /// Identity length, as read.
        identity: u32,
    },
    /// The header is not what was sealed.
    #[error("the manifest's header is damaged: its digest does not match")]
    HeaderDamaged,
    /// The block size in the header is none.
    #[error("the manifest's header names a wrong block size")]
    BlockSize(#[from] InvalidBlockSize),
    /// The file is truncated or has something after its end.
    #[error("the manifest has {found} bytes where its header says {expected}")]
    FileLength {
        /// What the header leads to.
        expected: u64,
        /// What the file has.
        found: u64,
    },
    /// The identity is not the JSON object it should be.
    #[error("the manifest's identity cannot be read or written as JSON")]
    Identity(#[source] serde_json::Error),
    /// The identity and the table are not of the same disk.
    #[error("the manifest's identity and its table disagree about the {0}")]
    Disagrees(&'static str),
    /// The identity takes more room than the header has.
    #[error("the manifest's identity takes {len} bytes, more than {room}")]
    IdentityTooLong {
        /// Bytes of its JSON.
        len: usize,
        /// Bytes there are.
        room: usize,
    },
    /// The table is not what was sealed.
    #[error("the manifest's table is damaged: its root is {found}, the header says {expected}")]
    TableDamaged {
        /// Root in the header.
        expected: Digest,
        /// Root of the table as it is.
        found: Digest,
    },
}
