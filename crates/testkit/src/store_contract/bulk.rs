//! More rows than one statement may carry.

use crate::Whole as _;
use anyhow::ensure;
use hub_domain::ids::VmContextId;
use hub_domain::vm::{VmContext, VmFacts};
use hub_ports::Store;

use super::Outcome;
use super::samples::{at, two_disks, vm};

/// 1,200 VMs and 2,400 disks in one unit, found again in one call each.
pub async fn twelve_hundred_vms_at_once(store: &dyn Store) -> Outcome {
    let vms: Vec<VmContext> = (1..=1_200).map(vm).collect();
    let ids: Vec<VmContextId> = vms.iter().map(|vm| vm.id).collect();
    let mut disks = Vec::new();
    for id in &ids {
        disks.extend(two_disks(*id)?);
    }
    let mut work = store.begin().await?;
    work.insert_vms(&vms).await?;
    work.insert_disks(&disks, at(3)).await?;
    work.commit().await?;
    let mut view = store.view().await?;
    let seen: Vec<VmFacts> = vms.iter().map(|vm| vm.facts.clone()).collect();
    let mut found = view.vms_resembling(&seen).await?.whole()?;
    found.sort_by_key(|vm| vm.id);
    ensure!(found == vms);
    let stored = view.disks_of(&ids).await?;
    ensure!(stored.len() == disks.len());
    let in_order = stored.iter().zip(&disks).all(|(stored, new)| {
        stored.vm == new.vm && stored.ordinal == new.ordinal && stored.facts == new.facts
    });
    ensure!(in_order, "disks come by VM and ordinal");
    let totals = view.inventory_totals().await?;
    ensure!(totals.vms == 1_200 && totals.disks == 2_400);
    let page = view.vms_page(Some(&ids[599].to_string()), 500).await?.whole()?;
    ensure!(page == vms[600..1_100]);
    let theirs = view.disks_of_page(ids[600], ids[1_099]).await?.whole()?;
    ensure!(theirs == stored[1_200..2_200], "the disks of a page are those of its VMs");
    let one = view.disks_of_page(ids[7], ids[7]).await?.whole()?;
    ensure!(one == stored[14..16], "both ends of a page belong to it");
    Ok(())
}
