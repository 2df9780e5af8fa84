//! Discovery, VMs under management and their disks.

use hub_domain::conditions::{DiskConditions, VmConditions, VmSnapshot};
use hub_domain::inventory::{RejectedVm, SeenVm};
use hub_testkit::fixtures::{self, BIG, SMALL};
use serde_json::json;

use crate::lab::Lab;

#[tokio::test]
async fn discovery_lists_a_source_and_says_what_is_managed() {
    let mut inventory = fixtures::inventory(vec![fixtures::pgtest1().unwrap()]);
    inventory.rejected.push(RejectedVm { subject: "bad".into(), detail: "why".into() });
    let lab = Lab::of(inventory).await.unwrap();
    let needed = lab.post("/api/v1/discovery/discover-vms", json!({})).await.unwrap();
    assert_eq!(needed.problem(), (400, "discovery/vma-node-needed"));
    let vma = lab.register_vma().await.unwrap();
    let found = lab.post("/api/v1/discovery/discover-vms", json!({})).await.unwrap();
    insta::assert_json_snapshot!("discovered", found.body);
    lab.post("/api/v1/discovery/add-vms", json!({"all": true})).await.unwrap();
    let by_id = json!({"vma_node_id": vma, "names": ["pgtest1"]});
    let again = lab.post("/api/v1/discovery/discover-vms", by_id).await.unwrap();
    assert_eq!(again.body["vms"][0]["managed"], true);
    assert!(again.body["vms"][0]["context_id"].is_string());
    lab.vma.set_reachable(false);
    let down = lab.post("/api/v1/discovery/discover-vms", json!({})).await.unwrap();
    assert_eq!(down.problem(), (503, "vma/unreachable"));
}

#[tokio::test]
async fn adding_answers_for_every_vm_asked_for() {
    let vms = vec![
        fixtures::pgtest1().unwrap(),
        fixtures::seen_vm("web", "vm-7", vec![fixtures::disk("disk-2000", 512).unwrap()]),
        fixtures::seen_vm("web", "vm-8", Vec::new()),
    ];
    let lab = Lab::new(vms).await.unwrap();
    lab.register_vma().await.unwrap();
    let names = json!({"vm_names": ["pgtest1", "web", "ghost"]});
    let added = lab.post("/api/v1/discovery/add-vms", names).await.unwrap();
    assert_eq!(added.status, 200, "{}", added.text);
    insta::assert_json_snapshot!("added", added.body);
    let picked = json!({"vm_names": ["pgtest1", "web"], "vm_ids": ["vm-8"]});
    let again = lab.post("/api/v1/discovery/add-vms", picked).await.unwrap();
    assert_eq!((&again.body["added"], &again.body["unchanged"]), (&json!(1), &json!(1)));
    let nothing = lab.post("/api/v1/discovery/add-vms", json!({})).await.unwrap();
    assert_eq!(nothing.problem(), (400, "discovery/nothing-asked"));
    let both = json!({"all": true, "vm_names": ["web"]});
    let both = lab.post("/api/v1/discovery/add-vms", both).await.unwrap();
    assert_eq!(both.problem(), (400, "request/invalid-field"));
}

#[tokio::test]
async fn story_1_discovered_disks_have_no_job() {
    let lab = Lab::with_pgtest1().await.unwrap();
    let all = lab.get("/api/v1/vm-contexts?totals=true").await.unwrap();
    assert_eq!(all.body["totals"], json!({"vms": 1, "disks": 2, "capacity_bytes": BIG + SMALL}));
    let id = all.body["items"][0]["context_id"].as_str().unwrap();
    let rest = lab.get(&format!("/api/v1/vm-contexts?after={id}")).await.unwrap();
    assert_eq!(
        rest.body,
        json!({"items": [], "unreadable": [], "next": null}),
        "totals are for whoever asks"
    );
    insta::assert_json_snapshot!("vm_context", all.body["items"][0]);
    let disks = lab.get("/api/v1/vm-contexts/pgtest1/disks").await.unwrap();
    assert_eq!(disks.body["items"], all.body["items"][0]["disks"]);
    for (disk, capacity) in [(0, BIG), (1, SMALL)] {
        assert_eq!(disks.body["items"][disk]["job_id"], json!(null));
        assert_eq!(disks.body["items"][disk]["capacity_bytes"], capacity);
    }
}

/// The VM of the stories as a vCenter tells it, with something in every field.
fn of_a_vcenter() -> anyhow::Result<SeenVm> {
    let text = |it: &str| Some(it.to_owned());
    let mut vm = fixtures::pgtest1()?;
    vm.facts.instance_uuid = text("5015f0e2-0000-4000-8000-000000000007");
    vm.facts.moref = text("vm-57");
    let snapshot = |name: &str| VmSnapshot {
        id: "snapshot-70".to_owned(),
        name: name.to_owned(),
        created: text("2026-11-23T10:11:12Z"),
        parent: text("snapshot-69"),
        quiesced: Some(true),
    };
    vm.facts.conditions = VmConditions {
        hardware_version: text("vmx-19"),
        template: Some(false),
        snapshots: Some(vec![snapshot("before the update"), snapshot("sendense-hub job 7")]),
        tracking_supported: Some(true),
        tracking_enabled: Some(true),
        consolidation_needed: Some(false),
        encrypted: Some(false),
        fault_tolerance: text("notConfigured"),
        connection: text("connected"),
        tools: text("guestToolsNotRunning"),
        quiesced: Some(true),
        reads_snapshots: Some(true),
        refusal: None,
        networks: vm.facts.conditions.networks,
    };
    for (key, disk) in (2000..).zip(&mut vm.disks) {
        disk.backing_uuid = text(&format!("6000c290-0000-4000-8000-{key:012}"));
        disk.conditions = DiskConditions {
            device_key: Some(key),
            controller: text("scsi"),
            bus_number: Some(0),
            mode: text("persistent"),
            sharing: text("none"),
            used_bytes: Some(4096),
            rdm: text("virtual"),
            has_change_id: Some(true),
            format: text("raw"),
            datastore_type: text("VMFS"),
            reader: text("vddk"),
            refusal: None,
        };
    }
    Ok(vm)
}

#[tokio::test]
async fn what_a_vcenter_says_is_in_discovery_and_at_the_vm_and_not_in_lists() {
    let lab = Lab::new(vec![of_a_vcenter().unwrap()]).await.unwrap();
    lab.register_vma().await.unwrap();
    let found = lab.post("/api/v1/discovery/discover-vms", json!({})).await.unwrap();
    let found = &found.body["vms"][0];
    lab.post("/api/v1/discovery/add-vms", json!({"all": true})).await.unwrap();
    let one = lab.get("/api/v1/vm-contexts/pgtest1").await.unwrap().body;
    insta::assert_json_snapshot!("vcenter_vm", {
        let of_disk = |disk: &serde_json::Value| {
            json!({
                "bus": disk["bus"], "unit_number": disk["unit_number"],
                "backing_uuid": disk["backing_uuid"], "conditions": disk["conditions"],
            })
        };
        json!({
            "datacenter": one["datacenter"], "conditions": one["conditions"],
            "networks": one["networks"], "first_disk": of_disk(&one["disks"][0]),
        })
    });
    for field in ["datacenter", "conditions", "networks", "moref", "instance_uuid"] {
        assert_eq!(found[field], one[field], "{field}");
    }
    for disk in 0..2 {
        for field in ["bus", "unit_number", "backing_uuid", "conditions"] {
            assert_eq!(found["disks"][disk][field], one["disks"][disk][field], "{field}");
        }
    }
    let listed = lab.get("/api/v1/vm-contexts").await.unwrap().body["items"][0].clone();
    for field in ["/conditions", "/networks", "/disks/0/conditions"] {
        assert!(one.pointer(field).is_some_and(|it| !it.is_null()), "{field}");
        assert_eq!(listed.pointer(field), None, "a page of VMs does without it");
    }
    let refreshed = lab.post("/api/v1/vm-contexts/pgtest1/refresh", json!({})).await.unwrap();
    assert_eq!((&refreshed.body["outcome"], &refreshed.body["vm"]), (&json!("unchanged"), &one));
}

#[tokio::test]
async fn a_vm_is_found_by_id_and_by_a_name_that_only_it_has() {
    let twins = vec![
        fixtures::seen_vm("web server/1, ж", "vm-1", Vec::new()),
        fixtures::seen_vm("twin", "vm-2", Vec::new()),
        fixtures::seen_vm("twin", "vm-3", Vec::new()),
    ];
    let lab = Lab::new(twins).await.unwrap();
    lab.register_vma().await.unwrap();
    lab.post("/api/v1/discovery/add-vms", json!({"all": true})).await.unwrap();
    let odd = lab.get("/api/v1/vm-contexts/web%20server%2F1%2C%20%D0%B6").await.unwrap();
    assert_eq!(odd.body["vm_name"], "web server/1, ж", "{}", odd.text);
    let twin = lab.get("/api/v1/vm-contexts/twin").await.unwrap();
    assert_eq!(twin.problem(), (409, "vm/ambiguous-name"));
    let candidates = twin.body["candidates"].as_array().unwrap();
    assert_eq!(candidates.len(), 2);
    for candidate in candidates {
        let path = format!("/api/v1/vm-contexts/{}", candidate["context_id"].as_str().unwrap());
        assert_eq!(lab.get(&path).await.unwrap().body["vm_name"], "twin");
    }
    let ghost = lab.get("/api/v1/vm-contexts/ghost/disks").await.unwrap();
    assert_eq!(ghost.problem(), (404, "vm/not-found"));
}

#[tokio::test]
async fn a_refresh_stores_what_has_changed() {
    let lab = Lab::with_pgtest1().await.unwrap();
    let same = lab.post("/api/v1/vm-contexts/pgtest1/refresh", json!({})).await.unwrap();
    assert_eq!(same.body["outcome"], "unchanged", "{}", same.text);
    let grown = vec![fixtures::disk("disk-2000", BIG).unwrap()];
    lab.vma.set_inventory(fixtures::inventory(vec![fixtures::seen_vm("pgtest1", "vm-1", grown)]));
    let changed = lab.post("/api/v1/vm-contexts/pgtest1/refresh", json!({})).await.unwrap();
    assert_eq!(changed.body["outcome"], "updated");
    assert_eq!(changed.body["vm"]["disks"][1]["presence"], "retired");
}

#[tokio::test]
async fn a_vm_leaves_management_unless_jobs_are_at_work() {
    let lab = Lab::with_pgtest1().await.unwrap();
    let script = hub_testkit::CopyScript { stuck_at: Some(1), ..Default::default() };
    lab.vma.script(script);
    let job = lab.post("/api/v1/replications", json!({"vm_name": "pgtest1"})).await.unwrap();
    let active = lab.delete("/api/v1/vm-contexts/pgtest1").await.unwrap();
    assert_eq!(active.problem(), (409, "vm/active"));
    let location = job.header("location").to_owned();
    let cancelled = lab.post(&format!("{location}/cancel"), json!({})).await.unwrap();
    assert_eq!(cancelled.status, 202, "{}", cancelled.text);
    assert_eq!(lab.ended(&location).await.unwrap().body["status"], "cancelled");
    assert_eq!(lab.delete("/api/v1/vm-contexts/pgtest1").await.unwrap().status, 204);
    let gone = lab.get("/api/v1/vm-contexts/pgtest1").await.unwrap();
    assert_eq!(gone.problem(), (404, "vm/not-found"));
}

#[tokio::test]
async fn preflight_names_what_speaks_against_a_backup_and_of_when_it_is() {
    let mut vm = fixtures::pgtest1().unwrap();
    vm.facts.conditions.tracking_enabled = Some(false);
    vm.disks[1].conditions.rdm = Some("physical".to_owned());
    let lab = Lab::new(vec![vm.clone()]).await.unwrap();
    lab.register_vma().await.unwrap();
    let listed = lab.post("/api/v1/discovery/discover-vms", json!({})).await.unwrap();
    lab.post("/api/v1/discovery/add-vms", json!({"all": true})).await.unwrap();
    let found = lab.get("/api/v1/vm-contexts/pgtest1/preflight").await.unwrap();
    insta::assert_json_snapshot!("preflight", found.body);
    assert_eq!(found.body["concerns"], listed.body["vms"][0]["concerns"]);
    let of_both = lab.get("/api/v1/vm-contexts/pgtest1").await.unwrap();
    assert_eq!(found.body["facts_at"], of_both.body["facts_at"]);
    // A code leads to its page.
    for concern in found.body["concerns"].as_array().unwrap() {
        let page = format!("/problems/{}", concern["code"].as_str().unwrap());
        assert_eq!(lab.get(&page).await.unwrap().status, 200, "{page}");
    }
    vm.facts.conditions.template = Some(true);
    lab.vma.set_inventory(fixtures::inventory(vec![vm]));
    lab.post("/api/v1/vm-contexts/pgtest1/refresh", json!({})).await.unwrap();
    let later = lab.get("/api/v1/vm-contexts/pgtest1/preflight").await.unwrap();
    assert_eq!(later.body["can_be_copied"], false);
    let repository = lab.repository("main").await.unwrap();
    let start = json!({"vm_name": "pgtest1", "backup_type": "full", "repository_id": repository});
    let refused = lab.post("/api/v1/backup/start", start).await.unwrap();
    assert_eq!(refused.problem(), (409, "preflight/template"));
}
