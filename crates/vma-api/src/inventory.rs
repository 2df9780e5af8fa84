//! Discovery: the VMs of a source with their disks and networks.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The body of `POST /api/v1/discover`; credentials never travel in a URL.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscoverRequest {
    /// How to log in, for a source that wants it; a datastore folder does not.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,
    /// Only VMs of this datacenter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datacenter: Option<String>,
    /// Only these VMs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<DiscoverFilter>,
}

/// How to log in to a vCenter or an ESXi host.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// Host name or address of the endpoint.
    pub vcenter: String,
    /// Account name.
    pub username: String,
    /// Its password; never printed.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Credentials")
            .field("vcenter", &self.vcenter)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// Narrows a discovery to VMs that match any of its lists; empty lists match everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscoverFilter {
    /// Exact names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// The source's own ids ([`Vm::id`]).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<String>,
}

/// The answer of a discovery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// Which source answered.
    pub vcenter: Vcenter,
    /// Its VMs.
    pub vms: Vec<Vm>,
    /// What could not be listed, and why; such VMs are not in `vms`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
}

/// Names a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vcenter {
    /// Host name of a vCenter or ESXi, or the name that a folder source was given.
    pub host: String,
    /// Datacenter; empty where there is none.
    #[serde(default)]
    pub datacenter: String,
}

/// One VM as its source describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vm {
    /// The source's own id, stable over renames.
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
    /// Its disks, in the order of its controllers.
    #[serde(default)]
    pub disks: Vec<VmDisk>,
    /// Its network adapters.
    #[serde(default)]
    pub networks: Vec<VmNetwork>,
}

/// One disk of a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// Something that discovery could not list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// Where it was found: a path or a VM's name.
    pub subject: String,
    /// Why it is not listed.
    pub detail: String,
}
