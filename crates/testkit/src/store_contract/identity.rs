//! What VMs and disks are known by, and what a hypervisor says of them.

use crate::Whole as _;
use anyhow::ensure;
use hub_domain::conditions::{DiskConditions, VmConditions, VmNetwork, VmSnapshot};
use hub_domain::disk::{NewDisk, Presence};
use hub_domain::vm::VmContext;
use hub_ports::{Store, StoreError};

use super::samples::{add_vm, at, disks, vm};
use super::{Outcome, ensure_refused};
use crate::fixtures::{self, SMALL};

/// A VM with the ids that it keeps.
fn known(number: u128, vcenter: &str, instance: &str) -> VmContext {
    let mut vm = vm(number);
    vm.facts.vcenter_uuid = Some(vcenter.to_owned());
    vm.facts.instance_uuid = Some(instance.to_owned());
    vm
}

/// Every condition survives, and so does the absence of all.
pub async fn what_a_hypervisor_says_reads_back(store: &dyn Store) -> Outcome {
    let mut full = known(1, "vc-1", "5015");
    full.facts.moref = Some("vm-57".to_owned());
    full.facts_at = Some(at(7));
    let root = VmSnapshot {
        id: "snapshot-1".to_owned(),
        name: "vor dem Update /1, „Ж“".to_owned(),
        created: Some("2026-01-02T03:04:05Z".to_owned()),
        parent: None,
        quiesced: Some(true),
    };
    let leaf =
        VmSnapshot { id: "snapshot-2".to_owned(), parent: Some(root.id.clone()), ..root.clone() };
    full.facts.conditions = VmConditions {
        hardware_version: Some("vmx-19".to_owned()),
        template: Some(false),
        snapshots: Some(vec![root, leaf]),
        tracking_supported: Some(true),
        tracking_enabled: Some(false),
        consolidation_needed: Some(true),
        encrypted: Some(false),
        fault_tolerance: Some("notConfigured".to_owned()),
        connection: Some("disconnected".to_owned()),
        tools: Some("guestToolsRunning".to_owned()),
        quiesced: Some(true),
        reads_snapshots: Some(false),
        refusal: Some("its datacenter is not seen".to_owned()),
        networks: vec![VmNetwork {
            label: "Network adapter 1".to_owned(),
            network_name: "Büro \"Süd\", ж".to_owned(),
            mac_address: "00:50:56:85:bf:a2".to_owned(),
            adapter_type: "vmxnet3".to_owned(),
        }],
    };
    let mut none = vm(2);
    none.facts.conditions.snapshots = Some(Vec::new());
    let mut facts = fixtures::disk("disk-2000", SMALL)?;
    facts.backing_uuid = Some("6000c29".to_owned());
    facts.conditions = DiskConditions {
        device_key: Some(-2000),
        controller: Some("nvme".to_owned()),
        bus_number: Some(3),
        mode: Some("independent_persistent".to_owned()),
        sharing: Some("multi_writer".to_owned()),
        used_bytes: Some(u64::MAX >> 2),
        rdm: Some("physical".to_owned()),
        has_change_id: Some(true),
        format: Some("se_sparse".to_owned()),
        datastore_type: Some("vsan".to_owned()),
        reader: Some("https".to_owned()),
        refusal: Some("its file is not flat".to_owned()),
    };
    let mut work = store.begin().await?;
    work.insert_vms(&[full.clone(), none.clone()]).await?;
    work.insert_disks(&[NewDisk { vm: full.id, ordinal: 0, facts: facts.clone() }], at(3)).await?;
    work.commit().await?;
    let mut view = store.view().await?;
    ensure!(view.vm(full.id).await? == Some(full.clone()));
    ensure!(view.vm(none.id).await? == Some(none));
    ensure!(view.disks_of(&[full.id]).await?[0].facts == facts);
    Ok(())
}

/// The ids of vCenter and VM where both are known, else host and id there.
pub async fn trap_u15_a_vm_is_stored_once_per_key(store: &dyn Store) -> Outcome {
    let first = known(1, "vc-1", "5015");
    let mut elsewhere = known(2, "vc-2", "5015");
    let mut reinstalled = known(3, "vc-3", "5015");
    for twin in [&mut elsewhere, &mut reinstalled] {
        twin.facts.vmware_vm_id = first.facts.vmware_vm_id.clone();
    }
    elsewhere.facts.vcenter_host = "vc2".to_owned();
    let mut unnamed = vm(4);
    unnamed.facts.vmware_vm_id = first.facts.vmware_vm_id.clone();
    let all = [first.clone(), elsewhere, reinstalled.clone(), unnamed.clone()];
    let mut work = store.begin().await?;
    work.insert_vms(&all).await?;
    work.commit().await?;
    let mut moved = known(9, "vc-1", "5015");
    moved.facts.vcenter_host = "10.0.0.5".to_owned();
    let found =
        store.view().await?.vms_resembling(std::slice::from_ref(&moved.facts)).await?.whole()?;
    ensure!(found == [first.clone()], "another host, another id, the same VM");
    let mut found = store.view().await?.vms_resembling(&[unnamed.facts.clone()]).await?.whole()?;
    found.sort_by_key(|vm| vm.id);
    ensure!(found == [first.clone(), reinstalled, unnamed.clone()], "all of this host and id");
    let mut work = store.begin().await?;
    ensure_refused!(work.insert_vms(&[moved]).await, StoreError::Conflict);
    drop(work);
    let mut work = store.begin().await?;
    let taken = VmContext { id: unnamed.id, ..first };
    ensure_refused!(work.update_vm(&taken).await, StoreError::Conflict);
    Ok(())
}

/// A key is one present disk's; retired ones may have had it before.
pub async fn trap_d8_a_retired_disk_gives_its_key_free(store: &dyn Store) -> Outcome {
    let vm = add_vm(store, 1).await?;
    let mut old = disks(store, vm.id).await?.remove(0);
    let facts = fixtures::disk("disk-2000", SMALL)?;
    let new = |ordinal| NewDisk { vm: vm.id, ordinal, facts: facts.clone() };
    for round in 2..4 {
        old.presence = Presence::Retired;
        let mut work = store.begin().await?;
        work.update_disks(&[old]).await?;
        work.insert_disks(&[new(round)], at(4)).await?;
        work.commit().await?;
        old = disks(store, vm.id).await?.pop().ok_or(anyhow::anyhow!("no disk"))?;
    }
    ensure!(disks(store, vm.id).await?.len() == 4);
    let mut work = store.begin().await?;
    ensure_refused!(work.insert_disks(&[new(9)], at(5)).await, StoreError::Conflict);
    drop(work);
    let mut back = disks(store, vm.id).await?.remove(0);
    back.presence = Presence::Present;
    let mut work = store.begin().await?;
    ensure_refused!(work.update_disks(&[back]).await, StoreError::Conflict);
    Ok(())
}

/// Two disks whose slots were exchanged are written in one call, whatever the order.
pub async fn disks_may_exchange_their_keys(store: &dyn Store) -> Outcome {
    let vm = add_vm(store, 1).await?;
    let mut swapped = disks(store, vm.id).await?;
    let first = swapped[0].facts.key.clone();
    swapped[0].facts.key = swapped[1].facts.key.clone();
    swapped[1].facts.key = first;
    let mut work = store.begin().await?;
    work.update_disks(&swapped).await?;
    work.commit().await?;
    ensure!(disks(store, vm.id).await? == swapped);
    Ok(())
}
