//! Rows that a test garbles: the catalogue in memory holds values, which are always readable otherwise.

use hub_domain::access::{Credential, VmaNode};
use hub_domain::backup::{BackupJob, BackupRun};
use hub_domain::chain::BackupChain;
use hub_domain::disk::VmDisk;
use hub_domain::owed::OwedCleanup;
use hub_domain::replication::ReplicationJob;
use hub_domain::repository::Repository;
use hub_domain::restore::{RestoreJob, Verification};
use hub_domain::vm::VmContext;
use hub_ports::StoreError;
use hub_ports::store::{Row, Unreadable, all_readable};

use super::{MemStore, Session};

impl MemStore {
    /// From now on the row of a table with this key cannot be read.
    pub fn garble(&self, table: &str, key: impl ToString) {
        self.shared.garbled.lock().insert((table.to_owned(), key.to_string()));
    }

    /// Every row can be read again.
    pub fn mend(&self) {
        self.shared.garbled.lock().clear();
    }
}

impl Session {
    /// A list, with what is garbled in its place.
    pub(super) fn listed<T: Keyed>(&self, values: Vec<T>) -> Vec<Row<T>> {
        let garbled = self.shared.garbled.lock();
        let is_garbled = |value: &T| garbled.contains(&(T::TABLE.to_owned(), value.key()));
        let row = |value: T| match is_garbled(&value) {
            true => Err(Unreadable::new(T::TABLE, value.key(), value.of(), "garbled by the test")),
            false => Ok(value),
        };
        values.into_iter().map(row).collect()
    }

    /// Values of which none may be garbled.
    pub(super) fn whole<T: Keyed>(&self, values: Vec<T>) -> Result<Vec<T>, StoreError> {
        all_readable(self.listed(values))
    }

    /// A value that may be absent, and not garbled.
    pub(super) fn one<T: Keyed>(&self, value: Option<T>) -> Result<Option<T>, StoreError> {
        Ok(self.whole(value.into_iter().collect())?.pop())
    }
}

/// What a table has under a key.
pub(super) trait Keyed {
    const TABLE: &'static str;

    fn key(&self) -> String;

    fn of(&self) -> Option<String> {
        None
    }
}

macro_rules! keyed {
    ($($kind:ty: $table:literal, $key:ident $(, $of:ident)?;)+) => { $(
        impl Keyed for $kind {
            const TABLE: &'static str = $table;

            fn key(&self) -> String {
                self.$key.to_string()
            }

            $(fn of(&self) -> Option<String> {
                Some(self.$of.to_string())
            })?
        }
    )+ };
}

keyed! {
    VmContext: "vm_replication_contexts", id;
    VmDisk: "vm_disks", id, vm;
    BackupRun: "backup_runs", id;
    BackupJob: "backup_jobs", id, vm;
    ReplicationJob: "replication_jobs", id, vm;
    RestoreJob: "restore_jobs", id, point;
    Verification: "verifications", id, point;
    Repository: "backup_repositories", id;
    Credential: "vmware_credentials", id;
    VmaNode: "vma_nodes", id;
    OwedCleanup: "owed_cleanups", copy, vm;
}

impl Keyed for BackupChain {
    const TABLE: &'static str = "backup_chains";

    fn key(&self) -> String {
        format!("{}/{}/{}", self.key.vm, self.key.ordinal, self.key.repository)
    }

    fn of(&self) -> Option<String> {
        Some(self.key.vm.to_string())
    }
}
