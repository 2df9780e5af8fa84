//! VMs and disks.

use crate::Whole as _;
use anyhow::ensure;
use hub_domain::disk::{DiskFacts, DiskKey, NewDisk, Presence, VmDisk};
use hub_domain::ids::{CredentialId, VmContextId, VmDiskId};
use hub_domain::vm::{ContextStatus, VmContext};
use hub_ports::store::InventoryTotals;
use hub_ports::{Store, StoreError};
use uuid::Uuid;

use super::samples::{add_vm, at, disks, two_disks, vm};
use super::{Outcome, ensure_refused};
use crate::fixtures::{self, BIG, SMALL};

/// Every field of a VM survives.
pub async fn a_vm_reads_back_as_written(store: &dyn Store) -> Outcome {
    let mut full = vm(1);
    let mut bare = vm(2);
    bare.facts.cpu_count = None;
    bare.facts.memory_mb = None;
    bare.facts.os_type = None;
    bare.facts.power_state = None;
    bare.facts.datacenter = String::new();
    full.facts.memory_mb = Some(u32::MAX);
    full.status = ContextStatus::ReadyForFailover;
    let (credential, node) = (fixtures::credential(5, "login"), fixtures::vma_node(6, "vma"));
    full.credential = Some(credential.id);
    full.vma_node = Some(node.id);
    let mut work = store.begin().await?;
    work.insert_credential(&credential).await?;
    work.insert_vma_node(&node).await?;
    work.insert_vms(&[full.clone(), bare.clone()]).await?;
    ensure!(work.vm(full.id).await?.as_ref() == Some(&full), "a unit sees its own writes");
    work.commit().await?;
    let mut view = store.view().await?;
    ensure!(view.vm(full.id).await? == Some(full));
    ensure!(view.vm(bare.id).await? == Some(bare));
    ensure!(view.vm(VmContextId::from_uuid(Uuid::from_u128(99))).await?.is_none());
    Ok(())
}

/// A name may fit several VMs; a source's id fits one of that source.
pub async fn names_are_labels_and_sources_tell_vms_apart(store: &dyn Store) -> Outcome {
    let mut same_name = vm(2);
    same_name.facts.name = vm(1).facts.name;
    let mut elsewhere = vm(3);
    elsewhere.facts.vmware_vm_id = vm(1).facts.vmware_vm_id;
    elsewhere.facts.vcenter_host = "other.example.local".to_owned();
    let mut work = store.begin().await?;
    work.insert_vms(&[vm(1), same_name.clone(), elsewhere.clone()]).await?;
    work.commit().await?;
    let mut view = store.view().await?;
    ensure!(view.vms_named(&vm(1).facts.name).await? == [vm(1), same_name]);
    ensure!(view.vms_named("nobody").await?.is_empty());
    ensure!(view.vms_resembling(&[vm(1).facts]).await?.whole()? == [vm(1)]);
    ensure!(view.vms_resembling(&[elsewhere.facts.clone()]).await?.whole()? == [elsewhere]);
    ensure!(view.vms_resembling(&[]).await?.whole()?.is_empty());
    let mut again = vm(4);
    again.facts.vmware_vm_id = vm(1).facts.vmware_vm_id;
    let mut work = store.begin().await?;
    ensure_refused!(work.insert_vms(&[again]).await, StoreError::Conflict);
    Ok(())
}

/// Names with Unicode, slashes, commas and 200 characters.
pub async fn trap_c23_long_and_strange_names_are_whole(store: &dyn Store) -> Outcome {
    let names = ["Ж".repeat(200), "a /b, c: [d] 'e' \"f\" \\ % _ ✓ 😀".to_owned()];
    for (number, name) in (1..).zip(&names) {
        let mut vm = vm(number);
        vm.facts.name.clone_from(name);
        vm.facts.path = format!("/DC1/vm/{name}");
        let mut work = store.begin().await?;
        work.insert_vms(std::slice::from_ref(&vm)).await?;
        work.commit().await?;
        ensure!(store.view().await?.vms_named(name).await? == [vm], "{name}");
    }
    Ok(())
}

/// Ids and keys that differ in case only are different.
pub async fn ids_of_a_source_differ_in_case(store: &dyn Store) -> Outcome {
    let (mut lower, mut upper) = (vm(1), vm(2));
    lower.facts.vmware_vm_id = "4205784a".to_owned();
    upper.facts.vmware_vm_id = "4205784A".to_owned();
    let small = fixtures::disk("disk-1", SMALL)?;
    let disk = |key| DiskKey::new(key).map(|key| DiskFacts { key, ..small.clone() });
    let both = [
        NewDisk { vm: lower.id, ordinal: 0, facts: disk("disk-a")? },
        NewDisk { vm: lower.id, ordinal: 1, facts: disk("DISK-A")? },
    ];
    let mut work = store.begin().await?;
    work.insert_vms(&[lower.clone(), upper]).await?;
    work.insert_disks(&both, at(3)).await?;
    work.commit().await?;
    let mut view = store.view().await?;
    ensure!(view.vms_resembling(&[lower.facts.clone()]).await?.whole()? == [lower.clone()]);
    ensure!(view.disks_of(&[lower.id]).await?.len() == 2);
    Ok(())
}

/// Acceptance story 1: two rows, job NULL, with their exact sizes.
pub async fn disks_are_stored_without_a_job(store: &dyn Store) -> Outcome {
    let vm = add_vm(store, 1).await?;
    let stored = disks(store, vm.id).await?;
    ensure!(stored.len() == 2);
    for (disk, new) in stored.iter().zip(two_disks(vm.id)?) {
        let expected = VmDisk {
            id: disk.id,
            vm: vm.id,
            job: None,
            ordinal: new.ordinal,
            facts: new.facts,
            presence: Presence::Present,
            created_at: at(3),
            updated_at: at(3),
        };
        ensure!(*disk == expected, "{disk:?}");
    }
    for twice in [
        NewDisk { vm: vm.id, ordinal: 7, facts: fixtures::disk("disk-2000", SMALL)? },
        NewDisk { vm: vm.id, ordinal: 0, facts: fixtures::disk("disk-7", SMALL)? },
    ] {
        let mut work = store.begin().await?;
        ensure_refused!(work.insert_disks(&[twice], at(4)).await, StoreError::Conflict);
    }
    Ok(())
}

/// Keyset paging: every VM once, in order.
pub async fn pages_go_by_id(store: &dyn Store) -> Outcome {
    let all: Vec<VmContext> = (1..=7).map(vm).collect();
    let mut shuffled = all.clone();
    shuffled.reverse();
    let mut work = store.begin().await?;
    work.insert_vms(&shuffled).await?;
    work.commit().await?;
    let mut view = store.view().await?;
    let (mut seen, mut after): (_, Option<String>) = (Vec::new(), None);
    loop {
        let page = view.vms_page(after.as_deref(), 3).await?.whole()?;
        ensure!(page.len() <= 3);
        let Some(last) = page.last() else { break };
        after = Some(last.id.to_string());
        seen.extend(page);
    }
    ensure!(seen == all);
    Ok(())
}

/// A VM is stored as given, or missing.
pub async fn a_vm_can_be_changed(store: &dyn Store) -> Outcome {
    let mut changed = add_vm(store, 1).await?;
    changed.facts.name = "renamed".to_owned();
    changed.facts.path = "/DC1/vm/moved/renamed".to_owned();
    changed.facts.power_state = None;
    changed.updated_at = at(20);
    let mut work = store.begin().await?;
    work.update_vm(&changed).await?;
    work.commit().await?;
    ensure!(store.view().await?.vm(changed.id).await? == Some(changed.clone()));
    let mut work = store.begin().await?;
    work.set_vm_status(changed.id, ContextStatus::Replicating, at(21)).await?;
    work.commit().await?;
    changed.status = ContextStatus::Replicating;
    changed.updated_at = at(21);
    ensure!(store.view().await?.vm(changed.id).await? == Some(changed));
    let mut work = store.begin().await?;
    ensure_refused!(work.update_vm(&vm(9)).await, StoreError::Missing(_));
    let status = ContextStatus::Discovered;
    ensure_refused!(work.set_vm_status(vm(9).id, status, at(1)).await, StoreError::Missing(_));
    Ok(())
}

/// A resized, renamed or retired disk is the same row.
pub async fn a_disk_keeps_its_row_when_it_changes(store: &dyn Store) -> Outcome {
    let vm = add_vm(store, 1).await?;
    let mut changed = disks(store, vm.id).await?;
    changed[0].facts = fixtures::disk("disk-2000", BIG + 512)?;
    changed[0].facts.label = "Festplatte 1".to_owned();
    changed[0].facts.bus = None;
    changed[0].facts.unit_number = None;
    changed[0].facts.provisioning_type = None;
    changed[1].presence = Presence::Retired;
    changed[1].updated_at = at(30);
    let mut work = store.begin().await?;
    work.update_disks(&changed).await?;
    work.commit().await?;
    ensure!(disks(store, vm.id).await? == changed);
    let mut work = store.begin().await?;
    let unknown = VmDiskId::from_raw(i64::MAX);
    let gone = VmDisk { id: unknown, ..changed[0].clone() };
    ensure_refused!(work.update_disks(&[gone]).await, StoreError::Missing(_));
    Ok(())
}

/// Sums for capacity planning leave retired disks out.
pub async fn totals_count_present_disks(store: &dyn Store) -> Outcome {
    let empty = store.view().await?.inventory_totals().await?;
    ensure!(empty == InventoryTotals::default());
    add_vm(store, 1).await?;
    let other = add_vm(store, 2).await?;
    let mut retired = disks(store, other.id).await?;
    retired[1].presence = Presence::Retired;
    let mut work = store.begin().await?;
    work.update_disks(&retired).await?;
    work.commit().await?;
    let totals = store.view().await?.inventory_totals().await?;
    ensure!(totals == InventoryTotals { vms: 2, disks: 3, capacity_bytes: 2 * BIG + SMALL });
    Ok(())
}

/// A disk needs its VM, a VM its login.
pub async fn references_must_exist(store: &dyn Store) -> Outcome {
    let mut work = store.begin().await?;
    let orphans = two_disks(vm(9).id)?;
    ensure_refused!(work.insert_disks(&orphans, at(1)).await, StoreError::Missing(_));
    drop(work);
    let mut unknown = vm(1);
    unknown.credential = Some(CredentialId::from_uuid(Uuid::from_u128(9)));
    let mut work = store.begin().await?;
    ensure_refused!(work.insert_vms(&[unknown]).await, StoreError::Missing(_));
    Ok(())
}
