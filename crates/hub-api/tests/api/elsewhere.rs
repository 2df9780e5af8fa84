//! A VMA that reaches another vCenter than before, which has the same VMs: what it answers is a reason not to copy.

use anyhow::{Result, ensure};
use hub_domain::ids::VmaNodeId;
use hub_domain::inventory::SeenVm;
use hub_testkit::{CopyScript, fixtures};
use serde_json::json;

use crate::lab::Lab;
use crate::vsphere::{back_up, vcenter};

/// A hub that has learnt the ids of a vCenter and of its VMs by a backup; the repository, the login and the VMA.
async fn known(names: &[(&str, &str)]) -> Result<(Lab, String, String, VmaNodeId)> {
    let (lab, repository) = vcenter().await?;
    let of_vcenter = |mut vm: SeenVm| {
        vm.facts.vcenter_uuid = Some("vc-1".to_owned());
        vm.facts.instance_uuid = Some(vm.facts.vmware_vm_id.clone());
        vm
    };
    let mut vms = vec![of_vcenter(fixtures::pgtest1()?)];
    for (name, id) in names {
        let disks = vec![fixtures::disk("disk-2000", 1 << 30)?];
        vms.push(of_vcenter(fixtures::seen_vm(name, id, disks)));
    }
    let mut inventory = fixtures::inventory(vms);
    inventory.vcenter_uuid = Some("vc-1".to_owned());
    lab.vma.set_inventory(inventory);
    let login = lab.get("/api/v1/vmware-credentials").await?.text_at("/items/0/id")?;
    let wanted = json!({"credential_id": login, "all": true});
    let added = lab.post("/api/v1/discovery/add-vms", wanted).await?;
    ensure!(added.body["failed"] == 0, "{}", added.text);
    let node = lab.get("/api/v1/vma-nodes").await?.text_at("/items/0/id")?;
    Ok((lab, repository, login, node.parse()?))
}

#[tokio::test]
async fn trap_u15_no_copy_is_started_through_a_vma_that_reaches_another_vcenter() {
    let (lab, repository, _, node) = known(&[]).await.unwrap();
    back_up(&lab, &repository).await.unwrap();
    assert_eq!(lab.vma.orders()[0].vcenter_uuid.as_deref(), Some("vc-1"));
    lab.vma.lead_elsewhere(node, Some("vc-2"));
    let path =
        lab.get("/api/v1/vm-contexts").await.unwrap().text_at("/items/0/context_id").unwrap();
    let refresh = format!("/api/v1/vm-contexts/{path}/refresh");
    for _ in 0..2 {
        let body = json!({"vm_name": "pgtest1", "backup_type": "incremental", "repository_id": repository});
        let refused = lab.post("/api/v1/backup/start", body).await.unwrap();
        assert_eq!(refused.problem(), (409, "vm/no-vma"));
        assert!(refused.text.contains("vc-1") && refused.text.contains("vc-2"), "{}", refused.text);
        let replicated = lab.post("/api/v1/replications", json!({"vm_name": "pgtest1"})).await;
        assert_eq!(replicated.unwrap().problem(), (409, "vm/no-vma"));
        let refreshed = lab.post(&refresh, json!({})).await.unwrap();
        assert_eq!(refreshed.problem(), (409, "source/other-vcenter"));
    }
    assert_eq!(lab.vma.orders().len(), 1);
    // The name was corrected, which nobody but a start finds out.
    lab.vma.lead_elsewhere(node, None);
    back_up(&lab, &repository).await.unwrap();
    assert_eq!(lab.vma.orders().len(), 2);
}

#[tokio::test]
async fn trap_u15_a_copy_whose_turn_comes_when_its_vma_reaches_another_vcenter_is_not_ordered() {
    let (lab, repository, login, node) = known(&[("other", "vm-9")]).await.unwrap();
    let path = format!("/api/v1/vmware-credentials/{login}");
    lab.patch(&path, json!({"max_concurrent_copies": 1})).await.unwrap();
    lab.vma.script(CopyScript { stuck_at: Some(1), ..CopyScript::default() });
    let body =
        |name: &str| json!({"vm_name": name, "backup_type": "full", "repository_id": repository});
    let first = lab.post("/api/v1/backup/start", body("other")).await.unwrap();
    let second = lab.post("/api/v1/backup/start", body("pgtest1")).await.unwrap();
    lab.until(second.header("location"), |run| run["waiting"].is_object()).await.unwrap();
    lab.vma.lead_elsewhere(node, Some("vc-2"));
    lab.clock.advance(chrono::TimeDelta::seconds(6));
    lab.patch(&path, json!({"max_concurrent_copies": null})).await.unwrap();
    let ended = lab.ended(second.header("location")).await.unwrap();
    assert_eq!(ended.body["status"], "failed", "{}", ended.text);
    assert_eq!(ended.body["backups"][0]["error"]["code"], "vm/no-vma", "{}", ended.text);
    assert_eq!(lab.vma.orders().len(), 1);
    let cancel = format!("{}/cancel", first.header("location"));
    assert_eq!(lab.post(&cancel, json!({})).await.unwrap().status, 202);
    lab.ended(first.header("location")).await.unwrap();
}
