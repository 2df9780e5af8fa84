//! What a hypervisor says of a VM and its disks, in answers about one VM and in those of a discovery; lists of VMs
//! leave it out, since it would make most of them.

use hub_domain::conditions::{VmConditions, VmNetwork, VmSnapshot};
use hub_domain::disk::DiskFacts;
use serde::Serialize;
use utoipa::ToSchema;

use crate::answer::bytes;

/// What the source says of a VM that decides how it can be backed up; null is what it does not say.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = VmConditions)]
pub(crate) struct VmConditionsView {
    /// Hardware version (`vmx-15`).
    hardware_version: Option<String>,
    template: Option<bool>,
    /// Parents before their children; empty when it has none.
    snapshots: Option<Vec<SnapshotView>>,
    /// Whether its changed blocks can be tracked.
    tracking_supported: Option<bool>,
    /// Whether tracking is switched on; it is active for a disk only when that has a change id, too.
    tracking_enabled: Option<bool>,
    /// Whether deltas of removed snapshots wait to be merged.
    consolidation_needed: Option<bool>,
    encrypted: Option<bool>,
    /// State of fault tolerance; `notConfigured` is none.
    fault_tolerance: Option<String>,
    /// Whether its host answers for it: `connected`, `disconnected`, `inaccessible`, …
    connection: Option<String>,
    /// State of the guest's tools: `guestToolsRunning`, `guestToolsNotRunning`, …
    tools: Option<String>,
    /// Whether its VMA brings the guest to rest for a snapshot, where a request does not say otherwise.
    quiesced: Option<bool>,
    /// Whether the reader of its disks reads them beneath snapshots of others.
    reads_snapshots: Option<bool>,
}

/// One snapshot of a VM.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = VmSnapshot)]
pub(crate) struct SnapshotView {
    /// Reference of the managed object.
    id: String,
    name: String,
    /// As the source spells it.
    created: Option<String>,
    /// The snapshot that it stands on.
    parent: Option<String>,
    /// Whether the guest was quiesced for it.
    quiesced: Option<bool>,
    /// Whether a job of ours took it, so that it goes by itself.
    ours: bool,
}

/// What the source says of a disk that decides how it can be backed up; null is what it does not say.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DiskConditions)]
pub(crate) struct DiskConditionsView {
    /// The hypervisor's number of the device.
    device_key: Option<i32>,
    /// Kind of its controller (`scsi`, `nvme`).
    controller: Option<String>,
    /// Number of that controller among those of its kind.
    bus_number: Option<u32>,
    /// `persistent`, `independent_persistent`, …
    mode: Option<String>,
    /// `none`, `multi_writer`, `virtual_bus` or `physical_bus`.
    sharing: Option<String>,
    /// What it takes on its datastore.
    used_bytes: Option<i64>,
    /// Raw device mapping: `physical`, `virtual` or `none`.
    rdm: Option<String>,
    /// Whether changed blocks can be asked for.
    has_change_id: Option<bool>,
    /// Kind of its file: `flat`, `sparse`, `se_sparse`, `raw`, or the hypervisor's own word.
    format: Option<String>,
    /// Kind of its datastore: `VMFS`, `NFS`, `vsan`, …
    datastore_type: Option<String>,
    /// How it would be read: `vddk` or `https`.
    reader: Option<String>,
}

/// One network adapter of a VM.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = VmNetwork)]
pub(crate) struct NetworkView {
    label: String,
    /// Its name as people see it.
    network_name: String,
    mac_address: String,
    adapter_type: String,
}

impl VmConditionsView {
    /// The conditions, and beside them the networks.
    pub(super) fn of(said: VmConditions) -> (Self, Vec<NetworkView>) {
        let snapshots = |all: Vec<VmSnapshot>| all.into_iter().map(SnapshotView::of).collect();
        let view = Self {
            hardware_version: said.hardware_version,
            template: said.template,
            snapshots: said.snapshots.map(snapshots),
            tracking_supported: said.tracking_supported,
            tracking_enabled: said.tracking_enabled,
            consolidation_needed: said.consolidation_needed,
            encrypted: said.encrypted,
            fault_tolerance: said.fault_tolerance,
            connection: said.connection,
            tools: said.tools,
            quiesced: said.quiesced,
            reads_snapshots: said.reads_snapshots,
        };
        (view, said.networks.into_iter().map(NetworkView::of).collect())
    }
}

impl SnapshotView {
    fn of(snapshot: VmSnapshot) -> Self {
        let ours = snapshot.is_of_a_job();
        let VmSnapshot { id, name, created, parent, quiesced, .. } = snapshot;
        Self { id, name, created, parent, quiesced, ours }
    }
}

impl DiskConditionsView {
    pub(super) fn of(disk: &DiskFacts) -> Self {
        let said = disk.conditions.clone();
        Self {
            device_key: said.device_key,
            controller: said.controller,
            bus_number: said.bus_number,
            mode: said.mode,
            sharing: said.sharing,
            used_bytes: said.used_bytes.map(bytes),
            rdm: said.rdm,
            has_change_id: said.has_change_id,
            format: said.format,
            datastore_type: said.datastore_type,
            reader: said.reader,
        }
    }
}

impl NetworkView {
    fn of(network: VmNetwork) -> Self {
        let VmNetwork { label, network_name, mac_address, adapter_type } = network;
        Self { label, network_name, mac_address, adapter_type }
    }
}
