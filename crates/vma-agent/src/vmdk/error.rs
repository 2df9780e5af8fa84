//! Why a VMDK is refused, in words that name the file and what is wrong with it.

use std::io;

use rustix::io::Errno;

use super::HeaderError;

/// A VMDK that is not read, and why.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VmdkError {
    /// The file is no descriptor: an extent, a text of another kind, or rubbish.
    #[error("it is not a VMDK descriptor: {0}")]
    NotADescriptor(&'static str),
    /// More text than any real descriptor has.
    #[error("its descriptor has {0} bytes, more than is read")]
    TooLarge(u64),
    /// A line that does not mean anything.
    #[error("line {line} of its descriptor is malformed: {what}")]
    Malformed {
        /// From 1.
        line: usize,
        /// What was expected.
        what: &'static str,
    },
    /// A setting that every descriptor has is missing or makes no sense.
    #[error("its descriptor has no valid {0}")]
    Missing(&'static str),
    /// A kind of disk that cannot be read as a file.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// A file name that is a path, or nothing.
    #[error("it names `{0}`, and only a plain file name beside the descriptor is allowed")]
    NotPlain(String),
    /// A file that is a symbolic link, a device, a directory.
    #[error("`{0}` is not a regular file, or is reached through a symbolic link")]
    NotRegular(String),
    /// A path that leaves the configured datastores.
    #[error("`{0}` lies outside the configured datastores")]
    Outside(String),
    /// A file that is not there.
    #[error("`{0}` does not exist")]
    NotFound(String),
    /// A flat extent that ends before its disk does: the rest would silently read as zeroes.
    #[error("`{file}` has {len} bytes, {needed} are needed")]
    ShortExtent {
        /// The extent.
        file: String,
        /// Bytes it has.
        len: u64,
        /// Bytes the descriptor takes from it.
        needed: u64,
    },
    /// The header of a sparse extent does not fit its descriptor.
    #[error("the header of `{file}` does not fit its descriptor: {what}")]
    BadExtent {
        /// The extent.
        file: String,
        /// What differs.
        what: &'static str,
    },
    /// The header of a sparse extent is damaged, or of an unknown variant.
    #[error("the extent `{file}` cannot be read")]
    Header {
        /// The extent.
        file: String,
        /// What is wrong with it.
        #[source]
        source: HeaderError,
    },
    /// A file that is not the one that was looked at before.
    #[error("`{0}` changed while it was opened")]
    Changed(String),
    /// A snapshot whose parent has changed since.
    #[error(
        "`{child}` stands on content id {expected:08x} of `{parent}`, which now has {found:08x}: the parent was changed after the snapshot"
    )]
    StaleParent {
        /// The delta.
        child: String,
        /// Its parent.
        parent: String,
        /// The content id that the delta remembers.
        expected: u32,
        /// The content id that the parent has.
        found: u32,
    },
    /// More layers than the hypervisor makes.
    #[error("its snapshot chain has more than 32 layers, or names itself")]
    TooDeep,
    /// Whoever runs the VMA lets it open no more files.
    #[error("`{0}` is one file more than the VMA may have open")]
    TooManyFiles(String),
    /// The file system refused.
    #[error("`{file}` could not be read")]
    Io {
        /// The file.
        file: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl VmdkError {
    /// Wraps a refusal of the file system.
    pub(super) fn io(file: &str, source: io::Error) -> Self {
        let refused = source.raw_os_error();
        if source.kind() == io::ErrorKind::NotFound {
            Self::NotFound(file.to_owned())
        } else if [Errno::MFILE, Errno::NFILE].iter().any(|it| refused == Some(it.raw_os_error())) {
            Self::TooManyFiles(file.to_owned())
        } else {
            Self::Io { file: file.to_owned(), source }
        }
    }

    /// Whether the disk is of a kind that will never be read, rather than damaged.
    pub const fn is_unsupported(&self) -> bool {
        matches!(
            self,
            Self::Unsupported(_) | Self::Header { source: HeaderError::Unsupported(_), .. }
        )
    }
}
