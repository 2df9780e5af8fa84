//! What a discovery sees, checked before anything is stored.

use crate::disk::DiskFacts;
use crate::vm::VmFacts;

/// The answer of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenInventory {
    /// Which source answered.
    pub vcenter_host: String,
    /// Its own id.
    pub vcenter_uuid: Option<String>,
    /// Its datacenter, or empty.
    pub datacenter: String,
    /// The VMs that can be put under management.
    pub vms: Vec<SeenVm>,
    /// What cannot, and why; one bad VM never hides the others.
    pub rejected: Vec<RejectedVm>,
}

/// One VM of a source, with its disks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenVm {
    /// The VM itself.
    pub facts: VmFacts,
    /// Its disks in the order of its controllers; no key twice.
    pub disks: Vec<DiskFacts>,
    /// Its network adapters.
    pub networks: Vec<SeenNetwork>,
    /// Hardware version (`vmx-15`).
    pub vmx_version: Option<String>,
}

/// One network adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenNetwork {
    /// Label.
    pub label: String,
    /// Port group.
    pub network_name: String,
    /// MAC address.
    pub mac_address: String,
    /// Adapter model.
    pub adapter_type: String,
}

/// A VM, or something that looked like one, that cannot be put under management.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedVm {
    /// Its name, or where it was found.
    pub subject: String,
    /// Why, and what to do.
    pub detail: String,
}
