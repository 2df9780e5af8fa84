//! A VM is itself, whatever its name, its place, its reference and the name of its vCenter become.

use hub_domain::access::VmaNode;
use hub_domain::disk::Presence;
use hub_domain::inventory::{SeenInventory, SeenVm};
use hub_domain::reader_choice::SourceName;
use hub_ports::Store as _;
use hub_ports::store::{find_vm, reader};
use hub_testkit::fixtures;

use super::tests::Bench;
use super::*;

/// `pgtest1` as a vCenter tells it.
fn seen(vcenter: &str, instance: &str, id: &str) -> anyhow::Result<SeenVm> {
    let mut vm = fixtures::pgtest1()?;
    vm.facts.vcenter_uuid = Some(vcenter.to_owned());
    vm.facts.instance_uuid = Some(instance.to_owned());
    vm.facts.vmware_vm_id = id.to_owned();
    vm.facts.moref = Some(id.to_owned());
    for (disk, backing) in vm.disks.iter_mut().zip(["6000-a", "6000-b"]) {
        disk.backing_uuid = Some(format!("{backing}-{instance}"));
    }
    Ok(vm)
}

fn inventory(vms: Vec<SeenVm>) -> SeenInventory {
    fixtures::inventory(vms)
}

async fn all(bench: &Bench) -> anyhow::Result<AddReport> {
    let source = SourceChoice::default();
    Ok(bench.discovery.add_vms(&AddVms { source, wanted: Wanted::All }).await?)
}

#[tokio::test]
async fn trap_u14_renamed_moved_and_registered_anew_it_is_the_same_vm() {
    let bench = Bench::new(inventory(vec![seen("vc-1", "5015", "vm-57").unwrap()])).await.unwrap();
    all(&bench).await.unwrap();
    let before = bench.stored().await.unwrap();
    let mut moved = seen("vc-1", "5015", "vm-99").unwrap();
    moved.facts.name = "renamed".to_owned();
    moved.facts.path = "/DC2/vm/elsewhere/renamed".to_owned();
    moved.facts.vcenter_host = "10.0.0.5".to_owned();
    bench.vma.set_inventory(inventory(vec![moved.clone()]));
    // A refresh asks for the id that it knows, and then for everything.
    let address = hub_domain::vm::VmAddress::Id(before[0].0.id);
    let refreshed = bench.discovery.refresh(&address).await.unwrap();
    assert_eq!((refreshed.id, refreshed.change), (before[0].0.id, Change::Updated));
    let after = bench.stored().await.unwrap();
    assert_eq!(after.len(), 1);
    assert_eq!((&after[0].0.facts, &after[0].1), (&moved.facts, &before[0].1));
    assert!(after[0].0.facts_at > before[0].0.facts_at);
    let listed = bench.discovery.discover(&crate::DiscoverQuery::default()).await.unwrap();
    assert_eq!(listed.managed.get("vm-99"), Some(&before[0].0.id));
}

#[tokio::test]
async fn trap_u15_the_same_reference_in_another_vcenter_is_another_vm() {
    let bench = Bench::new(inventory(vec![seen("vc-1", "5015", "vm-57").unwrap()])).await.unwrap();
    all(&bench).await.unwrap();
    let mut elsewhere = seen("vc-2", "5016", "vm-57").unwrap();
    elsewhere.facts.vcenter_host = "vc2.example.local".to_owned();
    let reinstalled = seen("vc-3", "5017", "vm-57").unwrap();
    for other in [elsewhere, reinstalled] {
        bench.vma.set_inventory(inventory(vec![other]));
        assert_eq!(all(&bench).await.unwrap().count(Change::Added), 1);
    }
    assert_eq!(bench.stored().await.unwrap().len(), 3);
}

/// A host without a vCenter has no id of its own, and counts its references from the start when it is installed anew.
#[tokio::test]
async fn trap_u15_a_reference_that_is_given_again_is_refused_and_stops_no_other() {
    let of_host = |instance: &str, id: &str| {
        let mut vm = seen("", instance, id).unwrap();
        vm.facts.vcenter_uuid = None;
        vm
    };
    let bench = Bench::new(inventory(vec![of_host("5015", "12")])).await.unwrap();
    all(&bench).await.unwrap();
    let before = bench.stored().await.unwrap();
    bench.vma.set_inventory(inventory(vec![of_host("5016", "12"), of_host("5017", "13")]));
    let report = all(&bench).await.unwrap();
    assert_eq!((report.failed(), report.count(Change::Added)), (1, 1));
    let fault = report.results[0].outcome.as_ref().unwrap_err();
    assert_eq!(fault.code, "store/refused");
    assert!(fault.detail.contains("remove the VM context"), "{fault}");
    assert_eq!(bench.stored().await.unwrap()[..1], before);
}

#[tokio::test]
async fn a_vm_from_before_its_ids_were_known_adopts_them() {
    let bench = Bench::new(inventory(vec![fixtures::pgtest1().unwrap()])).await.unwrap();
    all(&bench).await.unwrap();
    let before = bench.stored().await.unwrap();
    bench.vma.set_inventory(inventory(vec![seen("vc-1", "5015", "vm-1").unwrap()]));
    all(&bench).await.unwrap();
    let after = bench.stored().await.unwrap();
    assert_eq!(after[0].0.id, before[0].0.id);
    assert_eq!(after[0].0.facts.instance_uuid.as_deref(), Some("5015"));
    assert_eq!(after[0].1.len(), 2);
    // An older VMA that says less takes nothing away, and there is nothing to write.
    bench.vma.set_inventory(inventory(vec![fixtures::pgtest1().unwrap()]));
    assert_eq!(all(&bench).await.unwrap().count(Change::Unchanged), 1);
    assert_eq!(bench.stored().await.unwrap(), after);
}

#[tokio::test]
async fn trap_d8_a_replaced_disk_is_another_one() {
    let bench = Bench::new(inventory(vec![seen("vc-1", "5015", "vm-57").unwrap()])).await.unwrap();
    all(&bench).await.unwrap();
    let before = bench.stored().await.unwrap().remove(0).1;
    let mut replaced = seen("vc-1", "5015", "vm-57").unwrap();
    replaced.disks[0].backing_uuid = Some("6000-new".to_owned());
    bench.vma.set_inventory(inventory(vec![replaced.clone()]));
    for expected in [Change::Updated, Change::Unchanged] {
        assert_eq!(all(&bench).await.unwrap().count(expected), 1);
        let after = bench.stored().await.unwrap().remove(0).1;
        assert_eq!((after[0].id, after[0].presence), (before[0].id, Presence::Retired));
        assert_eq!(after[0].facts, before[0].facts);
        assert_eq!(after[1], before[1]);
        assert_eq!((after[2].ordinal, &after[2].facts), (2, &replaced.disks[0]));
    }
}

#[tokio::test]
async fn two_vms_of_one_instance_id_are_both_refused() {
    let twins = ["vm-57", "vm-58"].map(|id| seen("vc-1", "5015", id).unwrap());
    let bench = Bench::new(inventory(twins.to_vec())).await.unwrap();
    assert_eq!(all(&bench).await.unwrap().failed(), 2);
    assert!(bench.stored().await.unwrap().is_empty());
}

/// What docs/vsphere.md says of it: other contexts under the same names, whose old ones are read by nobody any more.
#[tokio::test]
async fn trap_u15_a_vcenter_that_was_installed_anew_has_other_vms() {
    let old = seen("vc-1", "5015", "vm-57").unwrap();
    let bench = Bench::new(inventory(vec![old.clone()])).await.unwrap();
    let source = SourceName { host: Some(fixtures::VCENTER.to_owned()), uuid: None };
    let vsphere = VmaNode {
        source_kind: "vsphere".to_owned(),
        source: source.clone(),
        ..fixtures::vma_node(1, "vma1")
    };
    let login = fixtures::credential(5, "login");
    let mut work = bench.store.begin().await.unwrap();
    work.insert_credential(&login).await.unwrap();
    work.update_vma_node(&vsphere).await.unwrap();
    work.note_vma_source(vsphere.id, &source).await.unwrap();
    work.commit().await.unwrap();
    let vcenter = |id: &str, vm: SeenVm| SeenInventory {
        vcenter_uuid: Some(id.to_owned()),
        ..inventory(vec![vm])
    };
    bench.vma.set_inventory(vcenter("vc-1", old));
    let source = SourceChoice { vma_node: None, credential: Some(login.id) };
    let request = AddVms { source, wanted: Wanted::All };
    let add = || bench.discovery.add_vms(&request);
    assert_eq!(add().await.unwrap().count(Change::Added), 1);
    let before = bench.stored().await.unwrap().remove(0).0;
    // The VM has the id of its own still, that stands in its file; its vCenter and its reference are others.
    bench.vma.set_inventory(vcenter("vc-9", seen("vc-9", "5015", "vm-12").unwrap()));
    let mut view = bench.store.view().await.unwrap();
    assert_eq!(
        reader(view.as_mut(), &before).await.unwrap().unwrap().id,
        vsphere.id,
        "not known yet"
    );
    assert_eq!(add().await.unwrap().count(Change::Added), 1);
    let stored = bench.stored().await.unwrap();
    assert_eq!(stored.len(), 2);
    let new = stored.iter().find(|(vm, _)| vm.id != before.id).unwrap();
    assert_eq!((&new.0.facts.name, new.1.len()), (&before.facts.name, 2));
    let mut view = bench.store.view().await.unwrap();
    assert_eq!(reader(view.as_mut(), &new.0).await.unwrap().unwrap().id, vsphere.id);
    let nobody = reader(view.as_mut(), &before).await.unwrap().unwrap_err().to_string();
    assert!(nobody.contains("with the id vc-9") && nobody.contains("with the id vc-1"), "{nobody}");
    drop(view);
    // Refreshing the old one finds it nowhere, and takes nothing over.
    let address = hub_domain::vm::VmAddress::Id(before.id);
    let gone = bench.discovery.refresh(&address).await.unwrap_err();
    assert_eq!(gone.code(), "source/other-vcenter", "{gone}");
    let both = find_vm(
        bench.store.view().await.unwrap().as_mut(),
        &hub_domain::vm::VmAddress::parse("pgtest1"),
    )
    .await
    .unwrap_err();
    assert_eq!(both.code(), "vm/ambiguous-name");
}

/// The login of a VM is for the address that its own VMA has for the vCenter.
#[tokio::test]
async fn a_refresh_through_a_stand_in_keeps_the_address_of_the_vcenter() {
    let bench = Bench::new(inventory(vec![seen("vc-1", "5015", "vm-57").unwrap()])).await.unwrap();
    let reading = |id, name: &str, host: &str| VmaNode {
        source_kind: "vsphere".to_owned(),
        source: SourceName { host: Some(host.to_owned()), uuid: Some("vc-1".to_owned()) },
        ..fixtures::vma_node(id, name)
    };
    let (own, other) = (reading(1, "vma1", fixtures::VCENTER), reading(2, "vma2", "10.0.0.5"));
    let login = fixtures::credential(5, "login");
    let mut work = bench.store.begin().await.unwrap();
    work.insert_credential(&login).await.unwrap();
    work.update_vma_node(&own).await.unwrap();
    work.note_vma_source(own.id, &own.source).await.unwrap();
    work.commit().await.unwrap();
    let source = SourceChoice { vma_node: None, credential: Some(login.id) };
    bench.discovery.add_vms(&AddVms { source, wanted: Wanted::All }).await.unwrap();
    let mut work = bench.store.begin().await.unwrap();
    work.insert_vma_node(&other).await.unwrap();
    work.commit().await.unwrap();
    bench.vma.silence(own.id, "");
    let mut moved = seen("vc-1", "5015", "vm-57").unwrap();
    moved.facts.vcenter_host = "10.0.0.5".to_owned();
    moved.facts.cpu_count = Some(9);
    bench.vma.set_inventory(inventory(vec![moved]));
    let address = hub_domain::vm::VmAddress::Id(bench.stored().await.unwrap()[0].0.id);
    assert_eq!(bench.discovery.refresh(&address).await.unwrap().change, Change::Updated);
    let vm = bench.stored().await.unwrap().remove(0).0;
    assert_eq!((vm.facts.cpu_count, vm.facts.vcenter_host.as_str()), (Some(9), fixtures::VCENTER));
    assert_eq!(vm.vma_node, Some(own.id));
}
