//! What a VM is known by, whatever its name, its place and the name of its vCenter become.

use crate::vm::{VmContext, VmFacts};

/// The key of a VM: the ids of its vCenter and of itself where both are known, else host and id at that host.
///
/// Two stored VMs never have the same one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VmKey {
    /// The vCenter's instance UUID, or its host name.
    pub source: String,
    /// The VM's instance UUID, or the source's id of it.
    pub vm: String,
}

impl VmFacts {
    /// What the VM is known by.
    pub fn key(&self) -> VmKey {
        match (&self.vcenter_uuid, &self.instance_uuid) {
            (Some(source), Some(vm)) => VmKey { source: source.clone(), vm: vm.clone() },
            _ => self.local_key(),
        }
    }

    /// These facts with the ids that are known of the VM and that they do not name themselves.
    ///
    /// Ids that are known as a pair stay one; of a host, which has none of its own, the VM's alone is kept.
    #[must_use]
    pub fn with_known_ids(self, known: &Self) -> Self {
        let names_both =
            |facts: &Self| facts.vcenter_uuid.is_some() && facts.instance_uuid.is_some();
        if names_both(&self) {
            return self;
        }
        let pair = names_both(known);
        let kept = |own: &Option<String>, known: &Option<String>| {
            known.as_ref().filter(|_| pair || own.is_none()).or(own.as_ref()).cloned()
        };
        let vcenter_uuid = kept(&self.vcenter_uuid, &known.vcenter_uuid);
        let instance_uuid = kept(&self.instance_uuid, &known.instance_uuid);
        Self { vcenter_uuid, instance_uuid, ..self }
    }

    /// What a source that knows no instance UUIDs calls it.
    fn local_key(&self) -> VmKey {
        VmKey { source: self.vcenter_host.clone(), vm: self.vmware_vm_id.clone() }
    }
}

/// Finds the stored VM that a seen one is; none when it is a new one.
///
/// By its key first: a rename, a move, a registration under a new reference and a vCenter under another name change
/// nothing. A VM whose UUIDs are known on one side only is the one of the same id at the same host, as long as there is
/// but one such and nothing speaks against it: two vCenters use the same references (traps C19, U15).
pub fn recognise<'a>(
    seen: &VmFacts,
    stored: impl IntoIterator<Item = &'a VmContext>,
) -> Option<&'a VmContext> {
    let mut local = Vec::new();
    // Also under one key: where the vCenter has no id of its own, it gives the reference of a VM that is gone to another.
    for vm in stored.into_iter().filter(|vm| may_be(&vm.facts, seen)) {
        if vm.facts.key() == seen.key() {
            return Some(vm);
        }
        if vm.facts.local_key() == seen.local_key() {
            local.push(vm);
        }
    }
    if let [only] = local.as_slice() { Some(only) } else { None }
}

/// Whether no id that both know says that they are two.
fn may_be(one: &VmFacts, other: &VmFacts) -> bool {
    let agree = |one: &Option<String>, other: &Option<String>| {
        one.is_none() || other.is_none() || one == other
    };
    agree(&one.vcenter_uuid, &other.vcenter_uuid) && agree(&one.instance_uuid, &other.instance_uuid)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::ids::VmContextId;
    use crate::time::Timestamp;
    use crate::vm::ContextStatus;

    fn facts(host: &str, id: &str, uuids: Option<(&str, &str)>) -> VmFacts {
        VmFacts {
            name: "vm".to_owned(),
            vmware_vm_id: id.to_owned(),
            vcenter_host: host.to_owned(),
            vcenter_uuid: uuids.map(|it| it.0.to_owned()),
            instance_uuid: uuids.map(|it| it.1.to_owned()),
            ..VmFacts::default()
        }
    }

    fn stored(number: u128, facts: VmFacts) -> VmContext {
        VmContext {
            id: VmContextId::from_uuid(Uuid::from_u128(number)),
            facts,
            facts_at: None,
            status: ContextStatus::Discovered,
            credential: None,
            vma_node: None,
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn is(seen: &VmFacts, all: &[VmContext]) -> Option<u128> {
        recognise(seen, all).map(|vm| vm.id.as_uuid().as_u128())
    }

    #[test]
    fn trap_u14_a_renamed_moved_and_registered_anew_vm_is_the_same() {
        let known = [stored(1, facts("vc", "vm-57", Some(("vc-1", "5015"))))];
        let mut moved = facts("10.0.0.5", "vm-99", Some(("vc-1", "5015")));
        moved.name = "renamed".to_owned();
        moved.path = "/DC2/vm/elsewhere".to_owned();
        assert_eq!(is(&moved, &known), Some(1));
    }

    #[test]
    fn trap_u15_the_same_reference_in_another_vcenter_is_another_vm() {
        let known = [stored(1, facts("vc", "vm-57", Some(("vc-1", "5015"))))];
        assert_eq!(is(&facts("vc2", "vm-57", Some(("vc-2", "5016"))), &known), None);
        // A vCenter that was installed anew under the old name counts its references from the start.
        assert_eq!(is(&facts("vc", "vm-57", Some(("vc-2", "5016"))), &known), None);
        assert_eq!(is(&facts("vc", "vm-57", Some(("vc-1", "5016"))), &known), None);
    }

    #[test]
    fn trap_u15_a_host_that_gives_a_reference_again_means_another_vm() {
        let of_host = |instance: &str| VmFacts {
            instance_uuid: Some(instance.to_owned()),
            ..facts("esx", "12", None)
        };
        let known = [stored(1, of_host("5015"))];
        assert_eq!(is(&of_host("5015"), &known), Some(1));
        assert_eq!(is(&of_host("5016"), &known), None);
    }

    #[test]
    fn ids_that_come_later_are_adopted_and_those_that_go_again_lose_nothing() {
        let legacy = [stored(1, facts("vc", "vm-57", None))];
        assert_eq!(is(&facts("vc", "vm-57", Some(("vc-1", "5015"))), &legacy), Some(1));
        let modern = [stored(1, facts("vc", "vm-57", Some(("vc-1", "5015"))))];
        assert_eq!(is(&facts("vc", "vm-57", None), &modern), Some(1));
        assert_eq!(is(&facts("other", "vm-57", None), &modern), None);
    }

    #[test]
    fn trap_u15_what_is_known_of_a_vm_alone_is_kept_when_its_source_says_less() {
        // A host has no id of its own, and its VMs have theirs.
        let of_host =
            VmFacts { instance_uuid: Some("5015".to_owned()), ..facts("esx", "12", None) };
        let terse = facts("esx", "12", None).with_known_ids(&of_host);
        assert_eq!(terse.instance_uuid.as_deref(), Some("5015"), "it was forgotten");
        assert_eq!(terse.vcenter_uuid, None);
        // So the reference that is given again later means another VM still.
        let other = VmFacts { instance_uuid: Some("5016".to_owned()), ..facts("esx", "12", None) };
        assert_eq!(is(&other, &[stored(1, terse)]), None);

        let of_vcenter =
            VmFacts { vcenter_uuid: Some("vc-1".to_owned()), ..facts("vc", "vm-1", None) };
        let terse = facts("vc", "vm-1", None).with_known_ids(&of_vcenter);
        assert_eq!(terse.vcenter_uuid.as_deref(), Some("vc-1"));
    }

    #[test]
    fn what_may_be_either_of_two_is_neither() {
        let two = [
            stored(1, facts("vc", "vm-57", Some(("vc-1", "5015")))),
            stored(2, facts("vc", "vm-57", Some(("vc-2", "5016")))),
        ];
        assert_eq!(is(&facts("vc", "vm-57", None), &two), None);
        assert_eq!(is(&facts("vc", "vm-57", Some(("vc-2", "5016"))), &two), Some(2));
    }

    fn any_facts() -> impl Strategy<Value = VmFacts> {
        let uuids = proptest::option::of((0..2_u8, 0..3_u8));
        ((0..2_u8, 0..3_u8), uuids).prop_map(|((host, id), uuids)| {
            let uuids = uuids.map(|(vcenter, vm)| (format!("vc-{vcenter}"), format!("50-{vm}")));
            let uuids = uuids.as_ref().map(|it| (it.0.as_str(), it.1.as_str()));
            facts(&format!("host{host}"), &format!("vm-{id}"), uuids)
        })
    }

    proptest! {
        /// Whatever is seen in whatever order, what is recognised is never a VM with other ids, and its key, taken over,
        /// never collides with that of a third.
        #[test]
        fn no_order_of_discoveries_mixes_two_vms(seen in proptest::collection::vec(any_facts(), 1..24)) {
            let mut all: Vec<VmContext> = Vec::new();
            for facts in seen {
                let found = recognise(&facts, &all).map(|vm| vm.id);
                match all.iter_mut().find(|vm| Some(vm.id) == found) {
                    Some(vm) => {
                        if let (Some(old), Some(new)) = (&vm.facts.instance_uuid, &facts.instance_uuid) {
                            prop_assert_eq!(old, new);
                        }
                        let known = vm.facts.clone();
                        vm.facts = facts.with_known_ids(&known);
                    }
                    None => all.push(stored(u128::try_from(all.len()).unwrap(), facts)),
                }
                let mut keys: Vec<_> = all.iter().map(|vm| vm.facts.key()).collect();
                keys.sort();
                keys.dedup();
                prop_assert_eq!(keys.len(), all.len());
            }
        }
    }
}
