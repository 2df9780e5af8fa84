//! The catalogue as engines see it: views for reading, units of work for writing.

mod access;
mod backups;
mod find_vm;
mod jobs;
mod owed;
mod reach;
mod unreadable;
mod vms;

use async_trait::async_trait;

use crate::StoreError;

pub use access::{AccessReads, AccessWrites};
pub use backups::{BackupFilter, BackupReads, BackupStats, BackupWrites, Suspicions};
pub use find_vm::{FindVmError, VmCandidate, find_vm};
pub use jobs::{ReplicationReads, ReplicationWrites, RestoreReads, RestoreWrites};
pub use owed::{OwedReads, OwedWrites};
pub(crate) use reach::known;
pub use reach::{Reader, answering_reader, login_through, note_source, reader};
pub use unreadable::{PROBLEM, Row, Unreadable, all_readable, readable, unless_unreadable};
pub use vms::{InventoryTotals, VmReads, VmWrites};

/// The catalogue.
#[async_trait]
pub trait Store: Send + Sync {
    /// Begins one atomic piece of work; dropping it without [`UnitOfWork::commit`] undoes it.
    ///
    /// No network or disk work of the caller's may happen between this and the end: others wait.
    /// The first write locks its aggregate root ([`VmWrites::lock_vm`]) wherever rows are read to be decided on.
    async fn begin(&self) -> Result<Box<dyn UnitOfWork>, StoreError>;

    /// Opens a view for reading; it sees only what is committed, and blocks nobody.
    async fn view(&self) -> Result<Box<dyn Catalogue>, StoreError>;

    /// Whether the database answers.
    async fn ping(&self) -> Result<(), StoreError>;

    /// How many rows lists have met since the start that cannot be read, and have not been read since.
    fn unreadable(&self) -> usize;
}

/// Everything that can be read, in a view or inside a unit of work.
///
/// Lists are bounded by the caller: keyset paging by id as text, `limit` rows after `after`. A list of [`Row`]s has one for
/// each, also for what cannot be read; every other read fails with [`StoreError::Corrupt`] then.
pub trait Catalogue:
    VmReads + ReplicationReads + BackupReads + RestoreReads + AccessReads + OwedReads + Send
{
}

impl<T> Catalogue for T where
    T: VmReads + ReplicationReads + BackupReads + RestoreReads + AccessReads + OwedReads + Send
{
}

/// One atomic piece of work.
///
/// [`StoreError::Conflict`] may surface at any step; the whole unit is then run again
/// ([`retry_conflicts`](crate::retry_conflicts)).
#[async_trait]
pub trait UnitOfWork:
    Catalogue + VmWrites + ReplicationWrites + BackupWrites + RestoreWrites + AccessWrites + OwedWrites
{
    /// Makes all of it visible and durable, or none.
    async fn commit(self: Box<Self>) -> Result<(), StoreError>;
}
