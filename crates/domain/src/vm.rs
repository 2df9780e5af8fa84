//! VM contexts: VMs under management.

use crate::conditions::VmConditions;
use crate::ids::{CredentialId, VmContextId, VmaNodeId};
use crate::time::Timestamp;

/// A VM under management.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmContext {
    /// Ours; it survives renames and moves.
    pub id: VmContextId,
    /// What the source said last.
    pub facts: VmFacts,
    /// When the source last said something else about it or its disks; not known of VMs from before this was kept.
    pub facts_at: Option<Timestamp>,
    /// Where it stands.
    pub status: ContextStatus,
    /// The login that its source wants; a datastore folder wants none.
    pub credential: Option<CredentialId>,
    /// The VMA that reaches it.
    pub vma_node: Option<VmaNodeId>,
    /// When it was put under management.
    pub created_at: Timestamp,
    /// When anything of it changed last; a refresh that finds no change does not touch it.
    pub updated_at: Timestamp,
}

/// What a source says about a VM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VmFacts {
    /// Display name: a label, not an identity.
    pub name: String,
    /// The source's own id: what it is asked for by.
    pub vmware_vm_id: String,
    /// The VM's own id in its vCenter, which it keeps.
    pub instance_uuid: Option<String>,
    /// Reference of the managed object; another one after the VM is registered anew.
    pub moref: Option<String>,
    /// Inventory path.
    pub path: String,
    /// Which source.
    pub vcenter_host: String,
    /// The source's own id, which it keeps under another host name.
    pub vcenter_uuid: Option<String>,
    /// Datacenter, or empty.
    pub datacenter: String,
    /// Virtual processors.
    pub cpu_count: Option<u32>,
    /// Memory in MiB.
    pub memory_mb: Option<u32>,
    /// Guest identifier.
    pub os_type: Option<String>,
    /// `poweredOn`, `poweredOff`, `suspended`.
    pub power_state: Option<String>,
    /// What decides how it can be backed up.
    pub conditions: VmConditions,
}

/// Where a VM stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContextStatus {
    /// Known with its disks; nothing copied yet.
    Discovered,
    /// A replication is copying.
    Replicating,
    /// A replica of every disk is complete.
    ReadyForFailover,
}

impl ContextStatus {
    /// All of them, for tables and checks.
    pub const ALL: [Self; 3] = [Self::Discovered, Self::Replicating, Self::ReadyForFailover];

    /// The word for it in the catalogue and on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Discovered => "discovered",
            Self::Replicating => "replicating",
            Self::ReadyForFailover => "ready_for_failover",
        }
    }

    /// The status of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.word() == word)
    }
}

/// How a request names a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VmAddress {
    /// By our id.
    Id(VmContextId),
    /// By display name, which may fit several VMs.
    Name(String),
}

impl VmAddress {
    /// A text that is an id addresses by id; anything else is a name.
    pub fn parse(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Name(text.trim().to_owned()), Self::Id)
    }
}
