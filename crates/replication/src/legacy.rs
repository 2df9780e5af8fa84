//! A VM without disk rows, from a catalogue older than they are: its VMA is asked once.

use hub_domain::disk::{DiskFacts, Presence, VmDisk, plan_disk_sync};
use hub_domain::vm::VmContext;
use hub_ports::{InventoryQuery, StoreError, UnitOfWork};

use crate::engine::reach;
use crate::{Replication, StartReplicationError};

impl Replication {
    /// What the source says about the disks of a VM that has none stored; `None` when it has some.
    pub(crate) async fn missing_disks(
        &self,
        vm: &VmContext,
    ) -> Result<Option<Vec<DiskFacts>>, StartReplicationError> {
        let mut view = self.store.view().await?;
        if has_disks(&view.disks_of(&[vm.id]).await?) {
            return Ok(None);
        }
        let vm_name = || vm.facts.name.clone();
        let Ok(reach) = reach(view.as_mut(), vm).await? else {
            return Err(StartReplicationError::NoVma { vm_name: vm_name() });
        };
        drop(view);
        let ids = vec![vm.facts.vmware_vm_id.clone()];
        let query = InventoryQuery { credential: reach.credential, names: Vec::new(), ids };
        let seen = self.source.inventory(&reach.node, &query).await?;
        let same = |other: &hub_domain::inventory::SeenVm| {
            other.facts.vmware_vm_id == vm.facts.vmware_vm_id
                && other.facts.vcenter_host == vm.facts.vcenter_host
        };
        let found = seen.vms.into_iter().find(same);
        let found = found.ok_or_else(|| StartReplicationError::VmGone { vm_name: vm_name() })?;
        if found.disks.is_empty() {
            return Err(StartReplicationError::NoDisks { vm_name: vm_name() });
        }
        Ok(Some(found.disks))
    }

    /// Stores what the source said, unless somebody else has done it meanwhile; returns the disks as they are now.
    pub(crate) async fn store_missing_disks(
        &self,
        work: &mut dyn UnitOfWork,
        vm: &VmContext,
        seen: Option<&[DiskFacts]>,
    ) -> Result<Vec<VmDisk>, StoreError> {
        let stored = work.disks_of(&[vm.id]).await?;
        let Some(seen) = seen.filter(|_| !has_disks(&stored)) else {
            return Ok(stored);
        };
        let now = self.clock.now();
        let sync = plan_disk_sync(vm.id, &stored, seen, now);
        work.insert_disks(&sync.add, now).await?;
        if !sync.update.is_empty() {
            work.update_disks(&sync.update).await?;
        }
        work.disks_of(&[vm.id]).await
    }
}

fn has_disks(disks: &[VmDisk]) -> bool {
    disks.iter().any(|disk| disk.presence == Presence::Present)
}
