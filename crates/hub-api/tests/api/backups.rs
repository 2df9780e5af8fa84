//! Backups, restore points and chains, under both families of paths.

use actix_web::App;
use actix_web::dev::Service;
use actix_web::test::{TestRequest, init_service};
use anyhow::{Result, ensure};
use futures::FutureExt;
use hub_testkit::{CopyScript, fixtures};
use serde_json::{Value, json};

use crate::lab::{Lab, Reply};

/// Starts a backup, waits for its end, and returns the run.
async fn backed_up(lab: &Lab, body: Value) -> Result<Reply> {
    let started = lab.post("/api/v1/backup/start", body).await?;
    ensure!(started.status == 202, "{}", started.text);
    let run = lab.ended(started.header("location")).await?;
    ensure!(run.body["status"] == "succeeded", "{}", run.text);
    Ok(run)
}

fn all_disks(backup_type: &str, repository: &str) -> Value {
    json!({"vm_name": "pgtest1", "backup_type": backup_type, "repository_id": repository})
}

#[tokio::test]
async fn story_4_two_disks_have_two_chains() {
    let lab = Lab::with_pgtest1().await.unwrap();
    let repository = lab.repository("main").await.unwrap();
    let full = backed_up(&lab, all_disks("full", &repository)).await.unwrap();
    insta::assert_json_snapshot!("backup_run", full.body);
    let more = backed_up(&lab, all_disks("incremental", &repository)).await.unwrap();
    for disk in [0, 1] {
        let path = format!("/api/v1/backup/chain?vm_name=pgtest1&disk_id={disk}");
        let chain = lab.get(&path).await.unwrap();
        assert_eq!(chain.body["disk_id"], disk, "{}", chain.text);
        let only = &chain.body["chains"][0];
        assert_eq!(only["count"], 2);
        assert_eq!(only["full_backup_id"], full.body["backups"][disk]["backup_id"]);
        assert_eq!(only["latest_backup_id"], more.body["backups"][disk]["backup_id"]);
        assert_eq!(only["points"][1]["parent_backup_id"], only["full_backup_id"]);
        let by_key = format!("/api/v1/backup/chain?vm_name=pgtest1&disk_id=disk-200{disk}");
        assert_eq!(lab.get(&by_key).await.unwrap().body, chain.body);
        let tip = only["latest_backup_id"].as_str().unwrap();
        let points = lab.get(&format!("/api/v1/backups/{tip}/chain")).await.unwrap();
        assert_eq!(points.body["points"], only["points"]);
    }
    let elsewhere = "/api/v1/backup/chain?vm_name=pgtest1&disk_id=0&repository_id=00000000-0000-0000-0000-00000000ffff";
    assert_eq!(lab.get(elsewhere).await.unwrap().body["chains"], json!([]));
}

#[tokio::test]
async fn both_families_of_paths_answer_the_same() {
    let lab = Lab::with_pgtest1().await.unwrap();
    let repository = lab.repository("main").await.unwrap();
    let run = backed_up(&lab, all_disks("full", &repository)).await.unwrap();
    let id = run.text_at("/backups/0/backup_id").unwrap();
    for query in ["", "?vm_name=pgtest1", "?disk_id=1", "?status=failed", "?limit=1"] {
        let one = lab.get(&format!("/api/v1/backup/list{query}")).await.unwrap();
        let other = lab.get(&format!("/api/v1/backups{query}")).await.unwrap();
        assert_eq!(one.status, 200, "{query}: {}", one.text);
        assert_eq!(one.body, other.body, "{query}");
    }
    let one = lab.get(&format!("/api/v1/backup/{id}")).await.unwrap();
    assert_eq!(one.body, lab.get(&format!("/api/v1/backups/{id}")).await.unwrap().body);
    assert_eq!(one.body, run.body["backups"][0]);
}

#[tokio::test]
async fn a_disk_is_asked_for_by_ordinal_or_by_the_hypervisor_s_id() {
    let lab = Lab::with_pgtest1().await.unwrap();
    let repository = lab.repository("main").await.unwrap();
    for (disk, ordinal) in
        [(json!(0), 0), (json!("0"), 0), (json!(1.0), 1), (json!("disk-2001"), 1)]
    {
        let mut body = all_disks("full", &repository);
        body["disk_id"] = disk.clone();
        let run = backed_up(&lab, body).await.unwrap();
        assert_eq!(run.body["backups"].as_array().unwrap().len(), 1, "{disk}");
        assert_eq!(run.body["backups"][0]["disk_id"], ordinal, "{disk}");
    }
    for (disk, code) in [
        (json!(-1), "request/invalid-field"),
        (json!("-1"), "request/invalid-field"),
        (json!(0.5), "request/invalid-field"),
        (json!(""), "request/invalid-field"),
        (json!("x"), "backup/disk-not-found"),
        (json!(7), "backup/disk-not-found"),
        (json!(true), "request/invalid-body"),
    ] {
        let mut body = all_disks("full", &repository);
        body["disk_id"] = disk.clone();
        let refused = lab.post("/api/v1/backups", body).await.unwrap();
        assert_eq!(refused.problem(), (400, code), "{disk}");
    }
}

#[tokio::test]
async fn bad_backups_are_refused_with_what_to_do() {
    let bare = fixtures::seen_vm("bare", "vm-9", Vec::new());
    let lab = Lab::new(vec![fixtures::pgtest1().unwrap(), bare]).await.unwrap();
    lab.register_vma().await.unwrap();
    lab.post("/api/v1/discovery/add-vms", json!({"all": true})).await.unwrap();
    let repository = lab.repository("main").await.unwrap();
    let mut ghost = all_disks("full", &repository);
    ghost["vm_name"] = json!("ghost");
    let reply = lab.post("/api/v1/backups", ghost).await.unwrap();
    assert_eq!(reply.problem(), (404, "vm/not-found"));
    for none in ["none", "00000000-0000-0000-0000-00000000ffff"] {
        let reply = lab.post("/api/v1/backups", all_disks("full", none)).await.unwrap();
        assert_eq!(reply.problem(), (404, "repository/not-found"), "{none}");
    }
    let mut bare = all_disks("full", &repository);
    bare["vm_name"] = json!("bare");
    let reply = lab.post("/api/v1/backups", bare).await.unwrap();
    assert_eq!(reply.problem(), (400, "backup/no-disks"));
    let said = reply.text_at("/detail").unwrap();
    assert_eq!(said, "VM disk information not available - run discovery first");
    let mut seven = all_disks("full", &repository);
    seven["disk_id"] = json!(7);
    let reply = lab.post("/api/v1/backups", seven).await.unwrap();
    assert_eq!(reply.text_at("/detail").unwrap(), "disk_id 7 not found for VM pgtest1");
}

#[tokio::test]
async fn p8_the_same_backup_twice_is_one_run_and_another_is_refused() {
    let lab = Lab::with_pgtest1().await.unwrap();
    let repository = lab.repository("main").await.unwrap();
    lab.vma.script(CopyScript { stuck_at: Some(1), ..CopyScript::default() });
    let same = all_disks("full", &repository);
    let first = lab.post("/api/v1/backups", same.clone()).await.unwrap();
    let second = lab.post("/api/v1/backup/start", same).await.unwrap();
    assert_eq!((first.status, second.status), (202, 202), "{}", second.text);
    assert_eq!(first.body["run_id"], second.body["run_id"]);
    let other = lab.post("/api/v1/backups", all_disks("incremental", &repository)).await.unwrap();
    assert_eq!(other.problem(), (409, "backup/already-running"));
    let id = first.text_at("/backups/0/backup_id").unwrap();
    let active = lab.delete(&format!("/api/v1/backups/{id}")).await.unwrap();
    assert_eq!(active.problem(), (409, "backup/active"));
    let location = first.header("location").to_owned();
    lab.until(&location, |run| run["status"] == "running").await.unwrap();
    let cancelled = lab.post(&format!("{location}/cancel"), json!({})).await.unwrap();
    assert_eq!(cancelled.status, 202, "{}", cancelled.text);
    assert_eq!(lab.ended(&location).await.unwrap().body["status"], "cancelled");
    let none = lab.post("/api/v1/backup-runs/none/cancel", json!({})).await.unwrap();
    assert_eq!(none.problem(), (404, "backup/run-not-found"));
}

/// Trap U30: a point whose deletion has begun may have lost its files, and is not shown as if it had them.
#[tokio::test]
async fn u30_a_deletion_that_failed_is_seen_and_can_be_ended() {
    let lab = Lab::with_pgtest1().await.unwrap();
    let repository = lab.repository("main").await.unwrap();
    let full = backed_up(&lab, all_disks("full", &repository)).await.unwrap();
    let point = format!("/api/v1/backups/{}", full.text_at("/backups/0/backup_id").unwrap());
    assert_eq!(lab.get(&point).await.unwrap().body["deleting_since"], json!(null));
    lab.storage_steps.take_down("storage.delete");
    assert!(lab.delete(&point).await.unwrap().status >= 500);
    lab.storage_steps.heal();
    let left = lab.get(&point).await.unwrap();
    assert!(left.body["deleting_since"].is_string(), "{}", left.text);
    assert_eq!(lab.delete(&point).await.unwrap().status, 204);
    assert_eq!(lab.get(&point).await.unwrap().problem(), (404, "backup/not-found"));
}

#[tokio::test]
async fn p10_what_others_stand_on_is_not_removed() {
    let lab = Lab::with_pgtest1().await.unwrap();
    let repository = lab.repository("main").await.unwrap();
    let full = backed_up(&lab, all_disks("full", &repository)).await.unwrap();
    let more = backed_up(&lab, all_disks("incremental", &repository)).await.unwrap();
    let base = format!("/api/v1/backups/{}", full.text_at("/backups/0/backup_id").unwrap());
    let tip = more.text_at("/backups/0/backup_id").unwrap();
    let refused = lab.delete(&base).await.unwrap();
    assert_eq!(refused.problem(), (409, "backup/has-children"));
    assert_eq!(refused.body["children"], json!([tip]));
    assert_eq!(lab.delete(&format!("/api/v1/backup/{tip}")).await.unwrap().status, 204);
    assert_eq!(lab.delete(&base).await.unwrap().status, 204);
    assert_eq!(lab.get(&base).await.unwrap().problem(), (404, "backup/not-found"));
    assert_eq!(lab.storage.sealed().len(), 2, "the other disk's points stay");
    let stats = lab.get("/api/v1/backups/stats").await.unwrap();
    assert_eq!((&stats.body["jobs"], &stats.body["points"]), (&json!(2), &json!(2)));
}

#[tokio::test]
async fn trap_c10_backups_are_found_after_their_vm_is_gone() {
    let lab = Lab::with_pgtest1().await.unwrap();
    let repository = lab.repository("main").await.unwrap();
    let run = backed_up(&lab, all_disks("full", &repository)).await.unwrap();
    let vm = run.text_at("/vm_context_id").unwrap();
    assert_eq!(lab.delete("/api/v1/vm-contexts/pgtest1").await.unwrap().status, 204);
    for query in ["vm_name=pgtest1".to_owned(), format!("vm_context_id={vm}")] {
        let listed = lab.get(&format!("/api/v1/backups?{query}")).await.unwrap();
        assert_eq!(listed.body["items"].as_array().map(Vec::len), Some(2), "{}", listed.text);
        let chain =
            lab.get(&format!("/api/v1/backup/chain?{query}&disk_id=disk-2001")).await.unwrap();
        assert_eq!(chain.body["chains"][0]["count"], 1, "{}", chain.text);
    }
    let ghost = lab.get("/api/v1/backups?vm_name=ghost").await.unwrap();
    assert_eq!(ghost.problem(), (404, "vm/not-found"));
}

#[tokio::test]
async fn a_client_that_hangs_up_does_not_stop_what_it_began() {
    let lab = Lab::with_pgtest1().await.unwrap();
    let repository = lab.repository("main").await.unwrap();
    let service = init_service(App::new().configure(|it| lab.api.configure(it))).await;
    let request =
        TestRequest::post().uri("/api/v1/backups").set_json(all_disks("full", &repository));
    let request = lab.with_token(request).to_request();
    // Poll until the work is begun on the hub's runtime, and hang up at the first wait after that.
    let begun = lab.store_steps.log().len();
    let mut call = Box::pin(service.call(request));
    while lab.store_steps.log().len() == begun {
        assert!(
            call.as_mut().now_or_never().is_none(),
            "the call was answered before it could be dropped"
        );
        tokio::task::yield_now().await;
    }
    drop(call);
    let done = |list: &Value| {
        let items = list["items"].as_array().cloned().unwrap_or_default();
        items.len() == 2 && items.iter().all(|it| it["status"] == "succeeded")
    };
    lab.until("/api/v1/backups", done).await.unwrap();
}
