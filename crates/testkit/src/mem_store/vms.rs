//! VM contexts and disks in memory.

use std::collections::BTreeSet;

use async_trait::async_trait;
use hub_domain::disk::{NewDisk, Presence, VmDisk};
use hub_domain::ids::{ReplicationJobId, VmContextId};
use hub_domain::time::Timestamp;
use hub_domain::vm::{ContextStatus, VmContext, VmFacts};
use hub_ports::StoreError;
use hub_ports::store::{InventoryTotals, Row, VmReads, VmWrites};

use super::Session;
use super::rows::Rows;

#[async_trait]
impl VmReads for Session {
    async fn vm(&mut self, id: VmContextId) -> Result<Option<VmContext>, StoreError> {
        let found = self.rows().vms.get(&id).cloned();
        self.one(found)
    }

    async fn vms_named(&mut self, name: &str) -> Result<Vec<VmContext>, StoreError> {
        let named = self.rows().vms.values().filter(|vm| vm.facts.name == name).cloned().collect();
        self.whole(named)
    }

    async fn vms_resembling(
        &mut self,
        seen: &[VmFacts],
    ) -> Result<Vec<Row<VmContext>>, StoreError> {
        let local = |facts: &VmFacts| (facts.vcenter_host.clone(), facts.vmware_vm_id.clone());
        let keys: BTreeSet<_> = seen.iter().map(VmFacts::key).collect();
        let locals: BTreeSet<_> = seen.iter().map(local).collect();
        let resembles =
            |facts: &VmFacts| keys.contains(&facts.key()) || locals.contains(&local(facts));
        let found = self.rows().vms.values().filter(|vm| resembles(&vm.facts)).cloned().collect();
        Ok(self.listed(found))
    }

    async fn vms_page(
        &mut self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Row<VmContext>>, StoreError> {
        let found = super::page(&self.rows().vms, after, limit, |_| true);
        Ok(self.listed(found))
    }

    async fn disks_of(&mut self, vms: &[VmContextId]) -> Result<Vec<VmDisk>, StoreError> {
        let mut disks: Vec<VmDisk> =
            self.rows().disks.values().filter(|disk| vms.contains(&disk.vm)).cloned().collect();
        disks.sort_by_key(|disk| (disk.vm, disk.ordinal));
        self.whole(disks)
    }

    async fn disks_of_page(
        &mut self,
        first: VmContextId,
        last: VmContextId,
    ) -> Result<Vec<Row<VmDisk>>, StoreError> {
        let mut disks: Vec<VmDisk> = self
            .rows()
            .disks
            .values()
            .filter(|disk| (first..=last).contains(&disk.vm))
            .cloned()
            .collect();
        disks.sort_by_key(|disk| (disk.vm, disk.ordinal));
        Ok(self.listed(disks))
    }

    async fn inventory_totals(&mut self) -> Result<InventoryTotals, StoreError> {
        let rows = self.rows();
        let present = || rows.disks.values().filter(|disk| disk.presence == Presence::Present);
        Ok(InventoryTotals {
            vms: count(rows.vms.len()),
            disks: count(present().count()),
            capacity_bytes: present().map(|disk| disk.facts.capacity.bytes()).sum(),
        })
    }
}

/// A count, as the port gives it.
pub(super) fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[async_trait]
impl VmWrites for Session {
    async fn lock_vm(&mut self, id: VmContextId) -> Result<(), StoreError> {
        if !self.rows().vms.contains_key(&id) {
            return Err(StoreError::Missing("the VM"));
        }
        self.locked.insert(id);
        Ok(())
    }

    async fn insert_vms(&mut self, vms: &[VmContext]) -> Result<(), StoreError> {
        let vms = vms.to_vec();
        self.write(move |rows| {
            for vm in &vms {
                check_vm(rows, vm)?;
                if rows.vms.insert(vm.id, vm.clone()).is_some() {
                    return Err(StoreError::Conflict);
                }
                rows.touch(vm.id);
            }
            Ok(())
        })
    }

    async fn insert_disks(&mut self, disks: &[NewDisk], at: Timestamp) -> Result<(), StoreError> {
        let disks: Vec<VmDisk> = disks
            .iter()
            .map(|new| VmDisk {
                id: self.next_disk_id(),
                vm: new.vm,
                job: None,
                ordinal: new.ordinal,
                facts: new.facts.clone(),
                presence: Presence::Present,
                created_at: at,
                updated_at: at,
            })
            .collect();
        self.write(move |rows| {
            for disk in &disks {
                check_disk(rows, disk)?;
                rows.disks.insert(disk.id, disk.clone());
                rows.touch(disk.vm);
            }
            Ok(())
        })
    }

    async fn update_vm(&mut self, vm: &VmContext) -> Result<(), StoreError> {
        let vm = vm.clone();
        self.write(move |rows| {
            if !rows.vms.contains_key(&vm.id) {
                return Err(StoreError::Missing("the VM"));
            }
            check_vm(rows, &vm)?;
            rows.vms.insert(vm.id, vm.clone());
            rows.touch(vm.id);
            Ok(())
        })
    }

    async fn update_disks(&mut self, disks: &[VmDisk]) -> Result<(), StoreError> {
        let disks = disks.to_vec();
        self.write(move |rows| {
            for disk in &disks {
                let job = rows.disks.get(&disk.id).ok_or(StoreError::Missing("the disk"))?.job;
                rows.disks.insert(disk.id, VmDisk { job, ..disk.clone() });
                rows.touch(disk.vm);
            }
            disks.iter().try_for_each(|disk| check_disk(rows, disk))
        })
    }

    async fn set_vm_status(
        &mut self,
        id: VmContextId,
        status: ContextStatus,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(move |rows| {
            let vm = rows.vms.get_mut(&id).ok_or(StoreError::Missing("the VM"))?;
            vm.status = status;
            vm.updated_at = at;
            rows.touch(id);
            Ok(())
        })
    }

    async fn link_disks(
        &mut self,
        vm: VmContextId,
        job: ReplicationJobId,
        at: Timestamp,
    ) -> Result<u64, StoreError> {
        self.write(move |rows| {
            if !rows.replications.contains_key(&job) {
                return Err(StoreError::Missing("the replication"));
            }
            for disk in present(rows, vm) {
                disk.job = Some(job);
                disk.updated_at = at;
            }
            rows.touch(vm);
            Ok(())
        })?;
        let rows = self.rows();
        Ok(count(
            rows.disks
                .values()
                .filter(|disk| disk.vm == vm && disk.presence == Presence::Present)
                .count(),
        ))
    }

    async fn delete_vm(&mut self, id: VmContextId) -> Result<(), StoreError> {
        self.write(move |rows| {
            rows.vms.remove(&id).ok_or(StoreError::Missing("the VM"))?;
            rows.disks.retain(|_, disk| disk.vm != id);
            rows.replications.retain(|_, job| job.vm != id);
            for job in rows.backups.values_mut().filter(|job| job.vm == id) {
                job.disk = None;
            }
            rows.touch(id);
            Ok(())
        })
    }
}

fn present(rows: &mut Rows, vm: VmContextId) -> impl Iterator<Item = &mut VmDisk> {
    rows.disks.values_mut().filter(move |disk| disk.vm == vm && disk.presence == Presence::Present)
}

/// What the schema demands of a VM row.
fn check_vm(rows: &Rows, vm: &VmContext) -> Result<(), StoreError> {
    if vm.credential.is_some_and(|id| !rows.credentials.contains_key(&id)) {
        return Err(StoreError::Missing("the credential"));
    }
    if vm.vma_node.is_some_and(|id| !rows.vma_nodes.contains_key(&id)) {
        return Err(StoreError::Missing("the VMA"));
    }
    let taken =
        rows.vms.values().any(|other| other.id != vm.id && other.facts.key() == vm.facts.key());
    if taken { Err(StoreError::Conflict) } else { Ok(()) }
}

/// What the schema demands of a disk row.
fn check_disk(rows: &Rows, disk: &VmDisk) -> Result<(), StoreError> {
    if !rows.vms.contains_key(&disk.vm) {
        return Err(StoreError::Missing("the VM"));
    }
    let taken = rows.disks.values().any(|other| {
        other.id != disk.id
            && other.vm == disk.vm
            && (other.ordinal == disk.ordinal
                || (other.is_present() && disk.is_present() && other.facts.key == disk.facts.key))
    });
    if taken { Err(StoreError::Conflict) } else { Ok(()) }
}
