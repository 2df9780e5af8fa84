//! VMs and disks: handed on to their own crate.

use async_trait::async_trait;
use hub_domain::disk::{NewDisk, VmDisk};
use hub_domain::ids::{ReplicationJobId, VmContextId};
use hub_domain::time::Timestamp;
use hub_domain::vm::{ContextStatus, VmContext, VmFacts};
use hub_ports::StoreError;
use hub_ports::store::{InventoryTotals, Row, VmReads, VmWrites};
use hub_vm_disk_repo::{reads, writes};

use crate::session::{Session, Source, Unit};

/// The tables that the other crate reads.
const VMS: &str = "vm_replication_contexts";
const DISKS: &str = "vm_disks";

#[async_trait]
impl<S: Source> VmReads for Session<S> {
    async fn vm(&mut self, id: VmContextId) -> Result<Option<VmContext>, StoreError> {
        reads::vm(self.db(), id).await
    }

    async fn vms_named(&mut self, name: &str) -> Result<Vec<VmContext>, StoreError> {
        reads::vms_named(self.db(), name).await
    }

    async fn vms_resembling(
        &mut self,
        seen: &[VmFacts],
    ) -> Result<Vec<Row<VmContext>>, StoreError> {
        let found = reads::vms_resembling(self.db(), seen).await?;
        Ok(self.noted(VMS, found, |vm| vm.id.to_string()))
    }

    async fn vms_page(
        &mut self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Row<VmContext>>, StoreError> {
        let found = reads::vms_page(self.db(), after, limit).await?;
        Ok(self.noted(VMS, found, |vm| vm.id.to_string()))
    }

    async fn disks_of(&mut self, vms: &[VmContextId]) -> Result<Vec<VmDisk>, StoreError> {
        reads::disks_of(self.db(), vms).await
    }

    async fn disks_of_page(
        &mut self,
        first: VmContextId,
        last: VmContextId,
    ) -> Result<Vec<Row<VmDisk>>, StoreError> {
        let found = reads::disks_of_page(self.db(), first, last).await?;
        Ok(self.noted(DISKS, found, |disk| disk.id.to_string()))
    }

    async fn inventory_totals(&mut self) -> Result<InventoryTotals, StoreError> {
        reads::totals(self.db()).await
    }
}

#[async_trait]
impl VmWrites for Session<Unit> {
    async fn lock_vm(&mut self, id: VmContextId) -> Result<(), StoreError> {
        writes::lock(self.db(), id).await
    }

    async fn insert_vms(&mut self, vms: &[VmContext]) -> Result<(), StoreError> {
        self.source.count_inserted(vms.len());
        writes::insert_vms(self.db(), vms).await
    }

    async fn insert_disks(&mut self, disks: &[NewDisk], at: Timestamp) -> Result<(), StoreError> {
        self.source.count_inserted(disks.len());
        writes::insert_disks(self.db(), disks, at).await
    }

    async fn update_vm(&mut self, vm: &VmContext) -> Result<(), StoreError> {
        writes::update_vm(self.db(), vm).await
    }

    async fn update_disks(&mut self, disks: &[VmDisk]) -> Result<(), StoreError> {
        writes::update_disks(self.db(), disks).await
    }

    async fn set_vm_status(
        &mut self,
        id: VmContextId,
        status: ContextStatus,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        writes::set_status(self.db(), id, status, at).await
    }

    async fn link_disks(
        &mut self,
        vm: VmContextId,
        job: ReplicationJobId,
        at: Timestamp,
    ) -> Result<u64, StoreError> {
        writes::link_disks(self.db(), vm, job, at).await
    }

    async fn delete_vm(&mut self, id: VmContextId) -> Result<(), StoreError> {
        writes::delete_vm(self.db(), id).await
    }
}
