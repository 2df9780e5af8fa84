//! Why an image cannot be made or opened, in words that name the file.

use std::io;
use std::path::{Path, PathBuf};

use hub_block::BlockError;

use crate::gate::Escapes;

/// A failed attempt to create an image; no file is left behind that was not there before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// The virtual size is 0, not a multiple of 512 bytes, or more than tables of this cluster size can describe.
    #[error("a virtual size of {0} bytes is not possible for an image with these clusters")]
    VirtualSize(u64),
    /// The format allows clusters of 2^9 to 2^21 bytes.
    #[error("clusters of 2^{0} bytes are not possible, only 2^9 to 2^21")]
    ClusterBits(u32),
    /// The backing name is not a plain relative path, or too long for the header.
    #[error("the backing name {0:?} is not a plain relative path that fits the header")]
    BackingName(String),
    /// A backing device without a name, or one whose size is not the one that was stated.
    #[error("the backing device does not match the backing that the image is to name")]
    BackingMismatch,
    /// The file exists; it is not touched.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// What is said about the clusters of an unfinished image does not fit the file.
    #[error("the unfinished image {} cannot be gone on with: {what}", .path.display())]
    NotResumable {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        what: &'static str,
    },
    /// The operating system refused.
    #[error("cannot create {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// A failed attempt to open an image or one of the files it stands on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file begins with something else; a writer that never finished leaves such a file.
    #[error("{} is not a qcow2 image", .0.display())]
    NotQcow2(PathBuf),
    /// A valid image that uses what this crate does not know.
    #[error("{} cannot be opened: {what} not supported", .path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The feature, with its verb ("encryption is").
        what: String,
    },
    /// The header or a table makes no sense.
    #[error("{} is corrupt at offset {offset}: {what}", .path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in the file, in bytes.
        offset: u64,
        /// What was found.
        what: String,
    },
    /// The backing file is not where the image says.
    #[error("{} needs its backing file {named:?}, which is missing; put it back there", .path.display())]
    BackingMissing {
        /// The image that names it.
        path: PathBuf,
        /// The name.
        named: String,
    },
    /// The gate does not admit the backing file.
    #[error("{} names the backing file {named:?}, which may not be opened", .path.display())]
    BackingRefused {
        /// The image that names it.
        path: PathBuf,
        /// The name.
        named: String,
        /// Why.
        source: Escapes,
    },
    /// The backing file is recorded as something other than qcow2, or its format is not recorded.
    #[error("{} records its backing file as {format:?}, only \"qcow2\" is opened", .path.display())]
    BackingFormat {
        /// The image that names it.
        path: PathBuf,
        /// The recorded format, empty if there is none.
        format: String,
    },
    /// The chain comes back to a file that is already in it.
    #[error(
        "{} names the backing file {named:?}, which stands on it or is it: a file was replaced by another",
        .path.display()
    )]
    Cycle {
        /// The image that closes the circle.
        path: PathBuf,
        /// The name.
        named: String,
    },
    /// The chain is longer than [`MAX_DEPTH`](crate::MAX_DEPTH).
    #[error("the backing chain is too deep at {}", .0.display())]
    TooDeep(PathBuf),
    /// The operating system refused.
    #[error("cannot read {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl OpenError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    pub(crate) fn unsupported(path: &Path, what: impl Into<String>) -> Self {
        Self::Unsupported { path: path.to_owned(), what: what.into() }
    }

    pub(crate) fn corrupt(path: &Path, offset: u64, what: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_owned(), offset, what: what.into() }
    }

    /// Gives a failed read of the file its name.
    #[expect(clippy::wildcard_enum_match_arm, reason = "a file read knows only these two failures")]
    pub(crate) fn read(path: &Path) -> impl FnOnce(BlockError) -> Self + '_ {
        move |error| match error {
            BlockError::Corrupt { offset, what } => Self::corrupt(path, offset, what),
            BlockError::Io(source) => Self::Io { path: path.to_owned(), source },
            other => Self::Io { path: path.to_owned(), source: io::Error::other(other) },
        }
    }
}
