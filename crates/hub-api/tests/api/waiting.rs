//! Copies that have begun and wait for their sources: shown while they do, and no longer.

use anyhow::Result;
use hub_testkit::CopyScript;
use serde_json::{Value, json};

use crate::lab::Lab;

const PLACE: &str = "waits for a place at host host-9: 6 of its disks are being read";

fn expected() -> Value {
    json!({"reason": PLACE, "limited_by": "vma", "limit": null, "at_work": null, "place": null})
}

/// A hub whose copies wait at their source for ever, or up to this step.
async fn lab(until: u64) -> Result<Lab> {
    let lab = Lab::with_pgtest1().await?;
    let waits = Some((until, PLACE.to_owned()));
    let steps = until.saturating_add(2);
    lab.vma.script(CopyScript { waits, steps, ..CopyScript::default() });
    Ok(lab)
}

async fn asked_for(lab: &Lab, kind: &str) -> Result<String> {
    let mut body = json!({"vm_name": "pgtest1"});
    if kind == "backups" {
        body["backup_type"] = json!("full");
        body["repository_id"] = json!(lab.repository("main").await?);
    }
    Ok(lab.post(&format!("/api/v1/{kind}"), body).await?.header("location").to_owned())
}

#[tokio::test]
async fn a_copy_that_waits_for_its_source_runs_and_says_what_for() {
    let lab = lab(u64::MAX).await.unwrap();
    for kind in ["replications", "backups"] {
        let job = asked_for(&lab, kind).await.unwrap();
        let seen = lab.until(&job, |job| job["waiting"].is_object()).await.unwrap().body;
        assert_eq!((&seen["status"], &seen["waiting"]), (&json!("running"), &expected()));
        for backup in seen["backups"].as_array().into_iter().flatten() {
            assert_eq!(backup["waiting"], expected());
        }
        let listed = lab.get(&format!("/api/v1/{kind}?vm_name=pgtest1")).await.unwrap();
        assert_eq!(listed.body["items"][0]["waiting"], expected());
        let cancelled = lab.post(&format!("{job}/cancel"), json!({})).await.unwrap();
        assert_eq!(cancelled.body["waiting"], Value::Null);
        assert_eq!(lab.ended(&job).await.unwrap().body["waiting"], Value::Null);
    }
}

#[tokio::test]
async fn what_a_copy_waited_for_is_forgotten_when_it_goes_on() {
    let lab = lab(20).await.unwrap();
    for kind in ["replications", "backups"] {
        let job = asked_for(&lab, kind).await.unwrap();
        lab.until(&job, |job| job["waiting"].is_object()).await.unwrap();
        let on = lab.until(&job, |job| job["waiting"].is_null()).await.unwrap().body;
        assert_ne!(on["status"], "queued");
        let ended = lab.ended(&job).await.unwrap().body;
        assert_eq!((&ended["status"], &ended["waiting"]), (&json!("succeeded"), &Value::Null));
    }
}
