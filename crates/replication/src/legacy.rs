//! A VM without disk rows, from a catalogue older than they are: its VMA is asked once.

use hub_domain::disk::{DiskFacts, VmDisk};
use hub_domain::disk_sync::plan_disk_sync;
use hub_domain::identity::recognise;
use hub_domain::ids::VmaNodeId;
use hub_domain::vm::VmContext;
use hub_ports::{InventoryQuery, StoreError, UnitOfWork};

use crate::engine::reach;
use crate::{Replication, StartReplicationError};

/// What the source said about a VM without disk rows.
pub(crate) struct Missing {
    /// The VMA that was asked.
    pub(crate) vma_node: VmaNodeId,
    /// Its disks.
    pub(crate) disks: Vec<DiskFacts>,
}

impl Replication {
    /// What the source says about the disks of a VM that has none stored; `None` when it has some.
    ///
    /// A VM that nobody reaches is refused in either case, before anything is stored (trap C7).
    pub(crate) async fn missing_disks(
        &self,
        vm: &VmContext,
    ) -> Result<Option<Missing>, StartReplicationError> {
        let mut view = self.store.view().await?;
        let vm_name = || vm.facts.name.clone();
        let reach = match reach(view.as_mut(), vm).await? {
            Ok(reach) => reach,
            Err(fault) => {
                let (vm_name, reason) = (vm_name(), fault.detail);
                return Err(StartReplicationError::NoVma { vm_name, reason });
            }
        };
        if has_disks(&view.disks_of(&[vm.id]).await?) {
            return Ok(None);
        }
        drop(view);
        let ids = vec![vm.facts.vmware_vm_id.clone()];
        let query = InventoryQuery { credential: reach.credential, names: Vec::new(), ids };
        let seen = self.source.inventory(&reach.node, &query).await?;
        let same = |other: &hub_domain::inventory::SeenVm| recognise(&other.facts, [vm]).is_some();
        let found = seen.vms.into_iter().find(same);
        let found = found.ok_or_else(|| StartReplicationError::VmGone { vm_name: vm_name() })?;
        if found.disks.is_empty() {
            return Err(StartReplicationError::NoDisks { vm_name: vm_name() });
        }
        Ok(Some(Missing { vma_node: reach.node.id, disks: found.disks }))
    }

    /// Stores what the source said, unless somebody else has done it meanwhile; returns the disks as they are now.
    pub(crate) async fn store_missing_disks(
        &self,
        work: &mut dyn UnitOfWork,
        vm: &VmContext,
        seen: Option<&Missing>,
    ) -> Result<Vec<VmDisk>, StoreError> {
        let stored = work.disks_of(&[vm.id]).await?;
        let Some(seen) = seen.filter(|_| !has_disks(&stored)) else {
            return Ok(stored);
        };
        let now = self.clock.now();
        let sync = plan_disk_sync(vm.id, &stored, &seen.disks, now);
        if !sync.update.is_empty() {
            work.update_disks(&sync.update).await?;
        }
        if !sync.add.is_empty() {
            work.insert_disks(&sync.add, now).await?;
        }
        if vm.vma_node.is_none() {
            // The VMA that knew the disks is the one that will copy them.
            let vma_node = Some(seen.vma_node);
            work.update_vm(&VmContext { vma_node, updated_at: now, ..vm.clone() }).await?;
        }
        work.disks_of(&[vm.id]).await
    }
}

fn has_disks(disks: &[VmDisk]) -> bool {
    disks.iter().any(|disk| disk.is_present())
}
