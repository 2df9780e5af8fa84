//! VM contexts and their disks.

use async_trait::async_trait;
use hub_domain::disk::{NewDisk, VmDisk};
use hub_domain::ids::{ReplicationJobId, VmContextId};
use hub_domain::time::Timestamp;
use hub_domain::vm::{ContextStatus, VmContext, VmFacts};

use super::Row;
use crate::StoreError;

/// Sums over the whole inventory, for capacity planning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InventoryTotals {
    /// VM contexts.
    pub vms: u64,
    /// Present disks.
    pub disks: u64,
    /// Bytes of capacity of the present disks.
    pub capacity_bytes: u64,
}

/// Reads VM contexts and disks.
#[async_trait]
pub trait VmReads: Send {
    /// The VM with this id.
    async fn vm(&mut self, id: VmContextId) -> Result<Option<VmContext>, StoreError>;

    /// All VMs with this display name, by id.
    async fn vms_named(&mut self, name: &str) -> Result<Vec<VmContext>, StoreError>;

    /// The VMs that may be one of these: all that have the key of one, or its host and its id there; any number, in no
    /// order. Which is which, [`recognise`](hub_domain::identity::recognise) says.
    async fn vms_resembling(&mut self, seen: &[VmFacts])
    -> Result<Vec<Row<VmContext>>, StoreError>;

    /// Up to `limit` VMs with an id after `after`, by id.
    async fn vms_page(
        &mut self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Row<VmContext>>, StoreError>;

    /// All disks of these VMs, retired ones included, by VM and ordinal; any number of ids.
    async fn disks_of(&mut self, vms: &[VmContextId]) -> Result<Vec<VmDisk>, StoreError>;

    /// All disks of the VMs of one [page](Self::vms_page), retired ones included, by VM and ordinal: those of every VM
    /// from the first to the last, both included.
    ///
    /// One stretch of an index; a database plans and seeks a list of ids one by one.
    async fn disks_of_page(
        &mut self,
        first: VmContextId,
        last: VmContextId,
    ) -> Result<Vec<Row<VmDisk>>, StoreError>;

    /// Sums over everything.
    async fn inventory_totals(&mut self) -> Result<InventoryTotals, StoreError>;
}

/// Writes VM contexts and disks.
#[async_trait]
pub trait VmWrites: Send {
    /// Locks a VM with everything that hangs on it until the unit ends; [`StoreError::Missing`] when it does not exist.
    async fn lock_vm(&mut self, id: VmContextId) -> Result<(), StoreError>;

    /// Stores new VMs; any number. A VM whose [key](hub_domain::identity::VmKey) is stored already is a
    /// [`StoreError::Conflict`].
    async fn insert_vms(&mut self, vms: &[VmContext]) -> Result<(), StoreError>;

    /// Stores new disks with `job_id` NULL; any number. The key of another present disk of the VM is a
    /// [`StoreError::Conflict`].
    async fn insert_disks(&mut self, disks: &[NewDisk], at: Timestamp) -> Result<(), StoreError>;

    /// Stores a VM as given.
    async fn update_vm(&mut self, vm: &VmContext) -> Result<(), StoreError>;

    /// Stores disks as given, but for their `job`, which only [`link_disks`](Self::link_disks) changes; they may
    /// exchange their keys.
    async fn update_disks(&mut self, disks: &[VmDisk]) -> Result<(), StoreError>;

    /// Sets where a VM stands.
    async fn set_vm_status(
        &mut self,
        id: VmContextId,
        status: ContextStatus,
        at: Timestamp,
    ) -> Result<(), StoreError>;

    /// Links all present disks of a VM to a job, in place; returns how many.
    async fn link_disks(
        &mut self,
        vm: VmContextId,
        job: ReplicationJobId,
        at: Timestamp,
    ) -> Result<u64, StoreError>;

    /// Removes a VM with its disks and replication jobs; backup jobs and chains stay.
    async fn delete_vm(&mut self, id: VmContextId) -> Result<(), StoreError>;
}
