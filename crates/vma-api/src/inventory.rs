//! Discovery: the VMs of a source with their disks and networks.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Vm;

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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vcenter {
    /// Host name of a vCenter or ESXi, or the name that a folder source was given.
    pub host: String,
    /// Datacenter; empty where there is none.
    #[serde(default)]
    pub datacenter: String,
    /// The endpoint's own id (`about.instanceUuid`): it stays when the host name changes. A folder source has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_uuid: Option<String>,
}

/// Something that discovery could not list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// Where it was found: a path or a VM's name.
    pub subject: String,
    /// Why it is not listed.
    pub detail: String,
}
