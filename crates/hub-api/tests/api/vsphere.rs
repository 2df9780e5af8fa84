//! What is particular to a vCenter: logins, and snapshots that are owed.

use anyhow::{Result, ensure};
use hub_domain::source::SourceAbout;
use hub_testkit::fixtures;
use serde_json::{Value, json};

use crate::lab::Lab;

/// A hub with a VMA that reads a vCenter, a login, a repository, and `pgtest1` under management; the repository's id.
async fn vcenter() -> Result<(Lab, String)> {
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

async fn back_up(lab: &Lab, repository: &str) -> Result<Value> {
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
    assert_eq!(none.body, json!({"items": []}));
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
