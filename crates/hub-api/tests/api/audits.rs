//! A source that lied about changes, as everything shows it that an operator may look at.

use anyhow::{Result, ensure};
use hub_domain::audit::Lie;
use hub_domain::disk::DiskKey;
use hub_testkit::CopyScript;
use serde_json::{Value, json};

use crate::lab::{Lab, Reply};

/// Backs the first disk up, and returns its backup.
async fn backed_up(lab: &Lab, backup_type: &str, repository: &str) -> Result<Value> {
    let body = json!({
        "vm_name": "pgtest1", "disk_id": 0, "backup_type": backup_type,
        "repository_id": repository, "audit_runs": 50,
    });
    let started = lab.post("/api/v1/backups", body).await?;
    ensure!(started.status == 202, "{}", started.text);
    let run: Reply = lab.ended(started.header("location")).await?;
    ensure!(run.body["status"] == "succeeded", "{}", run.text);
    ensure!(run.body["audit_runs"] == 50, "{}", run.text);
    Ok(run.body["backups"][0].clone())
}

async fn alarms(lab: &Lab) -> Result<Value> {
    Ok(lab.get("/api/v1/debug/health").await?.body["alarms"].clone())
}

#[tokio::test]
async fn trap_u36_a_lie_is_shown_wherever_somebody_may_look() {
    let lab = Lab::with_pgtest1().await.unwrap();
    let repository = lab.repository("main").await.unwrap();
    let full = backed_up(&lab, "full", &repository).await.unwrap();
    let first = backed_up(&lab, "incremental", &repository).await.unwrap();
    let capacity = first["capacity_bytes"].as_u64().unwrap();
    assert_eq!(first["audit"]["bytes"], capacity.div_ceil(50));
    assert_eq!(first["audit"]["next_offset"], capacity.div_ceil(50));
    let none = json!({ "suspect_chains": 0, "suspect_points": 0, "unreadable_rows": 0 });
    assert_eq!(alarms(&lab).await.unwrap(), none);

    let key = DiskKey::new("disk-2000").unwrap();
    let (expected, found) = ("00".repeat(32), "ab".repeat(32));
    let lie = Lie { offset: 65_536, blocks: 2, expected, found };
    let lies = [(key, lie)].into_iter().collect();
    lab.vma.script(CopyScript { lies, ..CopyScript::default() });
    let finder = backed_up(&lab, "incremental", &repository).await.unwrap();
    assert_eq!((&finder["method"], &finder["suspect"]), (&json!("by_digest"), &json!(false)));
    let chain = lab.get("/api/v1/backup/chain?vm_name=pgtest1&disk_id=0").await.unwrap();
    let chain = &chain.body["chains"][0];
    let why = &chain["suspicion"];
    assert_eq!(why["found_by_backup_id"], finder["backup_id"]);
    assert_eq!((&why["offset"], &why["blocks"]), (&json!(65_536), &json!(2)));
    assert_eq!(why["expected_digest"], "00".repeat(32));
    assert_eq!(why["found_digest"], "ab".repeat(32));
    let suspect: Vec<_> =
        chain["points"].as_array().unwrap().iter().map(|it| &it["suspect"]).collect();
    assert_eq!(suspect, [&json!(false), &json!(true), &json!(false)]);
    assert!(chain["points"].as_array().unwrap().iter().all(|it| it["suspicion"] == *why));
    assert_eq!(
        alarms(&lab).await.unwrap(),
        json!({ "suspect_chains": 1, "suspect_points": 1, "unreadable_rows": 0 })
    );
    let stats = lab.get("/api/v1/backups/stats").await.unwrap();
    assert_eq!((&stats.body["suspect"], &stats.body["suspect_chains"]), (&json!(1), &json!(1)));

    // What was stored is what the manifests say, and that is all that a verification can tell.
    let path = format!("/api/v1/backups/{}/verify", finder["backup_id"].as_str().unwrap());
    let started = lab.post(&path, json!({})).await.unwrap();
    let verified = lab.ended(started.header("location")).await.unwrap();
    assert_eq!((&verified.body["good"], &verified.body["suspect"]), (&json!(true), &json!(true)));
    assert_eq!(verified.body["points"][0]["suspect"], false);
    assert_eq!(verified.body["points"][1]["suspect"], true);

    lab.vma.script(CopyScript::default());
    let next = backed_up(&lab, "incremental", &repository).await.unwrap();
    assert_eq!((&next["backup_type"], &next["suspicion"]), (&json!("full"), &Value::Null));
    assert!(
        next["method_reason"].as_str().unwrap().contains(finder["backup_id"].as_str().unwrap())
    );
    assert_ne!(next["backup_id"], full["backup_id"]);
    assert_eq!(
        alarms(&lab).await.unwrap(),
        json!({ "suspect_chains": 0, "suspect_points": 1, "unreadable_rows": 0 })
    );
}

/// A chain has no more than 63 incrementals, so nothing slower is promised.
#[tokio::test]
async fn a_run_answers_with_the_number_of_runs_that_takes_effect() {
    let lab = Lab::with_pgtest1().await.unwrap();
    let repository = lab.repository("main").await.unwrap();
    let body = json!({
        "vm_name": "pgtest1", "backup_type": "full", "repository_id": repository, "audit_runs": 100,
    });
    let started = lab.post("/api/v1/backups", body).await.unwrap();
    let run = lab.ended(started.header("location")).await.unwrap();
    assert_eq!(run.body["audit_runs"], 63, "{}", run.text);
}

#[tokio::test]
async fn an_audit_that_makes_no_sense_is_refused() {
    let lab = Lab::with_pgtest1().await.unwrap();
    let repository = lab.repository("main").await.unwrap();
    for audit_runs in [0, 10_001] {
        let body = json!({
            "vm_name": "pgtest1", "backup_type": "full", "repository_id": repository,
            "audit_runs": audit_runs,
        });
        let refused = lab.post("/api/v1/backups", body).await.unwrap();
        assert_eq!(refused.problem(), (400, "request/invalid-field"));
        assert!(refused.text.contains("/audit_runs"), "{}", refused.text);
    }
}
