//! A VM as the server describes it.

use crate::inventory::places::unescaped;
use crate::inventory::{Adapter, Disk, SnapshotNode};
use crate::inventory::{adapter, disk, snapshots};
use crate::moref::MoRef;
use crate::property::Object;

/// The properties that a [`Vm`] is made of: what the inventory asks for of each VM.
pub const VM_PROPERTIES: [&str; 23] = [
    "name",
    "parent",
    "parentVApp",
    "snapshot",
    "config.instanceUuid",
    "config.template",
    "config.version",
    "config.guestId",
    "config.hardware.numCPU",
    "config.hardware.memoryMB",
    "config.hardware.device",
    "config.changeTrackingEnabled",
    "config.keyId",
    "capability.changeTrackingSupported",
    "runtime.host",
    "runtime.powerState",
    "runtime.connectionState",
    "runtime.consolidationNeeded",
    "runtime.faultToleranceState",
    "layoutEx.disk",
    "layoutEx.file",
    "guest.toolsRunningStatus",
    "summary.config.name",
];

/// One VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vm {
    /// Its reference, unique in one vCenter at one time.
    pub moref: MoRef,
    /// Display name; not unique.
    pub name: String,
    /// Its id within the vCenter, which stays when it is renamed or moved.
    pub instance_uuid: Option<String>,
    /// Whether it is a template.
    pub template: bool,
    /// `poweredOn`, `poweredOff` or `suspended`.
    pub power_state: Option<String>,
    /// `connected`, `inaccessible` and others.
    pub connection_state: Option<String>,
    /// `running`, when tools run in the guest.
    pub tools: Option<String>,
    /// Guest identifier.
    pub guest_id: Option<String>,
    /// Virtual processors.
    pub num_cpu: Option<u32>,
    /// Memory in MiB.
    pub memory_mb: Option<u64>,
    /// Hardware version (`vmx-15`).
    pub hardware_version: Option<String>,
    /// Whether changes are tracked; unset counts as no.
    pub tracking_enabled: bool,
    /// Whether they can be, where the server says so.
    pub tracking_supported: Option<bool>,
    /// Disks in the order of their devices.
    pub disks: Vec<Disk>,
    /// Network adapters.
    pub adapters: Vec<Adapter>,
    /// Snapshots; the roots of their trees.
    pub snapshots: Vec<SnapshotNode>,
    /// Whether delta files are left over.
    pub consolidation_needed: bool,
    /// State of fault tolerance (`notConfigured`, `running` and others).
    pub fault_tolerance: Option<String>,
    /// Whether the VM itself is encrypted.
    pub encrypted: bool,
    /// Where it runs.
    pub host: Option<MoRef>,
    /// The folder that it lies in.
    pub parent: Option<MoRef>,
}

/// A VM that cannot be described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Its reference.
    pub moref: MoRef,
    /// Its name, where it has one.
    pub name: Option<String>,
    /// Why, in a sentence.
    pub reason: String,
}

/// Decodes one VM.
pub(super) fn decode(object: &Object<'_, '_>) -> Result<Vm, Unreadable> {
    let name = object.text("name").or_else(|| object.text("summary.config.name"));
    let name = name.map(|it| unescaped(&it));
    let unreadable =
        |reason: String| Unreadable { moref: object.moref.clone(), name: name.clone(), reason };
    let devices = object.value("config.hardware.device");
    if devices.is_none() {
        return Err(unreadable(why_no_devices(object)));
    }
    // A snapshot that is not shown must not be taken for one that is gone.
    if let Some((_, fault)) = object.missing().find(|(path, _)| path == "snapshot") {
        return Err(unreadable(format!("its snapshots cannot be read: {fault}")));
    }
    let mut disks = disk::disks_of(devices).map_err(unreadable)?;
    disk::add_used_bytes(&mut disks, object.value("layoutEx.disk"), object.value("layoutEx.file"));
    let snapshot = object.value("snapshot");
    Ok(Vm {
        moref: object.moref.clone(),
        name: name.clone().unwrap_or_else(|| object.moref.value.clone()),
        instance_uuid: object.text("config.instanceUuid"),
        template: object.flag("config.template").unwrap_or(false),
        power_state: object.text("runtime.powerState"),
        connection_state: object.text("runtime.connectionState"),
        tools: object.text("guest.toolsRunningStatus"),
        guest_id: object.text("config.guestId"),
        num_cpu: object.number("config.hardware.numCPU"),
        memory_mb: object.number("config.hardware.memoryMB"),
        hardware_version: object.text("config.version"),
        tracking_enabled: object.flag("config.changeTrackingEnabled").unwrap_or(false),
        tracking_supported: object.flag("capability.changeTrackingSupported"),
        disks,
        adapters: adapter::adapters_of(devices),
        snapshots: snapshots::trees_of(snapshot),
        consolidation_needed: object.flag("runtime.consolidationNeeded").unwrap_or(false),
        fault_tolerance: object.text("runtime.faultToleranceState"),
        encrypted: object.value("config.keyId").is_some(),
        host: object.reference("runtime.host"),
        parent: object.reference("parent").or_else(|| object.reference("parentVApp")),
    })
}

/// Says why a VM shows no devices, so that nobody takes it for one without disks.
fn why_no_devices(object: &Object<'_, '_>) -> String {
    let refused = object.missing().find(|(path, _)| path.starts_with("config"));
    if let Some((_, fault)) = refused {
        let privilege = fault.privilege.clone().unwrap_or_else(|| "System.Read".to_owned());
        return if fault.kind == "NoPermission" {
            format!("the account lacks the privilege {privilege} on it")
        } else {
            format!("its configuration cannot be read: {fault}")
        };
    }
    match object.text("runtime.connectionState").as_deref() {
        None | Some("connected") => "the server shows no configuration of it".to_owned(),
        Some(state) => format!("it is {state}, so the server does not know its configuration"),
    }
}
