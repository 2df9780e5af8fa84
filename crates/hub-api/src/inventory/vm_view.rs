//! VMs and disks as the API shows them, and how requests name a VM.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use hub_domain::disk::VmDisk;
use hub_domain::ids::VmContextId;
use hub_domain::vm::{VmAddress, VmContext};
use hub_ports::{Catalogue, StoreError};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::conditions_view::{DiskConditionsView, NetworkView, VmConditionsView};
use crate::answer::bytes;
use crate::page::UnreadableView;
use crate::problem::Problem;
use crate::words::{ContextStatus, DiskPresence};

/// A VM under management, with its disks.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = VmContext)]
pub(crate) struct VmView {
    context_id: Uuid,
    /// Display name: a label, not an identity.
    vm_name: String,
    /// The source's own id.
    vmware_vm_id: String,
    /// The VM's own id in its vCenter, which it keeps; null where the source has none.
    instance_uuid: Option<String>,
    /// Reference of the managed object.
    moref: Option<String>,
    vm_path: String,
    vcenter_host: String,
    /// The vCenter's own id.
    vcenter_uuid: Option<String>,
    datacenter: String,
    current_status: ContextStatus,
    cpu_count: Option<u32>,
    memory_mb: Option<u32>,
    os_type: Option<String>,
    /// `poweredOn`, `poweredOff` or `suspended`.
    power_state: Option<String>,
    credential_id: Option<Uuid>,
    vma_node_id: Option<Uuid>,
    /// When the source last said something else about the VM or its disks.
    facts_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    /// What the source said last; left out of lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    conditions: Option<VmConditionsView>,
    /// Its network adapters; left out of lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    networks: Option<Vec<NetworkView>>,
    /// By ordinal, retired ones included.
    disks: Vec<DiskView>,
    /// Disks of it that cannot be read; it cannot be backed up or replicated until they can.
    unreadable_disks: Vec<UnreadableView>,
}

/// A disk of a VM.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Disk)]
pub(crate) struct DiskView {
    /// The row's number.
    id: i64,
    vm_context_id: Uuid,
    /// The replication job linked to it; null from discovery on until there is one.
    job_id: Option<Uuid>,
    /// The hypervisor's own id.
    disk_id: String,
    /// Its place in the VM: 0, 1, 2…
    ordinal: u32,
    label: String,
    vmdk_path: String,
    datastore: String,
    /// In GiB, rounded: for people.
    size_gb: i64,
    /// Exact.
    capacity_bytes: i64,
    provisioning_type: Option<String>,
    bus: Option<String>,
    unit_number: Option<u32>,
    /// Id of the disk behind the device, by which it is known.
    backing_uuid: Option<String>,
    /// The hypervisor's number of the device.
    device_key: Option<i32>,
    /// `persistent`, `independent_persistent`, …
    mode: Option<String>,
    /// `none`, `multi_writer`, `virtual_bus` or `physical_bus`.
    sharing: Option<String>,
    /// Raw device mapping: `physical`, `virtual` or `none`.
    rdm: Option<String>,
    /// What it takes on its datastore.
    used_bytes: Option<i64>,
    /// What the source said last; left out of lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    conditions: Option<DiskConditionsView>,
    presence: DiskPresence,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

/// How much an answer says of each VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    /// What a list shows.
    Listed,
    /// With the conditions and networks.
    Full,
}

impl DiskView {
    pub(crate) fn of(disk: VmDisk, detail: Detail) -> Self {
        let facts = disk.facts;
        let full = detail == Detail::Full;
        let conditions = full.then(|| DiskConditionsView::of(&facts));
        Self {
            id: disk.id.as_raw(),
            vm_context_id: disk.vm.as_uuid(),
            job_id: disk.job.map(|job| job.as_uuid()),
            disk_id: facts.key.as_str().to_owned(),
            ordinal: disk.ordinal,
            size_gb: bytes(facts.size_gb()),
            label: facts.label,
            vmdk_path: facts.vmdk_path,
            datastore: facts.datastore,
            capacity_bytes: bytes(facts.capacity.bytes()),
            provisioning_type: facts.provisioning_type,
            bus: facts.bus,
            unit_number: facts.unit_number,
            backing_uuid: facts.backing_uuid.clone(),
            device_key: facts.conditions.device_key,
            mode: facts.conditions.mode.clone(),
            sharing: facts.conditions.sharing.clone(),
            rdm: facts.conditions.rdm.clone(),
            used_bytes: facts.conditions.used_bytes.map(bytes),
            conditions,
            presence: disk.presence.into(),
            created_at: disk.created_at,
            updated_at: disk.updated_at,
        }
    }
}

impl VmView {
    fn of(vm: VmContext, disks: Vec<DiskView>, detail: Detail) -> Self {
        let facts = vm.facts;
        let said = (detail == Detail::Full).then(|| VmConditionsView::of(facts.conditions));
        let (conditions, networks) = said.unzip();
        Self {
            context_id: vm.id.as_uuid(),
            vm_name: facts.name,
            vmware_vm_id: facts.vmware_vm_id,
            instance_uuid: facts.instance_uuid,
            moref: facts.moref,
            vcenter_uuid: facts.vcenter_uuid,
            facts_at: vm.facts_at,
            vm_path: facts.path,
            vcenter_host: facts.vcenter_host,
            datacenter: facts.datacenter,
            current_status: vm.status.into(),
            cpu_count: facts.cpu_count,
            memory_mb: facts.memory_mb,
            os_type: facts.os_type,
            power_state: facts.power_state,
            credential_id: vm.credential.map(|it| it.as_uuid()),
            vma_node_id: vm.vma_node.map(|it| it.as_uuid()),
            created_at: vm.created_at,
            updated_at: vm.updated_at,
            conditions,
            networks,
            disks,
            unreadable_disks: Vec::new(),
        }
    }
}

/// VMs that follow each other by id, with their disks, in one statement however many there are.
pub(crate) async fn with_disks(
    catalogue: &mut dyn Catalogue,
    vms: Vec<VmContext>,
    detail: Detail,
) -> Result<Vec<VmView>, StoreError> {
    let disks = match (vms.first(), vms.last()) {
        (Some(first), Some(last)) => catalogue.disks_of_page(first.id, last.id).await?,
        _ => Vec::new(),
    };
    let mut by_vm: BTreeMap<VmContextId, Vec<DiskView>> = BTreeMap::new();
    let mut unreadable: BTreeMap<String, Vec<UnreadableView>> = BTreeMap::new();
    for disk in disks {
        match disk {
            Ok(disk) => by_vm.entry(disk.vm).or_default().push(DiskView::of(disk, detail)),
            Err(row) => {
                unreadable.entry(row.of.clone().unwrap_or_default()).or_default().push(row.into())
            }
        }
    }
    Ok(vms
        .into_iter()
        .map(|vm| {
            let disks = by_vm.remove(&vm.id).unwrap_or_default();
            let unreadable_disks = unreadable.remove(&vm.id.to_string()).unwrap_or_default();
            VmView { unreadable_disks, ..VmView::of(vm, disks, detail) }
        })
        .collect())
}

/// The address in a request's body: exactly one of name and id.
pub(crate) fn address(
    vm_name: Option<&str>,
    vm_context_id: Option<&str>,
) -> Result<VmAddress, Problem> {
    match (vm_name, vm_context_id) {
        (Some(name), None) if !name.trim().is_empty() => Ok(VmAddress::parse(name.trim())),
        (None, Some(id)) => {
            id.trim().parse().map(VmAddress::Id).map_err(|_| {
                Problem::field("/vm_context_id", "it is the context_id of a VM, a UUID")
            })
        }
        (Some(_), Some(_)) => {
            Err(Problem::field("/vm_context_id", "give either vm_name or vm_context_id"))
        }
        (None | Some(_), None) => {
            Err(Problem::field("/vm_name", "say which VM: give vm_name or vm_context_id"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_its_vm_once() {
        let id = "00000000-0000-0000-0000-000000000001";
        assert!(matches!(address(Some(" web "), None), Ok(VmAddress::Name(name)) if name == "web"));
        assert!(matches!(address(Some(id), None), Ok(VmAddress::Id(_))));
        assert!(matches!(address(None, Some(id)), Ok(VmAddress::Id(_))));
        for (name, id) in
            [(None, None), (Some(" "), None), (None, Some("web")), (Some("web"), Some(id))]
        {
            assert!(address(name, id).is_err(), "{name:?} {id:?}");
        }
    }
}
