//! Conditions as JSON in one column: they are read as a whole, asked for by no query, and grow with every release of a
//! hypervisor.

use hub_domain::conditions::{DiskConditions, VmConditions, VmNetwork, VmSnapshot};
use hub_ports::StoreError;
use serde::{Deserialize, Serialize};

use crate::column;

/// The conditions of a VM; an empty column is a source that said nothing.
pub(crate) fn of_vm(json: Option<&str>) -> Result<VmConditions, StoreError> {
    let Some(json) = json else { return Ok(VmConditions::default()) };
    let row: VmRow =
        serde_json::from_str(json).map_err(|_| column::corrupt("conditions", json.len()))?;
    Ok(VmConditions {
        hardware_version: row.hardware_version,
        template: row.template,
        snapshots: row.snapshots.map(|all| all.into_iter().map(SnapshotRow::value).collect()),
        tracking_supported: row.tracking_supported,
        tracking_enabled: row.tracking_enabled,
        consolidation_needed: row.consolidation_needed,
        encrypted: row.encrypted,
        fault_tolerance: row.fault_tolerance,
        connection: row.connection,
        tools: row.tools,
        quiesced: row.quiesced,
        reads_snapshots: row.reads_snapshots,
        refusal: row.refusal,
        networks: row.networks.into_iter().map(NetworkRow::value).collect(),
    })
}

/// The column of a VM's conditions.
pub(crate) fn vm_json(conditions: &VmConditions) -> Result<Option<String>, StoreError> {
    if conditions.is_unsaid() {
        return Ok(None);
    }
    let it = conditions.clone();
    written(&VmRow {
        hardware_version: it.hardware_version,
        template: it.template,
        snapshots: it.snapshots.map(|all| all.into_iter().map(SnapshotRow::of).collect()),
        tracking_supported: it.tracking_supported,
        tracking_enabled: it.tracking_enabled,
        consolidation_needed: it.consolidation_needed,
        encrypted: it.encrypted,
        fault_tolerance: it.fault_tolerance,
        connection: it.connection,
        tools: it.tools,
        quiesced: it.quiesced,
        reads_snapshots: it.reads_snapshots,
        refusal: it.refusal,
        networks: it.networks.into_iter().map(NetworkRow::of).collect(),
    })
}

/// The conditions of a disk.
pub(crate) fn of_disk(json: Option<&str>) -> Result<DiskConditions, StoreError> {
    let Some(json) = json else { return Ok(DiskConditions::default()) };
    let row: DiskRow =
        serde_json::from_str(json).map_err(|_| column::corrupt("conditions", json.len()))?;
    Ok(DiskConditions {
        device_key: row.device_key,
        controller: row.controller,
        bus_number: row.bus_number,
        mode: row.mode,
        sharing: row.sharing,
        used_bytes: row.used_bytes,
        rdm: row.rdm,
        has_change_id: row.has_change_id,
        format: row.format,
        datastore_type: row.datastore_type,
        reader: row.reader,
        refusal: row.refusal,
    })
}

/// The column of a disk's conditions.
pub(crate) fn disk_json(conditions: &DiskConditions) -> Result<Option<String>, StoreError> {
    if conditions.is_unsaid() {
        return Ok(None);
    }
    let it = conditions.clone();
    written(&DiskRow {
        device_key: it.device_key,
        controller: it.controller,
        bus_number: it.bus_number,
        mode: it.mode,
        sharing: it.sharing,
        used_bytes: it.used_bytes,
        rdm: it.rdm,
        has_change_id: it.has_change_id,
        format: it.format,
        datastore_type: it.datastore_type,
        reader: it.reader,
        refusal: it.refusal,
    })
}

fn written(row: &impl Serialize) -> Result<Option<String>, StoreError> {
    serde_json::to_string(row).map(Some).map_err(|error| StoreError::Internal(error.into()))
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct VmRow {
    #[serde(skip_serializing_if = "Option::is_none")]
    hardware_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    template: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshots: Option<Vec<SnapshotRow>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracking_supported: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracking_enabled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    consolidation_needed: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encrypted: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault_tolerance: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tools: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quiesced: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reads_snapshots: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    networks: Vec<NetworkRow>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct NetworkRow {
    label: String,
    network: String,
    mac: String,
    adapter: String,
}

impl NetworkRow {
    fn of(it: VmNetwork) -> Self {
        let VmNetwork { label, network_name, mac_address, adapter_type } = it;
        Self { label, network: network_name, mac: mac_address, adapter: adapter_type }
    }

    fn value(self) -> VmNetwork {
        let Self { label, network, mac, adapter } = self;
        VmNetwork { label, network_name: network, mac_address: mac, adapter_type: adapter }
    }
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct SnapshotRow {
    id: String,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quiesced: Option<bool>,
}

impl SnapshotRow {
    fn of(it: VmSnapshot) -> Self {
        let VmSnapshot { id, name, created, parent, quiesced } = it;
        Self { id, name, created, parent, quiesced }
    }

    fn value(self) -> VmSnapshot {
        let Self { id, name, created, parent, quiesced } = self;
        VmSnapshot { id, name, created, parent, quiesced }
    }
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct DiskRow {
    #[serde(skip_serializing_if = "Option::is_none")]
    device_key: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    controller: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bus_number: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sharing: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    used_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rdm: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    has_change_id: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    datastore_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reader: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<String>,
}
