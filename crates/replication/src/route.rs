//! How a VM is reached: its VMA, and the login of its source.

use hub_domain::access::{Credential, VmaNode};
use hub_domain::vm::VmContext;
use hub_ports::Catalogue;

use crate::error::RouteError;

/// Everything that a call about a VM needs.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// The VMA.
    pub(crate) node: VmaNode,
    /// The login, where the source wants one.
    pub(crate) credential: Option<Credential>,
    /// The source's id of the VM.
    pub(crate) vmware_vm_id: String,
}

/// Finds the way to a VM; one of an older catalogue that names no VMA is reached by the only one that is registered.
///
/// The login is looked up for each job anew, so that a changed password counts at once (trap D40).
pub(crate) async fn route_of(
    catalogue: &mut dyn Catalogue,
    vm: &VmContext,
) -> Result<Route, RouteError> {
    let node = match vm.vma_node {
        Some(id) => catalogue.vma_node(id).await?.ok_or(RouteError::VmaNodeNotFound(id))?,
        None => {
            let mut all = catalogue.vma_nodes().await?;
            if all.len() != 1 {
                let name = vm.facts.name.clone();
                return Err(RouteError::VmaNodeNeeded { name, registered: all.len() });
            }
            all.remove(0)
        }
    };
    let credential = match vm.credential {
        Some(id) => {
            Some(catalogue.credential(id).await?.ok_or(RouteError::CredentialNotFound(id))?)
        }
        None if node.source_kind == "vsphere" => {
            return Err(RouteError::CredentialNeeded { name: vm.facts.name.clone() });
        }
        None => None,
    };
    Ok(Route { node, credential, vmware_vm_id: vm.facts.vmware_vm_id.clone() })
}
