//! Finds the VM that a request means; every engine needs the same answer to the same address.

use hub_domain::ids::VmContextId;
use hub_domain::vm::{VmAddress, VmContext};

use super::Catalogue;
use crate::{Classify, ErrorClass, RetryConflicts, StoreError};

/// Finds a VM by its address. A name must fit exactly one VM; an unknown id may still be somebody's name.
pub async fn find_vm(
    catalogue: &mut dyn Catalogue,
    address: &VmAddress,
) -> Result<VmContext, FindVmError> {
    let name = match address {
        VmAddress::Id(id) => match catalogue.vm(*id).await? {
            Some(vm) => return Ok(vm),
            None => id.to_string(),
        },
        VmAddress::Name(name) => name.clone(),
    };
    let mut found = catalogue.vms_named(&name).await?;
    match found.len() {
        0 => Err(FindVmError::NotFound(name)),
        1 => Ok(found.remove(0)),
        _ => {
            let candidates = found.into_iter().map(VmCandidate::of).collect();
            Err(FindVmError::Ambiguous { name, candidates })
        }
    }
}

/// One of the VMs that a name fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmCandidate {
    /// What addresses it without doubt.
    pub id: VmContextId,
    /// Its display name.
    pub name: String,
    /// Its inventory path.
    pub path: String,
    /// Its source.
    pub vcenter_host: String,
}

impl VmCandidate {
    fn of(vm: VmContext) -> Self {
        Self {
            id: vm.id,
            name: vm.facts.name,
            path: vm.facts.path,
            vcenter_host: vm.facts.vcenter_host,
        }
    }
}

/// Why no VM was found.
#[derive(Debug, thiserror::Error)]
pub enum FindVmError {
    /// None has this name or id.
    #[error("no VM {0} is under management")]
    NotFound(String),
    /// Several have this name.
    #[error("the name {name} fits {} VMs; give the vm_context_id of one", candidates.len())]
    Ambiguous {
        /// The name.
        name: String,
        /// The VMs it fits.
        candidates: Vec<VmCandidate>,
    },
    /// The catalogue failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RetryConflicts for FindVmError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_conflict())
    }
}

impl Classify for FindVmError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::NotFound(_) => ErrorClass::NotFound,
            Self::Ambiguous { .. } => ErrorClass::Conflict,
            Self::Store(error) => error.class(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "vm/not-found",
            Self::Ambiguous { .. } => "vm/ambiguous-name",
            Self::Store(error) => error.code(),
        }
    }

    fn candidates(&self) -> &[VmCandidate] {
        match self {
            Self::Ambiguous { candidates, .. } => candidates,
            Self::NotFound(_) | Self::Store(_) => &[],
        }
    }
}
