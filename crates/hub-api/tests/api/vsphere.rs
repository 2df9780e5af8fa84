//! What is particular to a vCenter: logins, and snapshots that are owed.

use std::time::Instant;

use anyhow::{Result, ensure};
use hub_domain::source::SourceAbout;
use hub_testkit::{CopyScript, fixtures};
use serde_json::{Value, json};

use crate::lab::{Lab, PATIENCE};

/// A hub with a VMA that reads a vCenter, a login, a repository, and `pgtest1` under management; the repository's id.
pub(crate) async fn vcenter() -> Result<(Lab, String)> {
    let lab = Lab::new(vec![fixtures::pgtest1()?]).await?;
    lab.vma.set_about(Ok(SourceAbout::default()));
    lab.register_vma().await?;
    let login = json!({"name": "login", "vcenter_host": "vc.example.local", "username": "backup", "password": "hunter2 secret"});
    let login = lab.post("/api/v1/vmware-credentials", login).await?.text_at("/id")?;
    let wanted = json!({"credential_id": login, "vm_names": ["pgtest1"]});
    let added = lab.post("/api/v1/discovery/add-vms", wanted).await?;
    ensure!(added.body["added"] == 1, "{}", added.text);
    let repository = lab.repository("main").await?;
    Ok((lab, repository))
}

pub(crate) async fn back_up(lab: &Lab, repository: &str) -> Result<Value> {
    let body = json!({"vm_name": "pgtest1", "backup_type": "full", "repository_id": repository});
    let started = lab.post("/api/v1/backup/start", body).await?;
    ensure!(started.status == 202, "{}", started.text);
    let run = lab.ended(started.header("location")).await?;
    ensure!(run.body["status"] == "succeeded", "{}", run.text);
    Ok(run.body)
}

#[tokio::test]
async fn promise_p3_what_is_owed_is_shown_with_its_age_and_its_reason() {
    let (lab, repository) = vcenter().await.unwrap();
    let none = lab.get("/api/v1/owed-cleanups").await.unwrap();
    assert_eq!(none.body, json!({"items": [], "unreadable": []}));
    lab.vma.keep_snapshots(true);
    let run = back_up(&lab, &repository).await.unwrap();
    let owed = lab.until("/api/v1/owed-cleanups", |it| it["items"][0]["tries"] == 1).await.unwrap();
    let item = &owed.body["items"][0];
    assert_eq!((&item["job_kind"], &item["job_id"]), (&json!("backup"), &run["run_id"]));
    assert_eq!((&item["vm_name"], &item["error_code"]), (&json!("pgtest1"), &json!("vma/refused")));
    assert_eq!((&item["overdue"], &item["age_seconds"]), (&json!(false), &json!(0)));
    let health = lab.get("/api/v1/debug/health").await.unwrap();
    let sums = &health.body["system_info"]["owed_cleanups"];
    assert_eq!((&sums["count"], &sums["overdue"]), (&json!(1), &json!(0)));
    assert_eq!(sums["oldest_since"], item["owed_since"]);
    lab.vma.keep_snapshots(false);
    back_up(&lab, &repository).await.unwrap();
    let still = lab.get("/api/v1/owed-cleanups").await.unwrap();
    assert_eq!(still.body["items"].as_array().unwrap().len(), 1, "each copy owes its own");
}

#[tokio::test]
async fn an_owed_clean_up_is_struck_off_at_hub_and_vma_and_the_source_is_left_alone() {
    let (lab, repository) = vcenter().await.unwrap();
    let no = lab.delete("/api/v1/owed-cleanups/nobody").await.unwrap();
    assert_eq!(no.problem(), (404, "owed/not-found"));
    lab.vma.keep_snapshots(true);
    for (is_reachable, word) in [(true, "struck_off"), (false, "unknown")] {
        back_up(&lab, &repository).await.unwrap();
        let owed =
            lab.until("/api/v1/owed-cleanups", |it| it["items"][0]["tries"] == 1).await.unwrap();
        let copy = owed.body["items"][0]["copy_name"].as_str().unwrap();
        let path = format!("/api/v1/owed-cleanups/{copy}");
        let (asked, there) = (lab.vma.calls("vma.clean_up"), lab.vma.snapshots());
        lab.vma.set_reachable(is_reachable);
        let done = lab.delete(&path).await.unwrap();
        assert_eq!(done.status, 200, "{}", done.text);
        assert_eq!(
            (&done.body["struck_off"]["copy_name"], &done.body["vma_record"]),
            (&json!(copy), &json!(word))
        );
        assert_eq!(done.body["vma_error"].is_string(), !is_reachable, "{}", done.text);
        assert_eq!((lab.vma.calls("vma.clean_up"), lab.vma.snapshots()), (asked, there));
        assert_eq!(
            lab.get("/api/v1/owed-cleanups").await.unwrap().body,
            json!({"items": [], "unreadable": []})
        );
        assert_eq!(lab.delete(&path).await.unwrap().problem(), (404, "owed/not-found"));
    }
    lab.vma.set_reachable(true);
    lab.vma.script(CopyScript { stuck_at: Some(1), ..CopyScript::default() });
    let body = json!({"vm_name": "pgtest1", "backup_type": "full", "repository_id": repository});
    let run = lab.post("/api/v1/backup/start", body).await.unwrap();
    let owed = lab
        .until("/api/v1/owed-cleanups", |it| it["items"][0]["copy_name"].is_string())
        .await
        .unwrap();
    let copy = owed.body["items"][0]["copy_name"].as_str().unwrap();
    let refused = lab.delete(&format!("/api/v1/owed-cleanups/{copy}")).await.unwrap();
    assert_eq!(refused.problem(), (409, "owed/at-work"), "it needs its snapshot");
    let run = run.header("location").to_owned();
    lab.post(&format!("{run}/cancel"), json!({})).await.unwrap();
    lab.ended(&run).await.unwrap();
}

async fn register(lab: &Lab, name: &str) -> Result<String> {
    let url = format!("http://{name}:8081");
    let body = json!({"name": name, "url": url, "token": "0123456789abcdef"});
    lab.post("/api/v1/vma-nodes", body).await?.text_at("/id")
}

#[tokio::test]
async fn a_login_is_tried_by_a_vma_that_reads_its_endpoint_or_by_nobody() {
    let lab = Lab::new(vec![fixtures::pgtest1().unwrap()]).await.unwrap();
    let login =
        |host: &str| json!({"name": host, "vcenter_host": host, "username": "u", "password": "p"});
    let here = lab
        .post("/api/v1/vmware-credentials", login("https://VC.example.local/sdk"))
        .await
        .unwrap();
    let elsewhere =
        lab.post("/api/v1/vmware-credentials", login("vc2.example.local")).await.unwrap();
    let test = |made: &crate::lab::Reply| format!("{}/test", made.header("location"));
    let nobody = lab.post(&test(&here), json!({})).await.unwrap();
    assert_eq!(nobody.problem(), (409, "credential/no-vma"));
    register(&lab, "a-folder").await.unwrap();
    lab.vma.set_about(Ok(SourceAbout::default()));
    let reads = register(&lab, "b-vsphere").await.unwrap();
    let node = lab.get(&format!("/api/v1/vma-nodes/{reads}")).await.unwrap();
    assert_eq!(node.body["source_host"], fixtures::VCENTER);
    let works = lab.post(&test(&here), json!({})).await.unwrap();
    assert_eq!(works.body["ok"], true, "{}", works.text);
    let nobody = lab.post(&test(&elsewhere), json!({})).await.unwrap();
    assert_eq!(nobody.problem(), (409, "credential/no-vma"));
    assert!(nobody.text.contains("vc2.example.local"), "{}", nobody.text);
}

#[tokio::test]
async fn discovery_takes_the_vma_that_reads_the_endpoint_of_the_login() {
    let (lab, _) = vcenter().await.unwrap();
    register(&lab, "another").await.unwrap();
    let nodes = lab.get("/api/v1/vma-nodes").await.unwrap();
    let (first, second) = (&nodes.body["items"][0], &nodes.body["items"][1]);
    assert_eq!(
        (&first["source_host"], &second["source_host"]),
        (&json!(fixtures::VCENTER), &json!(fixtures::VCENTER))
    );
    let unnamed = lab.post("/api/v1/discovery/discover-vms", json!({})).await.unwrap();
    assert_eq!(unnamed.problem(), (400, "discovery/vma-node-needed"));
    let logins = lab.get("/api/v1/vmware-credentials").await.unwrap();
    let login = &logins.body["items"][0]["id"];
    let found =
        lab.post("/api/v1/discovery/discover-vms", json!({"credential_id": login})).await.unwrap();
    assert_eq!(found.body["vms"][0]["managed"], true, "{}", found.text);
}

#[tokio::test]
async fn what_is_known_of_a_vm_is_refreshed_before_its_copy_begins() {
    let (lab, repository) = vcenter().await.unwrap();
    let mut grown = fixtures::pgtest1().unwrap();
    grown.disks[0].backing_uuid = Some("one".to_owned());
    grown.disks[1] = fixtures::disk("disk-2001", 2 * fixtures::SMALL).unwrap();
    lab.vma.set_inventory(fixtures::inventory(vec![grown.clone()]));
    let run = back_up(&lab, &repository).await.unwrap();
    assert_eq!(run["backups"][1]["capacity_bytes"], json!(2 * fixtures::SMALL), "{run}");
    grown.disks.push(fixtures::disk("disk-2002", fixtures::SMALL).unwrap());
    lab.vma.set_inventory(fixtures::inventory(vec![grown.clone()]));
    let run = back_up(&lab, &repository).await.unwrap();
    assert_eq!(run["backups"].as_array().unwrap().len(), grown.disks.len(), "all disks: {run}");
    // One that took the place of another is told from it, however it is asked for.
    grown.disks[0].backing_uuid = Some("another".to_owned());
    lab.vma.set_inventory(fixtures::inventory(vec![grown.clone()]));
    let body = json!({"vm_name": "pgtest1", "disk_id": "disk-2000", "backup_type": "incremental",
        "repository_id": repository});
    let started = lab.post("/api/v1/backup/start", body).await.unwrap();
    assert_eq!(started.status, 202, "{}", started.text);
    let run = lab.ended(started.header("location")).await.unwrap();
    assert_eq!(run.body["backups"][0]["backup_type"], "full", "a chain of its own: {}", run.text);
    // What forbids a copy by now is told before anything is stored.
    grown.facts.conditions.template = Some(true);
    lab.vma.set_inventory(fixtures::inventory(vec![grown]));
    let orders = lab.vma.orders().len();
    let body = json!({"vm_name": "pgtest1", "backup_type": "full", "repository_id": repository});
    let refused = lab.post("/api/v1/backup/start", body).await.unwrap();
    assert_eq!(refused.status, 409, "{}", refused.text);
    assert!(refused.text.contains("template"), "{}", refused.text);
    assert_eq!(lab.vma.orders().len(), orders);
}

#[tokio::test]
async fn a_copy_begins_although_nobody_can_say_what_has_changed() {
    let (lab, repository) = vcenter().await.unwrap();
    lab.vma.set_inventory(fixtures::inventory(Vec::new()));
    back_up(&lab, &repository).await.unwrap();
}

#[tokio::test]
async fn a_vcenter_has_a_limit_of_its_own_and_who_waits_for_it_says_so() {
    let (lab, repository) = vcenter().await.unwrap();
    let mut vms = vec![fixtures::pgtest1().unwrap()];
    vms.push(fixtures::seen_vm(
        "other",
        "vm-9",
        vec![fixtures::disk("disk-2000", 1 << 30).unwrap()],
    ));
    lab.vma.set_inventory(fixtures::inventory(vms.clone()));
    let logins = lab.get("/api/v1/vmware-credentials").await.unwrap();
    let login = logins.body["items"][0]["id"].as_str().unwrap().to_owned();
    let wanted = json!({"credential_id": login, "vm_names": ["other"]});
    assert_eq!(lab.post("/api/v1/discovery/add-vms", wanted).await.unwrap().body["added"], 1);
    let path = format!("/api/v1/vmware-credentials/{login}");
    let set = lab.patch(&path, json!({"max_concurrent_copies": 1})).await.unwrap();
    assert_eq!(set.body["max_concurrent_copies"], 1, "{}", set.text);
    let zero = lab.patch(&path, json!({"max_concurrent_copies": 0})).await.unwrap();
    assert_eq!(zero.problem(), (400, "request/invalid-field"));
    lab.vma.script(CopyScript { stuck_at: Some(1), ..CopyScript::default() });
    let body =
        |name: &str| json!({"vm_name": name, "backup_type": "full", "repository_id": repository});
    let first = lab.post("/api/v1/backup/start", body("pgtest1")).await.unwrap();
    let second = lab.post("/api/v1/backup/start", body("other")).await.unwrap();
    let waits = |run: &Value| run["waiting"]["limited_by"] == "source";
    let waiting = lab.until(second.header("location"), waits).await.unwrap();
    let reason = waiting.text_at("/waiting/reason").unwrap();
    assert_eq!(reason, "1 of 1 copies from vc.example.local are at work; 1st in line");
    // While it waits, its disk grows: it is copied as it is when its turn comes.
    vms[1].disks[0] = fixtures::disk("disk-2000", 2 << 30).unwrap();
    lab.vma.set_inventory(fixtures::inventory(vms));
    lab.vma.script(CopyScript::default());
    lab.clock.advance(chrono::TimeDelta::seconds(6));
    let lifted = lab.patch(&path, json!({"max_concurrent_copies": null})).await.unwrap();
    assert_eq!(lifted.body["max_concurrent_copies"], Value::Null);
    let ended = lab.ended(second.header("location")).await.unwrap();
    assert_eq!(ended.body["status"], "succeeded", "{}", ended.text);
    assert_eq!(ended.body["backups"][0]["capacity_bytes"], json!(2_u64 << 30), "{}", ended.text);
    let cancel = format!("{}/cancel", first.header("location"));
    assert_eq!(lab.post(&cancel, json!({})).await.unwrap().status, 202);
    lab.ended(first.header("location")).await.unwrap();
}

#[tokio::test]
async fn a_copy_that_does_not_wait_has_its_source_asked_once() {
    let (lab, repository) = vcenter().await.unwrap();
    let before = lab.vma.inventory_calls();
    back_up(&lab, &repository).await.unwrap();
    assert_eq!(lab.vma.inventory_calls(), before + 1);
    // An answer that did not come is no answer: the turn asks again.
    let node = lab.get("/api/v1/vma-nodes").await.unwrap().text_at("/items/0/id").unwrap();
    lab.vma.silence(node.parse().unwrap(), "vma.inventory");
    let asked = lab.vma.calls("vma.inventory");
    back_up(&lab, &repository).await.unwrap();
    assert_eq!(lab.vma.calls("vma.inventory"), asked + 2);
}

/// `pgtest1` and `other` at one vCenter, their own VMA and another one there; a body that backs one up, and the VMAs.
async fn two_vmas() -> Result<(Lab, impl Fn(&str) -> Value, [String; 2])> {
    let (lab, repository) = vcenter().await?;
    let other = fixtures::disk("disk-2000", 1 << 30)?;
    let vms = vec![fixtures::pgtest1()?, fixtures::seen_vm("other", "vm-9", vec![other])];
    lab.vma.set_inventory(fixtures::inventory(vms));
    let login = lab.get("/api/v1/vmware-credentials").await?.text_at("/items/0/id")?;
    let wanted = json!({"credential_id": login, "vm_names": ["other"]});
    ensure!(lab.post("/api/v1/discovery/add-vms", wanted).await?.body["added"] == 1);
    let own = lab.get("/api/v1/vma-nodes").await?.text_at("/items/0/id")?;
    let another = register(&lab, "another").await?;
    let body = move |name: &str| json!({"vm_name": name, "backup_type": "full", "repository_id": repository});
    Ok((lab, body, [own, another]))
}

#[tokio::test]
async fn what_another_vma_copies_in_the_place_of_a_silent_one_counts_against_its_limit() {
    let (lab, body, [own, another]) = two_vmas().await.unwrap();
    let limit = |vma: &str| format!("/api/v1/vma-nodes/{vma}");
    lab.patch(&limit(&another), json!({"max_concurrent_copies": 1})).await.unwrap();
    lab.vma.silence(own.parse().unwrap(), "");
    lab.vma.script(CopyScript { stuck_at: Some(1), ..CopyScript::default() });
    let first = lab.post("/api/v1/backup/start", body("pgtest1")).await.unwrap();
    let begun = |run: &Value| !run["copied_by"].is_null();
    let begun = lab.until(first.header("location"), begun).await.unwrap();
    assert_eq!(begun.body["copied_by"]["vma_name"], "another", "{}", begun.text);
    assert_eq!(begun.body["warnings"][0]["code"], "vm/other-vma", "{}", begun.text);
    let second = lab.post("/api/v1/backup/start", body("other")).await.unwrap();
    let waits = |run: &Value| run["waiting"]["limited_by"] == "vma";
    let waiting = lab.until(second.header("location"), waits).await.unwrap();
    let reason = waiting.text_at("/waiting/reason").unwrap();
    assert_eq!(reason, "1 of 1 copies of VMA another are at work; 1st in line");
    for run in [second, first] {
        let cancel = format!("{}/cancel", run.header("location"));
        assert_eq!(lab.post(&cancel, json!({})).await.unwrap().status, 202);
        lab.ended(run.header("location")).await.unwrap();
    }
}

#[tokio::test]
async fn a_copy_whose_vma_has_fallen_silent_while_it_waited_joins_the_line_of_another() {
    let (lab, body, [own, another]) = two_vmas().await.unwrap();
    let path = format!("/api/v1/vma-nodes/{own}");
    lab.patch(&path, json!({"max_concurrent_copies": 1})).await.unwrap();
    lab.vma.script(CopyScript { stuck_at: Some(1), ..CopyScript::default() });
    let first = lab.post("/api/v1/backup/start", body("pgtest1")).await.unwrap();
    lab.until(first.header("location"), |run| !run["copied_by"].is_null()).await.unwrap();
    let second = lab.post("/api/v1/backup/start", body("other")).await.unwrap();
    let waits = |run: &Value| run["waiting"]["limited_by"] == "vma";
    lab.until(second.header("location"), waits).await.unwrap();
    lab.vma.silence(own.parse().unwrap(), "");
    lab.vma.script(CopyScript::default());
    lab.patch(&path, json!({"max_concurrent_copies": null})).await.unwrap();
    let waits = |run: &Value| !run["waiting"].is_null();
    lab.until(second.header("location"), |run| !waits(run)).await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    let ended = loop {
        assert!(Instant::now() < deadline, "it was never taken up");
        lab.api.claim_unclaimed().await.unwrap();
        let run = lab.get(second.header("location")).await.unwrap();
        if run.body["status"] != "queued" {
            break lab.ended(second.header("location")).await.unwrap();
        }
    };
    assert_eq!(ended.body["status"], "succeeded", "{}", ended.text);
    assert_eq!(ended.body["copied_by"]["vma_node_id"], another.as_str(), "{}", ended.text);
    lab.vma.unsilence(own.parse().unwrap());
    let cancel = format!("{}/cancel", first.header("location"));
    assert_eq!(lab.post(&cancel, json!({})).await.unwrap().status, 202);
    lab.ended(first.header("location")).await.unwrap();
}
