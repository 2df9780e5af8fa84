//! Conditions of VMs and disks from the wire: bounded, and in the hypervisor's own words.

use hub_domain::conditions::{
    DiskConditions, MAX_NETWORKS, MAX_SNAPSHOTS, VmConditions, VmNetwork, VmSnapshot,
};
use hub_domain::text::InvalidText;
use hub_vma_api as wire;

use crate::inventory::given;
use crate::transport::shortened;

/// Largest number that every database stores.
const MAX_BYTES: u64 = 1 << 62;

/// What a VMA says of a VM; only the first [`MAX_SNAPSHOTS`] snapshots are kept.
pub(crate) fn of_vm(vm: &wire::Vm) -> Result<VmConditions, InvalidText> {
    let tracking = vm.change_tracking.unwrap_or_default();
    let snapshots = vm.snapshots.as_ref();
    Ok(VmConditions {
        hardware_version: given("vmx_version", vm.vmx_version.as_deref())?,
        template: vm.template,
        snapshots: snapshots.map(|all| all.iter().take(MAX_SNAPSHOTS).map(snapshot).collect()),
        tracking_supported: tracking.supported,
        tracking_enabled: tracking.enabled,
        consolidation_needed: vm.consolidation_needed,
        encrypted: vm.encrypted,
        fault_tolerance: given("fault_tolerance", vm.fault_tolerance.as_deref())?,
        connection: given("connection", vm.connection.as_deref())?,
        tools: given("tools", vm.tools.as_deref())?,
        quiesced: vm.quiesced,
        reads_snapshots: vm.reads_snapshots,
        refusal: refusal(vm.refusal.as_deref()),
        networks: vm.networks.iter().take(MAX_NETWORKS).map(network).collect(),
    })
}

/// What a VMA says of a disk.
pub(crate) fn of_disk(disk: &wire::VmDisk) -> Result<DiskConditions, InvalidText> {
    Ok(DiskConditions {
        device_key: disk.device_key,
        controller: given("controller", disk.controller.as_deref())?,
        bus_number: disk.bus_number,
        mode: given("mode", disk.mode.as_deref())?,
        sharing: given("sharing", disk.sharing.as_deref())?,
        used_bytes: disk.used_bytes.filter(|bytes| *bytes <= MAX_BYTES),
        rdm: given("rdm", disk.rdm.as_deref())?,
        has_change_id: disk.has_change_id,
        format: given("format", disk.format.as_deref())?,
        datastore_type: given("datastore_type", disk.datastore_type.as_deref())?,
        reader: given("reader", disk.reader.as_deref())?,
        refusal: refusal(disk.refusal.as_deref()),
    })
}

/// Names of networks are other people's, too.
fn network(network: &wire::VmNetwork) -> VmNetwork {
    VmNetwork {
        label: cut(&network.label),
        network_name: cut(&network.network_name),
        mac_address: cut(&network.mac_address),
        adapter_type: cut(&network.adapter_type),
    }
}

/// Why a reader refuses is for people: one that is odd must not hide its VM.
fn refusal(why: Option<&str>) -> Option<String> {
    Some(cut(why?)).filter(|it| !it.is_empty())
}

/// Names of snapshots are other people's; one that is odd must not hide its VM.
fn snapshot(snapshot: &wire::VmSnapshot) -> VmSnapshot {
    VmSnapshot {
        id: cut(&snapshot.id),
        name: cut(&snapshot.name),
        created: snapshot.created.as_deref().map(cut),
        parent: snapshot.parent.as_deref().map(cut),
        quiesced: snapshot.quiesced,
    }
}

/// A text for people, as long as a column.
fn cut(text: &str) -> String {
    shortened(text).chars().take(255).collect()
}
