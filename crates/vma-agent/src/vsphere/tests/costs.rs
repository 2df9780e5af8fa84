//! What a run costs the vCenter: calls, however many other VMs it has.

use std::collections::BTreeMap;

use hub_vma_api::{DiscoverFilter, DiscoverRequest};
use hub_vsphere_peer::{PeerOptions, Trouble};

use super::lab::Lab;
use crate::source::Source as _;

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

#[tokio::test]
async fn a_server_without_an_index_is_asked_for_the_ids_of_all_vms() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    let missing = Trouble { times: 0, ..Trouble::once("FindAllByUuid", "fault", "MethodNotFound") };
    lab.peer.trouble(&missing).unwrap();
    let calls = ask(&lab).await.unwrap();
    assert!(calls.contains_key("CreateContainerView"), "{calls:?}");
}
