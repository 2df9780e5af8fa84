//! What a run costs the vCenter: calls, however many other VMs it has.

use std::collections::BTreeMap;

use hub_vma_api::{DiscoverFilter, DiscoverRequest};
use hub_vsphere_peer::{DiskShape, PeerOptions, Trouble, VmShape};

use super::lab::{Lab, disk, named};
use crate::source::{Source as _, SourceError};

/// What a run asks before its snapshot: what the VM is like, and whether it can be copied.
async fn ask(lab: &Lab) -> anyhow::Result<BTreeMap<String, u64>> {
    let before = lab.peer.calls()?;
    let filter = DiscoverFilter { names: Vec::new(), ids: vec![lab.id.clone()] };
    let credentials = Some(lab.credentials());
    let asked = DiscoverRequest { credentials, filter: Some(filter), ..DiscoverRequest::default() };
    let told = lab.source.inventory(&asked).await?;
    anyhow::ensure!(told.vms.len() == 1, "{told:?}");
    lab.source.check(&lab.request("job")).await?;
    let mut calls = lab.peer.calls()?;
    for (method, calls) in &mut calls {
        *calls -= before.get(method).copied().unwrap_or(0);
    }
    calls.retain(|_, calls| *calls > 0);
    Ok(calls)
}

#[tokio::test]
async fn a_run_asks_no_more_of_a_large_vcenter_than_of_a_small_one() {
    let Some(small) = Lab::start().await.unwrap() else { return };
    let large = PeerOptions { vms: 120, datacenters: 2, ..PeerOptions::default() };
    let Some(large) = Lab::start_with(large).await.unwrap() else { return };
    let calls = ask(&small).await.unwrap();
    assert_eq!(calls.get("CreateContainerView"), None, "all VMs are listed for one: {calls:?}");
    assert_eq!(ask(&large).await.unwrap(), calls);
    large.open("job").await.unwrap().close().await.unwrap();
    large.nothing_is_left().await.unwrap();
    assert_eq!(large.peer.calls().unwrap().get("CreateContainerView"), None);
}

/// What cannot be copied costs no more than what can: a dead host with forty VMs must not list ten thousand others forty
/// times.
#[tokio::test]
async fn a_vm_that_is_gone_or_unreadable_is_looked_up_and_nothing_else_is() {
    let large = PeerOptions { vms: 60, datacenters: 2, ..PeerOptions::default() };
    let Some(lab) = Lab::start_with(large).await.unwrap() else { return };
    let ask = async |code: &str| {
        let before: u64 = lab.peer.calls()?.values().sum();
        let filter = DiscoverFilter { names: Vec::new(), ids: vec![lab.id.clone()] };
        let credentials = Some(lab.credentials());
        let asked =
            DiscoverRequest { credentials, filter: Some(filter), ..DiscoverRequest::default() };
        let told = lab.source.inventory(&asked).await?;
        anyhow::ensure!(told.vms.is_empty(), "{told:?}");
        let refused = lab.source.check(&lab.request("job")).await.err();
        anyhow::ensure!(refused.as_ref().map(SourceError::code) == Some(code), "{refused:?}");
        let calls = lab.peer.calls()?;
        anyhow::ensure!(!calls.contains_key("CreateContainerView"), "all are listed: {calls:?}");
        anyhow::ensure!(calls.values().sum::<u64>() - before <= 12, "{calls:?}");
        anyhow::Ok(told.warnings)
    };
    let without_size = Some(vec![DiskShape { capacity: 0, ..disk(2000, 0) }]);
    lab.peer.shape(&VmShape { disks: without_size, ..named(&lab.vm) }).unwrap();
    let [warning] = ask("source/vm-unreadable").await.unwrap().try_into().unwrap();
    assert_eq!(warning.subject, lab.id, "by what was asked for");
    assert!(warning.detail.contains("has no capacity"), "{warning:?}");
    lab.peer.unregister(&lab.vm).unwrap();
    assert!(ask("source/vm-not-found").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_server_without_an_index_is_asked_for_the_ids_of_all_vms() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    let missing = Trouble { times: 0, ..Trouble::once("FindAllByUuid", "fault", "MethodNotFound") };
    lab.peer.trouble(&missing).unwrap();
    let calls = ask(&lab).await.unwrap();
    assert!(calls.contains_key("CreateContainerView"), "{calls:?}");
}
