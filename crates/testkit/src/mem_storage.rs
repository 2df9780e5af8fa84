//! Repositories and replicas in memory: images are records, and every open target is accounted for.

mod backup;
mod replica;

use hub_ports::StorageError;

pub use backup::MemBackupStorage;
pub use replica::MemReplicaStorage;

/// What goes wrong with the storage, until it is mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Preparing finds no space.
    FullAtPrepare,
    /// Sealing finds no space.
    FullAtSeal,
    /// What was stored is not what was read.
    Mismatch,
    /// Parents cannot be used, so that an incremental finds none.
    NoParent,
    /// Blocks of every point are damaged.
    Damaged,
    /// Deleting a file fails.
    DeleteFails,
}

fn full() -> StorageError {
    StorageError::Full { place: "the repository".to_owned() }
}

fn broken() -> StorageError {
    StorageError::Io { path: "a file".to_owned(), source: std::io::Error::other("test fault") }
}
