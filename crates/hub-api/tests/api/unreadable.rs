//! Rows of the catalogue that cannot be read: every list shows what is beside them, says which they are, and goes past.

use anyhow::{Result, ensure};
use hub_testkit::fixtures;
use serde_json::{Value, json};

use crate::lab::Lab;

/// A lab with two VMs, each with a backup, a replication, a restore and a verification.
async fn with_two() -> Result<Lab> {
    let other = fixtures::seen_vm("pgtest2", "vm-2", fixtures::pgtest1()?.disks);
    let lab = Lab::new(vec![fixtures::pgtest1()?, other]).await?;
    lab.register_vma().await?;
    let added = lab.post("/api/v1/discovery/add-vms", json!({"all": true})).await?;
    ensure!(added.body["added"] == 2, "{}", added.text);
    lab.repository("spare").await?;
    let repository = lab.repository("main").await?;
    for vm in ["pgtest1", "pgtest2"] {
        let body = json!({"vm_name": vm, "disk_id": 0, "backup_type": "full", "repository_id": repository});
        let run = lab.post("/api/v1/backups", body).await?;
        let ended = lab.ended(run.header("location")).await?;
        ensure!(ended.body["status"] == "succeeded", "{}", ended.text);
        let point = ended.text_at("/backups/0/backup_id")?;
        let body = json!({"backup_id": point, "format": "raw"});
        for (path, body) in [
            ("/api/v1/replications".to_owned(), json!({"vm_name": vm})),
            ("/api/v1/restores".to_owned(), body),
            (format!("/api/v1/backups/{point}/verify"), json!({})),
        ] {
            let started = lab.post(&path, body).await?;
            ensure!(started.status == 202, "{path} {}", started.text);
            lab.ended(started.header("location")).await?;
        }
        let login = json!({"name": vm, "vcenter_host": "vc", "username": "u", "password": "p"});
        ensure!(lab.post("/api/v1/vmware-credentials", login).await?.status == 201);
    }
    Ok(lab)
}

/// The id of an item, whatever it is called.
fn id(item: &Value) -> Result<String> {
    let names = ["id", "context_id", "backup_id"];
    let found = names.iter().find_map(|name| item[name].as_str());
    found.map(str::to_owned).ok_or_else(|| anyhow::anyhow!("no id in {item}"))
}

/// Walks a list in pages of one; the ids that it shows, and those that it cannot read.
async fn walk(lab: &Lab, list: &str) -> Result<(Vec<String>, Vec<String>)> {
    let (mut shown, mut unreadable) = (Vec::new(), Vec::new());
    let mut path = format!("{list}?limit=1");
    loop {
        let page = lab.get(&path).await?;
        ensure!(page.status == 200, "{path}: {}", page.text);
        for item in page.body["items"].as_array().into_iter().flatten() {
            shown.push(id(item)?);
        }
        for row in page.body["unreadable"].as_array().into_iter().flatten() {
            ensure!(row["problem"] == "garbled by the test" && row["table"].is_string(), "{row}");
            unreadable.push(id(row)?);
        }
        let Some(next) = page.body["next"].as_str() else { return Ok((shown, unreadable)) };
        path = format!("{list}?limit=1&after={next}");
    }
}

#[tokio::test]
async fn every_list_goes_past_a_row_that_cannot_be_read() {
    let lab = with_two().await.unwrap();
    for (list, table) in [
        ("/api/v1/vm-contexts", "vm_replication_contexts"),
        ("/api/v1/backups", "backup_jobs"),
        ("/api/v1/backup/list", "backup_jobs"),
        ("/api/v1/replications", "replication_jobs"),
        ("/api/v1/restores", "restore_jobs"),
        ("/api/v1/verifications", "verifications"),
        ("/api/v1/repositories", "backup_repositories"),
        ("/api/v1/vmware-credentials", "vmware_credentials"),
    ] {
        let (all, none) = walk(&lab, list).await.unwrap();
        assert!(all.len() >= 2 && none.is_empty(), "{list}: {all:?} {none:?}");
        for garbled in &all {
            lab.store.garble(table, garbled);
            let (shown, unreadable) = walk(&lab, list).await.unwrap();
            assert_eq!(unreadable, std::slice::from_ref(garbled), "{list}");
            let rest: Vec<String> = all.iter().filter(|it| *it != garbled).cloned().collect();
            assert_eq!(shown, rest, "{list}");
            let health = lab.get("/api/v1/debug/health").await.unwrap();
            assert_eq!(health.body["alarms"]["unreadable_rows"], 1, "{}", health.text);
            lab.store.mend();
        }
        assert_eq!(walk(&lab, list).await.unwrap().0, all);
    }
    let node = walk(&lab, "/api/v1/vma-nodes").await.unwrap().0.remove(0);
    lab.store.garble("vma_nodes", &node);
    assert_eq!(walk(&lab, "/api/v1/vma-nodes").await.unwrap(), (Vec::new(), vec![node]));
}

#[tokio::test]
async fn a_disk_that_cannot_be_read_is_told_at_its_vm_and_stops_its_backup_only() {
    let lab = with_two().await.unwrap();
    let disks = lab.get("/api/v1/vm-contexts/pgtest1/disks").await.unwrap();
    let garbled = disks.body["items"][1]["id"].as_i64().unwrap();
    lab.store.garble("vm_disks", garbled);
    let page = lab.get("/api/v1/vm-contexts").await.unwrap();
    let vms = page.body["items"].as_array().unwrap();
    let disks =
        |vm: &Value| (vm["disks"].as_array().unwrap().len(), vm["unreadable_disks"].clone());
    assert_eq!(disks(&vms[1]), (2, json!([])));
    let (left, unreadable) = disks(&vms[0]);
    assert_eq!(
        (left, &unreadable[0]["id"], &unreadable[0]["of"]),
        (1, &json!(garbled.to_string()), &vms[0]["context_id"])
    );
    let shown = lab.get("/api/v1/vm-contexts/pgtest1").await.unwrap();
    assert_eq!(shown.body["unreadable_disks"], unreadable);
    let shown = lab.get("/api/v1/vm-contexts/pgtest1/disks").await.unwrap();
    assert_eq!(
        (&shown.body["unreadable"], shown.body["items"].as_array().unwrap().len()),
        (&unreadable, 1)
    );
    let repositories = lab.get("/api/v1/repositories").await.unwrap();
    let start = async |vm: &str| {
        let body = json!({"vm_name": vm, "backup_type": "full", "repository_id": repositories.body["items"][0]["id"]});
        lab.post("/api/v1/backups", body).await.unwrap()
    };
    assert_eq!(start("pgtest1").await.problem(), (500, "store/corrupt"));
    assert_eq!(start("pgtest2").await.status, 202);
}

#[tokio::test]
async fn a_discovery_shows_what_is_beside_a_vm_that_cannot_be_read() {
    let lab = with_two().await.unwrap();
    let vms = walk(&lab, "/api/v1/vm-contexts").await.unwrap().0;
    lab.store.garble("vm_replication_contexts", &vms[0]);
    let found = lab.post("/api/v1/discovery/discover-vms", json!({})).await.unwrap();
    assert_eq!(found.status, 200, "{}", found.text);
    assert_eq!(found.body["unreadable"][0]["id"], json!(vms[0]));
    let managed: Vec<&Value> =
        found.body["vms"].as_array().unwrap().iter().map(|vm| &vm["managed"]).collect();
    assert_eq!(managed, [false, true]);
    // Nor is it added once more, and the other is brought up to date.
    let added = lab.post("/api/v1/discovery/add-vms", json!({"all": true})).await.unwrap();
    assert_eq!(
        (&added.body["failed"], &added.body["unchanged"]),
        (&json!(1), &json!(1)),
        "{}",
        added.text
    );
    assert_eq!(added.body["results"][0]["error"]["code"], "store/corrupt");
    // Its jobs are listed without its name.
    let replications = lab.get("/api/v1/replications").await.unwrap();
    assert_eq!(replications.body["items"].as_array().unwrap().len(), 2, "{}", replications.text);
}

#[tokio::test]
async fn a_chain_that_cannot_be_read_hides_none_beside_it() {
    let lab = with_two().await.unwrap();
    let backups = walk(&lab, "/api/v1/backups").await.unwrap().0;
    lab.store.garble("backup_jobs", &backups[0]);
    let chains = lab.get("/api/v1/backup/chain?vm_name=pgtest1&disk_id=0").await.unwrap();
    assert_eq!((chains.status, &chains.body["chains"]), (200, &json!([])), "{}", chains.text);
    assert_eq!(chains.body["unreadable"][0]["id"], json!(backups[0]));
    let chains = lab.get("/api/v1/backup/chain?vm_name=pgtest2&disk_id=0").await.unwrap();
    assert_eq!(chains.body["chains"][0]["latest_backup_id"], json!(backups[1]), "{}", chains.text);
    let bad = lab.get("/api/v1/backups?after=garbled").await.unwrap();
    assert_eq!(bad.status, 400);
    assert_eq!(lab.get("/api/v1/backups?after=stored:garbled").await.unwrap().status, 200);
}
