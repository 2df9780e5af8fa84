//! Decides what has to be written so that a stored VM says what its source says.

use std::collections::BTreeMap;

use hub_domain::disk::{NewDisk, VmDisk};
use hub_domain::disk_sync::{DiskSync, plan_disk_sync};
use hub_domain::identity::{VmKey, recognise};
use hub_domain::ids::{CredentialId, VmContextId, VmaNodeId};
use hub_domain::inventory::SeenVm;
use hub_domain::time::Timestamp;
use hub_domain::vm::{ContextStatus, VmContext, VmFacts};

/// What one VM needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VmPlan {
    /// The VM as it shall be.
    pub(crate) vm: VmContext,
    /// Whether there is no row of it yet.
    pub(crate) is_new: bool,
    /// Whether the row has to be written.
    pub(crate) vm_changed: bool,
    /// What its disks need.
    pub(crate) disks: DiskSync,
    /// How many disks the source has.
    pub(crate) seen_disks: usize,
}

/// A VM as it is stored now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Which VM.
    pub id: VmContextId,
    /// What happened to it.
    pub change: Change,
    /// Its present disks.
    pub disks: usize,
}

/// What adding or refreshing did to a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// It was not under management before.
    Added,
    /// It, or a disk of it, has changed.
    Updated,
    /// Nothing was written.
    Unchanged,
}

impl Change {
    /// The word for it on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
        }
    }
}

/// How a VM is reached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) vma_node: VmaNodeId,
    pub(crate) credential: Option<CredentialId>,
}

impl VmPlan {
    /// What carrying out the plan does.
    pub(crate) fn stored(&self) -> Stored {
        let change = if self.is_new {
            Change::Added
        } else if self.vm_changed || !self.disks.is_empty() {
            Change::Updated
        } else {
            Change::Unchanged
        };
        Stored { id: self.vm.id, change, disks: self.seen_disks }
    }
}

/// Plans one VM; `fresh` is the id that it gets when it is new.
pub(crate) fn plan_vm(
    seen: &SeenVm,
    known: Option<(&VmContext, &[VmDisk])>,
    link: Link,
    fresh: impl FnOnce() -> VmContextId,
    at: Timestamp,
) -> VmPlan {
    let seen_disks = seen.disks.len();
    let Some((old, disks)) = known else {
        let vm = VmContext {
            id: fresh(),
            facts: seen.facts.clone(),
            facts_at: Some(at),
            status: ContextStatus::Discovered,
            credential: link.credential,
            vma_node: Some(link.vma_node),
            created_at: at,
            updated_at: at,
        };
        let disks = plan_disk_sync(vm.id, &[], &seen.disks, at);
        return VmPlan { vm, is_new: true, vm_changed: true, disks, seen_disks };
    };
    let disks = plan_disk_sync(old.id, disks, &seen.disks, at);
    let facts = merge(&seen.facts, &old.facts);
    let said_something = facts != old.facts || !disks.is_empty() || old.facts_at.is_none();
    let merged = VmContext {
        facts,
        facts_at: if said_something { Some(at) } else { old.facts_at },
        credential: link.credential.or(old.credential),
        vma_node: Some(link.vma_node),
        ..old.clone()
    };
    let vm_changed = merged != *old;
    let vm = if vm_changed { VmContext { updated_at: at, ..merged } } else { merged };
    VmPlan { vm, is_new: false, vm_changed, disks, seen_disks }
}

/// What a source leaves out, it does not deny: the fact that is known stays.
fn merge(seen: &VmFacts, old: &VmFacts) -> VmFacts {
    let conditions = if seen.conditions.is_unsaid() { &old.conditions } else { &seen.conditions };
    let facts = VmFacts {
        conditions: conditions.clone(),
        moref: seen.moref.clone().or_else(|| old.moref.clone()),
        cpu_count: seen.cpu_count.or(old.cpu_count),
        memory_mb: seen.memory_mb.or(old.memory_mb),
        os_type: seen.os_type.clone().or_else(|| old.os_type.clone()),
        power_state: seen.power_state.clone().or_else(|| old.power_state.clone()),
        ..seen.clone()
    };
    facts.with_known_ids(old)
}

/// The writes of a batch, by table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Writes {
    pub(crate) new_vms: Vec<VmContext>,
    pub(crate) changed_vms: Vec<VmContext>,
    pub(crate) new_disks: Vec<NewDisk>,
    pub(crate) changed_disks: Vec<VmDisk>,
}

impl Writes {
    /// Puts the writes of plans together.
    pub(crate) fn of(plans: &[VmPlan]) -> Self {
        let mut writes = Self::default();
        for plan in plans {
            if plan.is_new {
                writes.new_vms.push(plan.vm.clone());
            } else if plan.vm_changed {
                writes.changed_vms.push(plan.vm.clone());
            }
            writes.new_disks.extend(plan.disks.add.iter().cloned());
            writes.changed_disks.extend(plan.disks.changed());
        }
        writes
    }
}

/// The known VMs that may be seen ones, with their disks.
#[derive(Debug, Default)]
pub(crate) struct Known {
    vms: Vec<(VmContext, Vec<VmDisk>)>,
    by_key: BTreeMap<VmKey, usize>,
    by_place: BTreeMap<(String, String), Vec<usize>>,
}

impl Known {
    /// Brings VMs and disks together.
    pub(crate) fn new(vms: Vec<VmContext>, disks: Vec<VmDisk>) -> Self {
        let mut by_vm: BTreeMap<VmContextId, Vec<VmDisk>> = BTreeMap::new();
        for disk in disks {
            by_vm.entry(disk.vm).or_default().push(disk);
        }
        let mut known = Self::default();
        for (number, vm) in vms.into_iter().enumerate() {
            known.by_key.insert(vm.facts.key(), number);
            known.by_place.entry(place(&vm.facts)).or_default().push(number);
            let disks = by_vm.remove(&vm.id).unwrap_or_default();
            known.vms.push((vm, disks));
        }
        known
    }

    /// Whether what a VM shall be known by is what another one is known by.
    pub(crate) fn is_another(&self, vm: &VmContext) -> bool {
        let known = self.by_key.get(&vm.facts.key()).and_then(|number| self.vms.get(*number));
        known.is_some_and(|(known, _)| known.id != vm.id)
    }

    /// The VM that a seen one is.
    pub(crate) fn get(&self, seen: &VmFacts) -> Option<(&VmContext, &[VmDisk])> {
        let by_key = self.by_key.get(&seen.key());
        let by_place = self.by_place.get(&place(seen)).into_iter().flatten();
        let mut numbers: Vec<usize> = by_key.into_iter().chain(by_place).copied().collect();
        numbers.sort_unstable();
        numbers.dedup();
        let candidates = || numbers.iter().filter_map(|number| self.vms.get(*number));
        let found = recognise(seen, candidates().map(|(vm, _)| vm))?.id;
        candidates().find(|(vm, _)| vm.id == found).map(|(vm, disks)| (vm, disks.as_slice()))
    }
}

/// Where a source has a VM, and under which id.
fn place(facts: &VmFacts) -> (String, String) {
    (facts.vcenter_host.clone(), facts.vmware_vm_id.clone())
}

#[cfg(test)]
mod tests {
    use hub_testkit::fixtures;
    use uuid::Uuid;

    use super::*;

    fn link() -> Link {
        Link { vma_node: VmaNodeId::from_uuid(Uuid::from_u128(1)), credential: None }
    }

    fn fresh() -> VmContextId {
        VmContextId::from_uuid(Uuid::from_u128(7))
    }

    fn stored(seen: &SeenVm) -> VmContext {
        plan_vm(seen, None, link(), fresh, Timestamp::UNIX_EPOCH).vm
    }

    #[test]
    fn trap_d1_a_new_vm_comes_with_its_disks() {
        let seen = fixtures::pgtest1().unwrap();
        let plan = plan_vm(&seen, None, link(), fresh, Timestamp::UNIX_EPOCH);
        assert_eq!(plan.stored(), Stored { id: fresh(), change: Change::Added, disks: 2 });
        assert_eq!(plan.disks.add.len(), 2);
        assert_eq!(plan.vm.status, ContextStatus::Discovered);
    }

    #[test]
    fn trap_c21_a_stored_vm_without_disks_gets_them() {
        let seen = fixtures::pgtest1().unwrap();
        let vm = stored(&seen);
        let plan = plan_vm(&seen, Some((&vm, &[])), link(), fresh, Timestamp::UNIX_EPOCH);
        assert_eq!(plan.stored().change, Change::Updated);
        assert_eq!(plan.disks.add.len(), 2);
    }

    #[test]
    fn an_absent_fact_is_not_a_change() {
        let seen = fixtures::pgtest1().unwrap();
        let vm = stored(&seen);
        let mut terse = seen;
        terse.facts.cpu_count = None;
        terse.facts.os_type = None;
        let plan = plan_vm(&terse, Some((&vm, &[])), link(), fresh, Timestamp::UNIX_EPOCH);
        assert!(!plan.vm_changed);
    }

    #[test]
    fn trap_d3_the_login_of_a_vm_is_not_lost_by_adding_it_again_without_one() {
        let seen = fixtures::pgtest1().unwrap();
        let credential = Some(CredentialId::from_uuid(Uuid::from_u128(5)));
        let vm = VmContext { credential, ..stored(&seen) };
        let plan = plan_vm(&seen, Some((&vm, &[])), link(), fresh, Timestamp::UNIX_EPOCH);
        assert_eq!(plan.vm.credential, credential);
    }
}
