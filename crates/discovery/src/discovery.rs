//! The discovery engine: asks sources what they have, and knows what of it is under management.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hub_domain::access::{Credential, VmaNode};
use hub_domain::identity::recognise;
use hub_domain::ids::{CredentialId, VmContextId, VmaNodeId};
use hub_domain::inventory::{SeenInventory, SeenVm, is_fresh};
use hub_domain::reader_choice::{SourceName, reader_of};
use hub_domain::time::Timestamp;
use hub_domain::vm::{VmAddress, VmContext, VmFacts};
use hub_ports::store::{
    Unreadable, answering_reader, find_vm, login_through, note_source, readable, reader,
};
use hub_ports::{Clock, IdGen, InventoryQuery, SourceNode, Store};

use crate::plan::{Known, Link, Stored};
use crate::{Change, DiscoveryError};

/// Finds VMs and keeps them under management; cloning gives another handle to the same.
#[derive(Clone)]
pub struct Discovery {
    /// The catalogue.
    pub store: Arc<dyn Store>,
    /// Reaches the VMAs.
    pub source: Arc<dyn SourceNode>,
    /// Gives the time.
    pub clock: Arc<dyn Clock>,
    /// Gives ids to new VMs.
    pub ids: Arc<dyn IdGen>,
    /// How it works.
    pub options: Options,
}

/// How a discovery works.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many VMs are stored in one unit of work.
    pub chunk: usize,
    /// How long a copy waits for what its source says of its VM by now.
    pub refresh_patience: Duration,
    /// For how long what a source has said of a VM need not be asked again before its copy.
    pub fresh_for: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            chunk: 500,
            refresh_patience: Duration::from_secs(30),
            fresh_for: Duration::from_secs(5),
        }
    }
}

/// Which source a request means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceChoice {
    /// The VMA; may be left out while exactly one is registered, and where one is known to read the login's endpoint.
    pub vma_node: Option<VmaNodeId>,
    /// The login, where the source wants one.
    pub credential: Option<CredentialId>,
}

/// Asks what a source has.
#[derive(Clone, Debug, Default)]
pub struct DiscoverQuery {
    /// Which source.
    pub source: SourceChoice,
    /// Only VMs with these names; empty means all.
    pub names: Vec<String>,
}

/// What a source has, and what of it is managed.
#[derive(Clone, Debug)]
pub struct Discovered {
    /// The VMA that answered.
    pub vma_node: VmaNodeId,
    /// Its answer.
    pub inventory: SeenInventory,
    /// The VMs of it that are under management, by the source's id.
    pub managed: BTreeMap<String, VmContextId>,
    /// Stored VMs that may be some of it and cannot be read; `managed` names none of them.
    pub unreadable: Vec<Unreadable>,
}

impl Discovery {
    /// Lists a source's VMs with their disks; stores nothing.
    pub async fn discover(&self, query: &DiscoverQuery) -> Result<Discovered, DiscoveryError> {
        let (node, credential) = self.source_of(&query.source).await?;
        let asked = InventoryQuery { credential, names: query.names.clone(), ids: Vec::new() };
        let inventory = self.inventory_of(&node, &asked).await?;
        let seen: Vec<VmFacts> = inventory.vms.iter().map(|vm| vm.facts.clone()).collect();
        let known = if seen.is_empty() {
            Vec::new()
        } else {
            self.store.view().await?.vms_resembling(&seen).await?
        };
        let unreadable = known.iter().filter_map(|row| row.as_ref().err().cloned()).collect();
        let known = Known::new(readable(known), Vec::new());
        let is_managed =
            |facts: VmFacts| known.get(&facts).map(|(vm, _)| (facts.vmware_vm_id.clone(), vm.id));
        let managed = seen.into_iter().filter_map(is_managed).collect();
        Ok(Discovered { vma_node: node.id, inventory, managed, unreadable })
    }

    /// Brings one VM and its disks up to date with its source.
    pub async fn refresh(&self, vm: &VmAddress) -> Result<Stored, DiscoveryError> {
        let vm = find_vm(self.store.view().await?.as_mut(), vm).await?;
        let chosen = answering_reader(self.store.as_ref(), self.source.as_ref(), &vm, None).await?;
        let vma_node = chosen.ok().map(|it| it.node.id).or(vm.vma_node);
        let choice = SourceChoice { vma_node, credential: vm.credential };
        let (node, mut credential) = self.source_of(&choice).await?;
        if let Some(login) = credential.take() {
            let mut view = self.store.view().await?;
            credential = Some(login_through(view.as_mut(), login, &node, Some(&vm)).await?);
        }
        // What was chosen when the VM was added stays: a stand-in reads it, and does not take it over.
        let link = Link { vma_node: vm.vma_node.unwrap_or(node.id), credential: vm.credential };
        let ids = vec![vm.facts.vmware_vm_id.clone()];
        let mut query = InventoryQuery { credential, names: Vec::new(), ids };
        let same = |other: &&SeenVm| recognise(&other.facts, [&vm]).is_some();
        let mut seen = self.inventory_of(&node, &query).await?;
        if let Some(elsewhere) = other_vcenter(&node, &vm, &seen) {
            return Err(elsewhere);
        }
        let missing = !seen.vms.iter().any(|vm| same(&vm));
        if missing && seen.rejected.is_empty() && may_have_another_id(&vm.facts) {
            // It may have been registered anew, under an id that nobody has told us.
            query.ids.clear();
            seen = self.inventory_of(&node, &query).await?;
        }
        let name = vm.facts.name.clone();
        let Some(found) = seen.vms.iter().find(same) else {
            let subject = |it: &&hub_domain::inventory::RejectedVm| {
                it.subject == vm.facts.name || it.subject == vm.facts.vmware_vm_id
            };
            return Err(match seen.rejected.iter().find(subject) {
                Some(it) => DiscoveryError::VmRejected { name, detail: it.detail.clone() },
                None => {
                    let vmware_vm_id = vm.facts.vmware_vm_id.clone();
                    DiscoveryError::VmGone { name, vmware_vm_id }
                }
            });
        };
        let mut found = found.clone();
        let same_vcenter =
            vm.facts.vcenter_uuid.is_some() && found.facts.vcenter_uuid == vm.facts.vcenter_uuid;
        if vm.vma_node != Some(node.id) && same_vcenter {
            // The address that the VM's login is for; another VMA may have another one for the same vCenter.
            found.facts.vcenter_host.clone_from(&vm.facts.vcenter_host);
        }
        let stored = self.store_chunk(&[&found], link).await?;
        stored
            .first()
            .copied()
            .ok_or_else(|| hub_ports::StoreError::Internal("nothing was stored".into()).into())
    }

    /// The same before a copy of the VM begins, where its hypervisor may say something else by now: pre-flight and sizes
    /// are those of this moment then. A source that cannot be asked changes nothing, and the copy meets it itself.
    ///
    /// Whoever chooses the VMA of the copy does so after this: that one reaches another vCenter by now is noted of it,
    /// and it is no choice any more.
    /// One that was asked at `asked_at`, a moment ago, is not asked again. Returns when it was asked, if it answered.
    pub async fn refresh_before_copy(
        &self,
        vm: VmContextId,
        asked_at: Option<Timestamp>,
    ) -> Option<Timestamp> {
        let now = self.clock.now();
        if asked_at.is_some_and(|asked| is_fresh(asked, now, self.options.fresh_for)) {
            return asked_at;
        }
        let refreshed = tokio::time::timeout(self.options.refresh_patience, self.refreshed(vm));
        match refreshed.await {
            Ok(Ok(Some(change))) => {
                tracing::debug!(vm.id = %vm, change = change.word(), "what is known of a VM was refreshed");
                return Some(now);
            }
            Ok(Ok(None)) => (),
            Ok(Err(error @ DiscoveryError::OtherVcenter { .. })) => tracing::warn!(
                vm.id = %vm, error = %hub_ports::told(&error),
                "a VM is not copied through a VMA that reaches another vCenter"
            ),
            Ok(Err(error)) => tracing::info!(
                vm.id = %vm, error = %hub_ports::told(&error),
                "a copy begins with what was known of its VM before"
            ),
            Err(_) => {
                tracing::info!(vm.id = %vm, "what is known of a VM could not be refreshed in time")
            }
        }
        None
    }

    /// What the source of a VM has changed, where it was asked.
    async fn refreshed(&self, vm: VmContextId) -> Result<Option<Change>, DiscoveryError> {
        let mut view = self.store.view().await?;
        let Some(known) = view.vm(vm).await? else { return Ok(None) };
        let node = match (reader(view.as_mut(), &known).await?, known.vma_node) {
            (Ok(node), _) => Some(node),
            // Its own may reach the VM's vCenter again, which nobody else would find out.
            (Err(_), Some(own)) => view.vma_node(own).await?,
            (Err(_), None) => None,
        };
        drop(view);
        if !node.is_some_and(|it| it.takes_snapshots()) {
            return Ok(None);
        }
        Ok(Some(self.refresh(&VmAddress::Id(vm)).await?.change))
    }

    /// The VMA and the login that a request means.
    pub(crate) async fn source_of(
        &self,
        choice: &SourceChoice,
    ) -> Result<(VmaNode, Option<Credential>), DiscoveryError> {
        let mut view = self.store.view().await?;
        let credential = match choice.credential {
            Some(id) => {
                Some(view.credential(id).await?.ok_or(DiscoveryError::CredentialNotFound(id))?)
            }
            None => None,
        };
        let node = match choice.vma_node {
            Some(id) => view.vma_node(id).await?.ok_or(DiscoveryError::VmaNodeNotFound(id))?,
            None => chosen(readable(view.vma_nodes().await?), credential.as_ref())?,
        };
        // Asked before anything is done: a VM stored without its login could never be backed up (traps D3, C7).
        if credential.is_none() && node.takes_snapshots() {
            return Err(DiscoveryError::CredentialNeeded { vma: node.name });
        }
        Ok((node, credential))
    }

    /// Asks a VMA what its source has, and keeps in mind which source that is.
    pub(crate) async fn inventory_of(
        &self,
        node: &VmaNode,
        query: &InventoryQuery,
    ) -> Result<SeenInventory, DiscoveryError> {
        let seen = self.source.inventory(node, query).await?;
        if node.takes_snapshots() {
            let name = SourceName {
                host: Some(seen.vcenter_host.clone()),
                uuid: seen.vcenter_uuid.clone(),
            };
            note_source(self.store.as_ref(), node.id, &name).await?;
        }
        Ok(seen)
    }
}

/// That the vCenter which has answered is another one than the VM's; nothing where one of the two ids is not known.
fn other_vcenter(node: &VmaNode, vm: &VmContext, seen: &SeenInventory) -> Option<DiscoveryError> {
    let (known, found) = (vm.facts.vcenter_uuid.as_ref()?, seen.vcenter_uuid.as_ref()?);
    (known != found).then(|| DiscoveryError::OtherVcenter {
        vma: node.name.clone(),
        found: found.clone(),
        name: vm.facts.name.clone(),
        known: known.clone(),
    })
}

/// Whether a VM that is not there by its id may be there by another one: a list of all finds nothing new by an id that
/// stays when the VM is registered again, and costs a large vCenter minutes.
fn may_have_another_id(vm: &VmFacts) -> bool {
    let lasting = vm.instance_uuid.as_deref();
    lasting.is_some_and(|it| !it.eq_ignore_ascii_case(&vm.vmware_vm_id))
}

/// The only VMA there is, or the one that is known to read the endpoint of the login.
fn chosen(
    mut all: Vec<VmaNode>,
    credential: Option<&Credential>,
) -> Result<VmaNode, DiscoveryError> {
    if all.len() == 1 {
        return Ok(all.remove(0));
    }
    let reader = credential.and_then(|it| reader_of(&SourceName::of_login(it), &all));
    let needed = DiscoveryError::VmaNodeNeeded { registered: all.len() };
    reader.cloned().ok_or(needed)
}

#[cfg(test)]
mod tests;
