//! One VM of an inventory, with what a hypervisor says of it that a backup has to know.
//!
//! Everything but ids, name and capacities may be absent: a source says what it knows, and absent means "not said",
//! never "no". Words stay text, so that a word that came later hides no VM.

use serde::{Deserialize, Serialize};

/// One VM as its source describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vm {
    /// The source's own id, stable over renames; what every other call names the VM by.
    pub id: String,
    /// Display name; not unique.
    pub name: String,
    /// Inventory path (`/DC1/vm/pgtest1`).
    #[serde(default)]
    pub path: String,
    /// `poweredOn`, `poweredOff` or `suspended`.
    #[serde(default)]
    pub power_state: Option<String>,
    /// Guest identifier (`ubuntu64Guest`), or just `windows` or `linux`.
    #[serde(default)]
    pub guest_os: Option<String>,
    /// Virtual processors.
    #[serde(default)]
    pub num_cpu: Option<u32>,
    /// Memory in MiB.
    #[serde(default)]
    pub memory_mb: Option<u64>,
    /// Hardware version (`vmx-15`).
    #[serde(default)]
    pub vmx_version: Option<String>,
    /// The VM's own id in its vCenter (`config.instanceUuid`): it stays when the VM is renamed, moved or registered
    /// anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_uuid: Option<String>,
    /// Reference of the managed object (`vm-57`): unique in one vCenter, another one after the VM is registered anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moref: Option<String>,
    /// Its datacenter, where it is not that of [`Vcenter::datacenter`](crate::Vcenter::datacenter).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datacenter: Option<String>,
    /// Whether it is a template, which has no power and takes no snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<bool>,
    /// Every snapshot that it has, the tree flattened, parents before their children. Absent when the source does not
    /// say; empty when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshots: Option<Vec<VmSnapshot>>,
    /// Whether its changed blocks can be, and are, tracked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change_tracking: Option<ChangeTracking>,
    /// Whether deltas of removed snapshots still wait to be merged (`runtime.consolidationNeeded`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consolidation_needed: Option<bool>,
    /// Whether the VM is encrypted (it has a `config.keyId`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encrypted: Option<bool>,
    /// State of fault tolerance (`runtime.faultToleranceState`: `notConfigured`, `disabled`, `enabled`, `needSecondary`,
    /// `starting`, `running`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault_tolerance: Option<String>,
    /// Whether its host answers for it (`runtime.connectionState`: `connected`, `disconnected`, `inaccessible`,
    /// `invalid`, `orphaned`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
    /// State of the guest's tools (`guest.toolsRunningStatus`: `guestToolsRunning`, `guestToolsNotRunning`,
    /// `guestToolsExecutingScripts`), without which a guest is not brought to rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<String>,
    /// Whether the VMA brings guests to rest for a snapshot, where its order does not say otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiesced: Option<bool>,
    /// Whether the reader that the VMA would take reads disks that stand on snapshots of others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reads_snapshots: Option<bool>,
    /// Why that reader cannot begin with the VM at all, in a clause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// Its disks, in the order of its controllers.
    #[serde(default)]
    pub disks: Vec<VmDisk>,
    /// Its network adapters.
    #[serde(default)]
    pub networks: Vec<VmNetwork>,
}

/// One snapshot of a VM's tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmSnapshot {
    /// Reference of the managed object (`snapshot-70`).
    pub id: String,
    /// Name; ours carry the id of their job.
    #[serde(default)]
    pub name: String,
    /// When it was taken, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The snapshot that it stands on; none at a root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Whether the guest's file systems were quiesced for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiesced: Option<bool>,
}

/// What the name of every snapshot begins with that a VMA takes; the id of its job follows, or a digest of it.
pub const JOB_SNAPSHOT: &str = "sendense-hub job ";

/// Whether a snapshot of this name is one that a VMA takes for a job.
pub fn is_name_of_a_job(name: &str) -> bool {
    let plain = |it: char| it.is_ascii_alphanumeric() || matches!(it, '-' | '_' | '.');
    let job = name.strip_prefix(JOB_SNAPSHOT);
    job.is_some_and(|it| (1..=60).contains(&it.len()) && it.chars().all(plain))
}

/// Changed block tracking of a VM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeTracking {
    /// Whether its hardware and host can (`capability.changeTrackingSupported`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supported: Option<bool>,
    /// Whether it is switched on (`config.changeTrackingEnabled`). It is active for a disk only when the disk has a
    /// change id, too ([`VmDisk::has_change_id`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// One disk of a VM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmDisk {
    /// The hypervisor's own id, unique within the VM (`disk-2000`).
    pub id: String,
    /// Label (`Hard disk 1`).
    #[serde(default)]
    pub label: String,
    /// Datastore path (`[datastore1] pgtest1/pgtest1.vmdk`).
    #[serde(default)]
    pub path: String,
    /// Capacity in GiB, rounded: for people. The truth is `capacity_bytes`.
    #[serde(default)]
    pub size_gb: u64,
    /// Capacity in bytes; 0 is refused by the hub.
    pub capacity_bytes: u64,
    /// Datastore name.
    #[serde(default)]
    pub datastore: String,
    /// `thin`, `thick` or `eagerZeroedThick`.
    #[serde(default)]
    pub provisioning_type: Option<String>,
    /// Unit on its controller.
    #[serde(default)]
    pub unit_number: Option<u32>,
    /// Bus, as in `scsi0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bus: Option<String>,
    /// The hypervisor's number of the device (2000); it is one disk's in one VM at one time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_key: Option<i32>,
    /// Kind of its controller (`scsi`, `sata`, `ide`, `nvme`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<String>,
    /// Number of that controller among those of its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bus_number: Option<u32>,
    /// Id of the disk behind the device (`backing.uuid`): what tells a moved disk from another one under its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backing_uuid: Option<String>,
    /// `persistent`, `nonpersistent`, `undoable`, `append`, `independent_persistent` or `independent_nonpersistent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// How it is shared with other VMs: `none`, `multi_writer`, or the sharing of its controller's bus, `virtual_bus` or
    /// `physical_bus`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sharing: Option<String>,
    /// Bytes that it takes on its datastore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_bytes: Option<u64>,
    /// Raw device mapping: `physical`, `virtual` or `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rdm: Option<String>,
    /// Whether its backing carries a change id, so that changed blocks can be asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub has_change_id: Option<bool>,
    /// Kind of its file: `flat`, `sparse`, `se_sparse`, `raw`, or the hypervisor's name of a later kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// Kind of its datastore (`summary.type`: `VMFS`, `NFS`, `NFS41`, `vsan`, `VVOL`), where the account sees it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datastore_type: Option<String>,
    /// How the VMA would read it (`vddk`, `https`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reader: Option<String>,
    /// Why it cannot be read so, in a clause. A disk that no reader reads, such as an independent one, is told by its
    /// other fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
}

/// One network adapter of a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmNetwork {
    /// Label (`Network adapter 1`).
    #[serde(default)]
    pub label: String,
    /// Port group.
    #[serde(default)]
    pub network_name: String,
    /// MAC address.
    #[serde(default)]
    pub mac_address: String,
    /// Adapter model (`vmxnet3`).
    #[serde(default)]
    pub adapter_type: String,
}
