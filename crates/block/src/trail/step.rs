//! What a trail is made of.

use std::path::PathBuf;

/// A file of a trail, whatever its name is at the moment.
pub type FileId = usize;

/// One thing that was done. Everything but syncs may be lost by a power cut until a sync covers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A file was created.
    Created {
        /// The file.
        file: FileId,
        /// Its first name.
        path: PathBuf,
    },
    /// Bytes were written.
    Wrote {
        /// The file.
        file: FileId,
        /// Where.
        offset: u64,
        /// What.
        bytes: Vec<u8>,
    },
    /// A range reads as zeroes.
    Cleared {
        /// The file.
        file: FileId,
        /// Its first byte.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// A file has another length.
    Resized {
        /// The file.
        file: FileId,
        /// Its length in bytes.
        len: u64,
    },
    /// What was done to a file before the sync began is durable.
    Synced {
        /// The file.
        file: FileId,
    },
    /// A file has another name.
    Renamed {
        /// The name that it had.
        from: PathBuf,
        /// The name that it has.
        to: PathBuf,
    },
    /// A name is gone.
    Removed {
        /// The name.
        path: PathBuf,
    },
    /// A directory was made.
    DirectoryMade {
        /// Its path.
        path: PathBuf,
    },
    /// What was done to the names in a directory before the sync began is durable.
    DirectorySynced {
        /// Its path.
        path: PathBuf,
    },
    /// Something that the test has seen, such as the end of a call.
    Marked {
        /// What.
        what: String,
    },
}
