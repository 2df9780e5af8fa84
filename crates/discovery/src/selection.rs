//! Finds the VMs that a request asks for in what a source has; every name gets exactly one answer.

use std::collections::{BTreeMap, BTreeSet};

use hub_domain::identity::VmKey;
use hub_domain::inventory::{SeenInventory, SeenVm};

use crate::add_vms::{AddResult, VmFault, Wanted};

/// One thing asked for, and what it means.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    /// The name, or the id where no name is known.
    pub(crate) name: String,
    /// The source's id, where it is known.
    pub(crate) vmware_vm_id: Option<String>,
    /// The VM, or why there is none.
    pub(crate) vm: Result<&'a SeenVm, VmFault>,
}

impl Asked<'_> {
    /// The answer to it.
    pub(crate) fn answer(&self, outcome: Result<crate::Stored, VmFault>) -> AddResult {
        AddResult { vm_name: self.name.clone(), vmware_vm_id: self.vmware_vm_id.clone(), outcome }
    }
}

/// Finds what is wanted, in the order asked; no VM stands twice in the answer.
pub(crate) fn select<'a>(seen: &'a SeenInventory, wanted: &Wanted) -> Vec<Asked<'a>> {
    let twice = ids_used_twice(seen);
    let accept = |vm: &'a SeenVm| {
        let id = vm.facts.vmware_vm_id.clone();
        let is_double = twice.contains(&local(vm)) || twice.contains(&vm.facts.key());
        let vm = if is_double { Err(same_id(&id)) } else { Ok(vm) };
        (id, vm)
    };
    match wanted {
        Wanted::All => {
            let all = seen.vms.iter().map(|found| {
                let (id, vm) = accept(found);
                Asked { name: found.facts.name.clone(), vmware_vm_id: Some(id), vm }
            });
            let rejected = seen.rejected.iter().map(|it| Asked {
                name: it.subject.clone(),
                vmware_vm_id: None,
                vm: Err(rejected(&it.detail)),
            });
            all.chain(rejected).collect()
        }
        Wanted::These { names, ids } => {
            let mut answered = BTreeSet::new();
            let mut asked = Vec::new();
            for name in unique(names) {
                let found = by_name(seen, name, ids);
                let (id, vm) = match found {
                    Ok(vm) => {
                        let (id, vm) = accept(vm);
                        (Some(id), vm)
                    }
                    Err(fault) => (None, Err(fault)),
                };
                answered.extend(id.clone());
                asked.push(Asked { name: name.to_owned(), vmware_vm_id: id, vm });
            }
            for id in unique(ids).filter(|id| !answered.contains(*id)) {
                let (name, vm) = match seen.vms.iter().find(|vm| vm.facts.vmware_vm_id == id) {
                    Some(found) => (found.facts.name.clone(), accept(found).1),
                    None => (id.to_owned(), Err(absent(seen, id))),
                };
                asked.push(Asked { name, vmware_vm_id: Some(id.to_owned()), vm });
            }
            asked
        }
    }
}

fn unique(texts: &[String]) -> impl Iterator<Item = &str> {
    let mut seen = BTreeSet::new();
    texts.iter().map(|text| text.trim()).filter(move |text| seen.insert(text.to_owned()))
}

/// The one VM with a name; where there are several, the one whose id is asked for as well (trap U14).
fn by_name<'a>(seen: &'a SeenInventory, name: &str, ids: &[String]) -> Result<&'a SeenVm, VmFault> {
    let fits: Vec<&SeenVm> = seen.vms.iter().filter(|vm| vm.facts.name == name).collect();
    match fits.as_slice() {
        [] => Err(absent(seen, name)),
        [one] => Ok(one),
        several => {
            let mut picked = several.iter().filter(|vm| ids.contains(&vm.facts.vmware_vm_id));
            match (picked.next(), picked.next()) {
                (Some(one), None) => Ok(one),
                _ => Err(ambiguous(several)),
            }
        }
    }
}

fn ambiguous(vms: &[&SeenVm]) -> VmFault {
    /// How many of them are named in the answer.
    const NAMED: usize = 10;
    let named: Vec<String> = vms
        .iter()
        .take(NAMED)
        .map(|vm| format!("{} ({})", vm.facts.vmware_vm_id, vm.facts.path))
        .collect();
    VmFault::new(
        "vm/ambiguous-name",
        format!(
            "{} VMs of the source have this name: {}; pick one with vm_ids",
            vms.len(),
            named.join(", ")
        ),
    )
}

fn absent(seen: &SeenInventory, subject: &str) -> VmFault {
    match seen.rejected.iter().find(|it| it.subject == subject) {
        Some(it) => rejected(&it.detail),
        None => VmFault::new("vm/not-found", format!("the source has no VM {subject}")),
    }
}

fn rejected(detail: &str) -> VmFault {
    VmFault::new("discovery/vm-rejected", detail)
}

fn same_id(id: &str) -> VmFault {
    rejected(&format!("two VMs of the source have the id {id}; give one of them another"))
}

/// Ids and keys of several VMs: neither of these may be taken for the other (trap C19).
fn ids_used_twice(seen: &SeenInventory) -> BTreeSet<VmKey> {
    let mut counts: BTreeMap<VmKey, usize> = BTreeMap::new();
    for vm in &seen.vms {
        for key in BTreeSet::from([local(vm), vm.facts.key()]) {
            *counts.entry(key).or_default() += 1;
        }
    }
    counts.into_iter().filter(|(_, count)| *count > 1).map(|(key, _)| key).collect()
}

/// What the VM is called where it is.
fn local(vm: &SeenVm) -> VmKey {
    VmKey { source: vm.facts.vcenter_host.clone(), vm: vm.facts.vmware_vm_id.clone() }
}
