//! Why a discovery as a whole fails; what fails for one VM is told for that VM.

use hub_domain::fault::Fault;
use hub_domain::ids::{CredentialId, VmaNodeId};
use hub_ports::store::{FindVmError, VmCandidate};
use hub_ports::{Classify, ErrorClass, SourceError, StoreError};

/// Why a source cannot be asked, or a VM not refreshed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiscoveryError {
    /// There is not exactly one VMA to choose.
    #[error("{registered} VMAs are registered; say which one with vma_node_id")]
    VmaNodeNeeded {
        /// How many there are.
        registered: usize,
    },
    /// The request names a VMA that is not registered.
    #[error("no VMA {0} is registered")]
    VmaNodeNotFound(VmaNodeId),
    /// The source wants a login and the request has none.
    #[error("VMA {vma} reads a vSphere endpoint, which wants a login; give a credential_id")]
    CredentialNeeded {
        /// The VMA's name.
        vma: String,
    },
    /// The request names a credential that does not exist.
    #[error("no credential {0} exists")]
    CredentialNotFound(CredentialId),
    /// The request names no VM.
    #[error("the request names no VM; give vm_names, vm_ids, or all")]
    NothingAsked,
    /// The VM to be refreshed is not where it was.
    #[error("the source has no VM {name} with id {vmware_vm_id} any more")]
    VmGone {
        /// Its name.
        name: String,
        /// The source's id of it.
        vmware_vm_id: String,
    },
    /// The VMA reaches another vCenter than the VM's, which may have a VM of the same id.
    #[error(
        "VMA {vma} reaches the vCenter {found}, and the VM {name} is of the vCenter {known}; let it reach that one again, or add the VM again"
    )]
    OtherVcenter {
        /// The VMA's name.
        vma: String,
        /// The id of the vCenter that answered.
        found: String,
        /// The VM's name.
        name: String,
        /// The id of the VM's vCenter.
        known: String,
    },
    /// The source has it, and it cannot be managed as it is now.
    #[error("the source's VM {name} cannot be managed: {detail}")]
    VmRejected {
        /// Its name.
        name: String,
        /// Why.
        detail: String,
    },
    /// The VM to be refreshed is not known.
    #[error(transparent)]
    FindVm(#[from] FindVmError),
    /// The VMA failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The catalogue failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Classify for DiscoveryError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::VmaNodeNeeded { .. } | Self::CredentialNeeded { .. } | Self::NothingAsked => {
                ErrorClass::Invalid
            }
            Self::VmaNodeNotFound(_) | Self::CredentialNotFound(_) => ErrorClass::NotFound,
            Self::VmGone { .. } | Self::OtherVcenter { .. } | Self::VmRejected { .. } => {
                ErrorClass::Conflict
            }
            Self::FindVm(error) => error.class(),
            Self::Source(error) => error.class(),
            Self::Store(error) => error.class(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::VmaNodeNeeded { .. } => "discovery/vma-node-needed",
            Self::VmaNodeNotFound(_) => "vma/not-found",
            Self::CredentialNeeded { .. } => "discovery/credential-needed",
            Self::CredentialNotFound(_) => "credential/not-found",
            Self::NothingAsked => "discovery/nothing-asked",
            Self::VmGone { .. } => "discovery/vm-gone",
            Self::OtherVcenter { .. } => Fault::OTHER_VCENTER,
            Self::VmRejected { .. } => "discovery/vm-rejected",
            Self::FindVm(error) => error.code(),
            Self::Source(error) => error.code(),
            Self::Store(error) => error.code(),
        }
    }

    fn candidates(&self) -> &[VmCandidate] {
        if let Self::FindVm(error) = self { error.candidates() } else { &[] }
    }
}
