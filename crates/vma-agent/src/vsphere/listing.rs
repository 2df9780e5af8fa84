//! A VM of a vCenter as discovery shows it.

use hub_vma_api::{ChangeTracking, Vm, VmDisk, VmNetwork, VmSnapshot};
use hub_vsphere::{BackingKind, Disk, Places, SnapshotNode};

use super::plan::datastore_type;

const GIB: u64 = 1 << 30;

/// The id of a VM: its instance UUID, which stays when it is renamed, moved or registered again.
pub(super) fn id(vm: &hub_vsphere::Vm) -> &str {
    vm.instance_uuid.as_deref().unwrap_or(&vm.moref.value)
}

/// The id of a disk within its VM.
pub(super) fn disk_id(disk: &Disk) -> String {
    format!("disk-{}", disk.key)
}

/// A VM with its disks, its networks and its snapshots.
pub(super) fn vm(vm: &hub_vsphere::Vm, places: &Places) -> Vm {
    let adapter = |it: &hub_vsphere::Adapter| VmNetwork {
        label: it.label.clone(),
        network_name: places.network(it).unwrap_or_default().to_owned(),
        mac_address: it.mac_address.clone().unwrap_or_default(),
        adapter_type: it.model.clone(),
    };
    let mut snapshots = Vec::new();
    for root in &vm.snapshots {
        add_snapshots(&mut snapshots, root);
    }
    Vm {
        id: id(vm).to_owned(),
        name: vm.name.clone(),
        path: places.path(vm),
        power_state: vm.power_state.clone(),
        guest_os: vm.guest_id.clone(),
        num_cpu: vm.num_cpu,
        memory_mb: vm.memory_mb,
        vmx_version: vm.hardware_version.clone(),
        instance_uuid: vm.instance_uuid.clone(),
        moref: Some(vm.moref.value.clone()),
        datacenter: places.datacenter(vm).map(str::to_owned),
        template: Some(vm.template),
        snapshots: Some(snapshots),
        change_tracking: Some(ChangeTracking {
            supported: vm.tracking_supported,
            enabled: Some(vm.tracking_enabled),
        }),
        consolidation_needed: Some(vm.consolidation_needed),
        encrypted: Some(vm.encrypted || vm.disks.iter().any(|it| it.backing.encrypted)),
        fault_tolerance: vm.fault_tolerance.clone(),
        connection: vm.connection_state.clone(),
        tools: vm.tools.clone(),
        disks: vm.disks.iter().map(|it| disk(it, places)).collect(),
        networks: vm.adapters.iter().map(adapter).collect(),
        ..Vm::default()
    }
}

fn disk(disk: &Disk, places: &Places) -> VmDisk {
    let backing = &disk.backing;
    let controller = disk.controller.as_ref();
    let (rdm, format) = match &backing.kind {
        BackingKind::RawPhysical => ("physical", "raw"),
        BackingKind::RawVirtual => ("virtual", "raw"),
        BackingKind::Flat => ("none", "flat"),
        BackingKind::Sparse => ("none", "sparse"),
        BackingKind::SeSparse => ("none", "se_sparse"),
        BackingKind::Other(name) => ("none", name.as_str()),
    };
    VmDisk {
        id: disk_id(disk),
        label: disk.label.clone(),
        path: backing.file_name.clone(),
        size_gb: (disk.capacity_bytes.saturating_add(GIB / 2) / GIB).max(1),
        capacity_bytes: disk.capacity_bytes,
        datastore: backing.datastore_name().unwrap_or_default().to_owned(),
        provisioning_type: provisioning(disk).map(str::to_owned),
        unit_number: disk.unit,
        bus: controller.map(hub_vsphere::Controller::slot),
        device_key: Some(disk.key),
        controller: controller.map(|it| it.bus.to_owned()),
        bus_number: controller.map(|it| it.number),
        backing_uuid: backing.uuid.clone(),
        mode: backing.mode.clone(),
        sharing: Some(sharing(disk).to_owned()),
        used_bytes: disk.used_bytes,
        rdm: Some(rdm.to_owned()),
        has_change_id: Some(backing.change_id.is_some()),
        format: Some(format.to_owned()),
        datastore_type: datastore_type(places, disk).map(str::to_owned),
        ..VmDisk::default()
    }
}

fn provisioning(disk: &Disk) -> Option<&'static str> {
    let backing = &disk.backing;
    match (backing.thin?, backing.eager) {
        (true, _) => Some("thin"),
        (false, Some(true)) => Some("eagerZeroedThick"),
        (false, _) => Some("thick"),
    }
}

/// The sharing of the disk itself, or else that of its bus.
fn sharing(disk: &Disk) -> &'static str {
    if disk.backing.sharing.as_deref() == Some("sharingMultiWriter") {
        return "multi_writer";
    }
    match disk.controller.as_ref().and_then(|it| it.sharing.as_deref()) {
        Some("virtualSharing") => "virtual_bus",
        Some("physicalSharing") => "physical_bus",
        _ => "none",
    }
}

/// Parents before their children.
fn add_snapshots(all: &mut Vec<VmSnapshot>, root: &SnapshotNode) {
    let mut left = vec![(None, root)];
    while let Some((parent, node)) = left.pop() {
        let id = node.moref.value.clone();
        left.extend(node.children.iter().rev().map(|it| (Some(id.clone()), it)));
        all.push(VmSnapshot {
            id,
            name: node.name.clone(),
            created: node.created.clone(),
            parent,
            quiesced: Some(node.quiesced),
        });
    }
}
