//! Choosing a source, listing it, refreshing a VM.

use hub_domain::inventory::RejectedVm;
use hub_ports::{Classify, ErrorClass};
use hub_testkit::fixtures;
use uuid::Uuid;

use super::*;
use crate::Change;
use crate::add_vms::tests::Bench;

fn named(name: &str) -> VmAddress {
    VmAddress::Name(name.to_owned())
}

async fn bench() -> anyhow::Result<Bench> {
    Bench::new(fixtures::inventory(vec![fixtures::pgtest1()?])).await
}

#[tokio::test]
async fn a_listing_says_what_is_managed_and_stores_nothing() {
    let bench = bench().await.unwrap();
    let before = bench.discovery.discover(&DiscoverQuery::default()).await.unwrap();
    assert_eq!(before.inventory.vms[0].disks.len(), 2);
    assert!(before.managed.is_empty() && bench.stored().await.unwrap().is_empty());
    let report = bench.add(&["pgtest1"]).await.unwrap();
    let id = report.results[0].outcome.as_ref().unwrap().id;
    let after = bench.discovery.discover(&DiscoverQuery::default()).await.unwrap();
    assert_eq!(after.managed.get("vm-1"), Some(&id));
}

#[tokio::test]
async fn the_vma_may_be_left_out_only_while_there_is_one() {
    let bench = bench().await.unwrap();
    let mut work = bench.discovery.store.begin().await.unwrap();
    let mut vsphere = fixtures::vma_node(2, "vma2");
    vsphere.source_kind = "vsphere".to_owned();
    work.insert_vma_node(&vsphere).await.unwrap();
    work.commit().await.unwrap();
    let discovery = &bench.discovery;
    let ask = |choice| async move { discovery.source_of(&choice).await.map(|_| ()) };
    let error = ask(SourceChoice::default()).await.unwrap_err();
    assert_eq!((error.code(), error.class()), ("discovery/vma-node-needed", ErrorClass::Invalid));
    let unknown = VmaNodeId::from_uuid(Uuid::from_u128(9));
    let choice = SourceChoice { vma_node: Some(unknown), credential: None };
    assert_eq!(ask(choice).await.unwrap_err().code(), "vma/not-found");
    let choice = SourceChoice { vma_node: Some(vsphere.id), credential: None };
    assert_eq!(ask(choice).await.unwrap_err().code(), "discovery/credential-needed");
    let id = CredentialId::from_uuid(Uuid::from_u128(9));
    let choice = SourceChoice { vma_node: Some(vsphere.id), credential: Some(id) };
    assert_eq!(ask(choice).await.unwrap_err().code(), "credential/not-found");
}

#[tokio::test]
async fn a_refresh_follows_the_source_and_names_a_vm_that_is_gone() {
    let bench = bench().await.unwrap();
    bench.add(&["pgtest1"]).await.unwrap();
    let mut seen = fixtures::pgtest1().unwrap();
    seen.facts.name = "renamed".to_owned();
    bench.vma.set_inventory(fixtures::inventory(vec![seen]));
    let stored = bench.discovery.refresh(&named("pgtest1")).await.unwrap();
    assert_eq!((stored.change, stored.disks), (Change::Updated, 2));
    let again = bench.discovery.refresh(&named("renamed")).await.unwrap();
    assert_eq!(again.change, Change::Unchanged);
    bench.vma.set_inventory(fixtures::inventory(Vec::new()));
    let gone = bench.discovery.refresh(&named("renamed")).await.unwrap_err();
    assert_eq!(gone.code(), "discovery/vm-gone");
    assert_eq!(bench.discovery.refresh(&named("x")).await.unwrap_err().code(), "vm/not-found");
    assert_eq!(bench.stored().await.unwrap()[0].1.len(), 2);
}

/// The instance UUID stays when a VM is registered again, so that a list of ten thousand others says nothing new.
#[tokio::test]
async fn a_vm_that_is_gone_or_unreadable_is_looked_up_and_not_looked_for_among_all() {
    let uuid = Uuid::from_u128(7).to_string();
    let of = |id: &str| {
        let mut vm = fixtures::seen_vm("payroll", id, Vec::new());
        vm.facts.instance_uuid = Some(uuid.clone());
        fixtures::inventory(vec![vm])
    };
    for (id, lists) in [(uuid.as_str(), 1), ("vm-7", 2)] {
        let bench = Bench::new(of(id)).await.unwrap();
        bench.add(&["payroll"]).await.unwrap();
        bench.vma.set_inventory(fixtures::inventory(Vec::new()));
        let before = bench.vma.inventory_calls();
        let gone = bench.discovery.refresh(&named("payroll")).await.unwrap_err();
        assert_eq!(gone.code(), "discovery/vm-gone");
        assert_eq!(bench.vma.inventory_calls() - before, lists, "{id}");
        let mut unreadable = fixtures::inventory(Vec::new());
        let detail = "its host is disconnected".to_owned();
        unreadable.rejected.push(RejectedVm { subject: id.to_owned(), detail });
        bench.vma.set_inventory(unreadable);
        let before = bench.vma.inventory_calls();
        let error = bench.discovery.refresh(&named("payroll")).await.unwrap_err();
        assert!(matches!(&error, DiscoveryError::VmRejected { .. }), "{error}");
        assert_eq!(bench.vma.inventory_calls() - before, 1, "it was found: {id}");
    }
}

#[tokio::test]
async fn a_name_that_fits_two_stored_vms_is_answered_with_both() {
    let bench = bench().await.unwrap();
    let twins = ["vm-7", "vm-8"].map(|id| fixtures::seen_vm("twin", id, Vec::new()));
    bench.vma.set_inventory(fixtures::inventory(twins.to_vec()));
    let wanted = crate::Wanted::All;
    let request = crate::AddVms { source: SourceChoice::default(), wanted };
    bench.discovery.add_vms(&request).await.unwrap();
    let error = bench.discovery.refresh(&named("twin")).await.unwrap_err();
    assert_eq!(error.code(), "vm/ambiguous-name");
    assert_eq!(error.candidates().len(), 2);
    let id = error.candidates()[1].id;
    assert!(bench.discovery.refresh(&VmAddress::Id(id)).await.is_ok());
}

#[tokio::test]
async fn a_vma_that_is_down_is_named_and_nothing_is_stored() {
    let bench = bench().await.unwrap();
    bench.vma.set_reachable(false);
    let error = bench.add(&["pgtest1"]).await.unwrap_err();
    let error = error.downcast::<DiscoveryError>().unwrap();
    assert_eq!((error.code(), error.class()), ("vma/unreachable", ErrorClass::Unavailable));
    assert!(bench.stored().await.unwrap().is_empty());
}

/// A vCenter of a known id with one VM, under management.
async fn vcenter() -> anyhow::Result<(Bench, VmContextId, VmaNodeId)> {
    let mut seen = fixtures::pgtest1()?;
    seen.facts.vcenter_uuid = Some("vc-1".to_owned());
    seen.facts.instance_uuid = Some("5015".to_owned());
    let mut inventory = fixtures::inventory(vec![seen]);
    inventory.vcenter_uuid = Some("vc-1".to_owned());
    let bench = Bench::new(inventory).await?;
    bench.vma.set_about(Ok(hub_domain::source::SourceAbout::default()));
    let login = fixtures::credential(5, "login");
    let mut work = bench.discovery.store.begin().await?;
    let mut node = fixtures::vma_node(1, "vma1");
    node.source_kind = "vsphere".to_owned();
    work.update_vma_node(&node).await?;
    work.insert_credential(&login).await?;
    work.commit().await?;
    let source = SourceChoice { vma_node: None, credential: Some(login.id) };
    let wanted = crate::Wanted::All;
    bench.discovery.add_vms(&crate::AddVms { source, wanted }).await?;
    let vm = bench.stored().await?.remove(0).0;
    Ok((bench, vm.id, node.id))
}

#[tokio::test]
async fn trap_u15_a_vm_of_the_same_id_at_another_vcenter_is_not_the_one_that_is_refreshed() {
    let (bench, vm, node) = vcenter().await.unwrap();
    let discovery = &bench.discovery;
    discovery.refresh(&VmAddress::Id(vm)).await.unwrap();
    bench.vma.lead_elsewhere(node, Some("vc-2"));
    let (before, asked) = (bench.stored().await.unwrap(), bench.vma.inventory_calls());
    let error = discovery.refresh(&VmAddress::Id(vm)).await.unwrap_err();
    assert_eq!((error.code(), error.class()), ("source/other-vcenter", ErrorClass::Conflict));
    assert!(error.to_string().contains("vc-1") && error.to_string().contains("vc-2"), "{error}");
    assert_eq!(bench.vma.inventory_calls(), asked + 1, "all VMs of the other are not asked for");
    assert_eq!(bench.stored().await.unwrap(), before);
    // Whoever chooses a VMA now knows of it, until it reaches the first one again.
    for (vcenter, reads) in [(Some("vc-2"), false), (None, true)] {
        bench.vma.lead_elsewhere(node, vcenter);
        let asked = discovery.refresh_before_copy(vm, None).await;
        assert_eq!(asked.is_some(), reads);
        let mut view = discovery.store.view().await.unwrap();
        let known = view.vm(vm).await.unwrap().unwrap();
        assert_eq!(reader(view.as_mut(), &known).await.unwrap().is_ok(), reads);
    }
}
