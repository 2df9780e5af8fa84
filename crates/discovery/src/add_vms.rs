//! Puts VMs under management with their disks, and tells for each VM how it went.

use std::collections::BTreeMap;

use hub_domain::inventory::SeenVm;
use hub_ports::{Classify, InventoryQuery, StoreError, told};

use crate::plan::{Link, Stored};
use crate::selection::select;
use crate::{Change, Discovery, DiscoveryError, SourceChoice};

/// Asks for VMs to be put under management.
#[derive(Clone, Debug)]
pub struct AddVms {
    /// Where they are.
    pub source: SourceChoice,
    /// Which.
    pub wanted: Wanted,
}

/// Which VMs of a source.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// Every one that it has.
    All,
    /// These; an id also picks one of several VMs with an asked name.
    These {
        /// Display names.
        names: Vec<String>,
        /// The source's ids.
        ids: Vec<String>,
    },
}

impl Wanted {
    /// What has to be asked of the source, as it is looked for in the answer; names and ids together need the whole list.
    fn query(&self) -> (Vec<String>, Vec<String>) {
        let plain = |texts: &[String]| texts.iter().map(|text| text.trim().to_owned()).collect();
        match self {
            Self::All => (Vec::new(), Vec::new()),
            Self::These { names, ids } if names.is_empty() || ids.is_empty() => {
                (plain(names), plain(ids))
            }
            Self::These { .. } => (Vec::new(), Vec::new()),
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self, Self::These { names, ids } if names.is_empty() && ids.is_empty())
    }
}

/// How adding went; every name asked for stands in it once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddReport {
    /// One answer per VM, in the order asked.
    pub results: Vec<AddResult>,
}

impl AddReport {
    /// How many VMs ended so.
    pub fn count(&self, change: Change) -> usize {
        let ended = |result: &&AddResult| {
            result.outcome.as_ref().is_ok_and(|stored| stored.change == change)
        };
        self.results.iter().filter(ended).count()
    }

    /// How many VMs could not be added.
    pub fn failed(&self) -> usize {
        self.results.iter().filter(|result| result.outcome.is_err()).count()
    }
}

/// How adding went for one VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddResult {
    /// The name asked for; the id where only that is known.
    pub vm_name: String,
    /// The source's id, where it is known.
    pub vmware_vm_id: Option<String>,
    /// What is stored now, or why nothing is.
    pub outcome: Result<Stored, VmFault>,
}

/// Why one VM could not be added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct VmFault {
    /// Stable code.
    pub code: &'static str,
    /// What happened and what to do.
    pub detail: String,
}

impl VmFault {
    pub(crate) fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }

    fn of_store(error: &StoreError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl Discovery {
    /// Puts VMs under management, or brings those that are up to date; the source is asked once, before anything is
    /// stored. Dropping the future leaves whole VMs behind, never a VM without its disks.
    pub async fn add_vms(&self, request: &AddVms) -> Result<AddReport, DiscoveryError> {
        if request.wanted.is_empty() {
            return Err(DiscoveryError::NothingAsked);
        }
        let (node, credential) = self.source_of(&request.source).await?;
        let link =
            Link { vma_node: node.id, credential: credential.as_ref().map(|login| login.id) };
        let (names, ids) = request.wanted.query();
        let query = InventoryQuery { credential, names, ids };
        let seen = self.inventory_of(&node, &query).await?;
        let asked = select(&seen, &request.wanted);
        let vms: Vec<&SeenVm> =
            asked.iter().filter_map(|it| it.vm.as_ref().ok().copied()).collect();
        let mut stored = BTreeMap::new();
        for chunk in vms.chunks(self.options.chunk.max(1)) {
            for (vm, outcome) in chunk.iter().zip(self.store_chunk_or_each(chunk, link).await) {
                stored.insert(vm.facts.vmware_vm_id.as_str(), outcome);
            }
        }
        let answer = |asked: &crate::selection::Asked<'_>| match &asked.vm {
            Err(fault) => asked.answer(Err(fault.clone())),
            Ok(vm) => {
                let missing = || Err(VmFault::new("store/internal", "the VM was not stored"));
                let outcome = stored.get(vm.facts.vmware_vm_id.as_str()).cloned();
                asked.answer(outcome.unwrap_or_else(missing))
            }
        };
        Ok(AddReport { results: asked.iter().map(answer).collect() })
    }

    /// Stores a chunk in one unit; where that fails, each VM alone, so that one cannot stop the others.
    async fn store_chunk_or_each(
        &self,
        chunk: &[&SeenVm],
        link: Link,
    ) -> Vec<Result<Stored, VmFault>> {
        let error = match self.store_chunk(chunk, link).await {
            Ok(stored) => return stored.into_iter().map(Ok).collect(),
            Err(error) => error,
        };
        tracing::warn!(error = %told(&error), vms = chunk.len(), "a batch of VMs could not be stored at once");
        if chunk.len() == 1 || matches!(error, StoreError::Unavailable(_)) {
            return chunk.iter().map(|_| Err(VmFault::of_store(&error))).collect();
        }
        let mut outcomes = Vec::with_capacity(chunk.len());
        let mut away = None;
        for vm in chunk {
            // A database that is away is waited for once, not once per VM.
            if let Some(fault) = &away {
                outcomes.push(Err(VmFault::clone(fault)));
                continue;
            }
            let alone = self.store_chunk(&[vm], link).await;
            if let Err(error @ StoreError::Unavailable(_)) = &alone {
                away = Some(VmFault::of_store(error));
            }
            outcomes.push(match alone.as_deref() {
                Ok([stored]) => Ok(*stored),
                Ok(_) => Err(VmFault::new("store/internal", "the VM was not stored")),
                Err(error) => Err(VmFault::of_store(error)),
            });
        }
        outcomes
    }
}

#[cfg(test)]
mod identity;
#[cfg(test)]
mod meeting;
#[cfg(test)]
pub(crate) mod tests;
