//! Guests that are to be at rest, and what became of it, as the API shows them.

use anyhow::{Result, ensure};
use hub_domain::source::{Quiescence, ReadBy};
use hub_testkit::CopyScript;
use serde_json::{Value, json};

use crate::lab::{Lab, Reply};

/// Starts something and waits until it has succeeded.
async fn succeeded(lab: &Lab, path: &str, body: Value) -> Result<Reply> {
    let started = lab.post(path, body).await?;
    ensure!(started.status == 202, "{}", started.text);
    let ended = lab.ended(started.header("location")).await?;
    ensure!(ended.body["status"] == "succeeded", "{}", ended.text);
    Ok(ended)
}

/// A VMA of whose guests these are at rest, and who says by which way it reads.
fn vma_says(lab: &Lab, quiesced: bool, reason: Option<&str>) {
    let reason = reason.map(str::to_owned);
    let why = Some("VDDK is set up".to_owned());
    lab.vma.script(CopyScript {
        quiescence: Some(Quiescence { quiesced, reason }),
        read_by: Some(ReadBy { reader: "vddk".to_owned(), reason: why }),
        ..CopyScript::default()
    });
}

#[tokio::test]
async fn a_backup_says_whether_its_guest_was_at_rest_under_both_families_of_paths() {
    let lab = Lab::with_pgtest1().await.unwrap();
    let repository = lab.repository("main").await.unwrap();
    let body = |quiesce: Value| {
        json!({"vm_name": "pgtest1", "backup_type": "full", "repository_id": repository,
            "quiesce": quiesce})
    };
    let why = "the guest has no VMware Tools";
    for (path, asked, quiesced, reason) in [
        ("/api/v1/backups", json!(true), true, None),
        ("/api/v1/backup/start", json!(true), false, Some(why)),
        ("/api/v1/backups", json!(false), false, None),
        ("/api/v1/backup/start", Value::Null, true, None),
    ] {
        vma_says(&lab, quiesced, reason);
        let run = succeeded(&lab, path, body(asked.clone())).await.unwrap();
        assert_eq!(run.body["quiesce"], asked, "{}", run.text);
        assert_eq!(lab.vma.orders().pop().unwrap().quiesce, asked.as_bool());
        let id = run.text_at("/backups/0/backup_id").unwrap();
        for shown in [format!("/api/v1/backups/{id}"), format!("/api/v1/backup/{id}")] {
            let point = lab.get(&shown).await.unwrap().body;
            let expected = (&json!(quiesced), &json!(reason));
            assert_eq!((&point["quiesced"], &point["quiesce_reason"]), expected, "{point:#}");
            let expected = (&json!("vddk"), &json!("VDDK is set up"));
            assert_eq!((&point["reader"], &point["reader_reason"]), expected, "{point:#}");
        }
    }
    let odd = lab.post("/api/v1/backups", body(json!("yes"))).await.unwrap();
    assert_eq!(odd.problem(), (400, "request/invalid-body"));
}

#[tokio::test]
async fn another_word_about_the_guest_is_another_request() {
    let lab = Lab::with_pgtest1().await.unwrap();
    let repository = lab.repository("main").await.unwrap();
    lab.vma.script(CopyScript { stuck_at: Some(1), ..CopyScript::default() });
    let full = json!({"vm_name": "pgtest1", "backup_type": "full", "repository_id": repository});
    for (path, mut body, code) in [
        ("/api/v1/backups", full, "backup/already-running"),
        ("/api/v1/replications", json!({"vm_name": "pgtest1"}), "replication/already-running"),
    ] {
        let plain = body.clone();
        body["quiesce"] = json!(true);
        let started = lab.post(path, body.clone()).await.unwrap();
        assert_eq!(started.body["quiesce"], true, "{}", started.text);
        let again = lab.post(path, body.clone()).await.unwrap();
        assert_eq!(again.header("location"), started.header("location"));
        body["quiesce"] = json!(false);
        for other in [plain, body] {
            assert_eq!(lab.post(path, other).await.unwrap().problem(), (409, code));
        }
        let cancel = format!("{}/cancel", started.header("location"));
        lab.post(&cancel, json!({})).await.unwrap();
        lab.ended(started.header("location")).await.unwrap();
    }
}

#[tokio::test]
async fn a_replication_says_it_too() {
    let lab = Lab::with_pgtest1().await.unwrap();
    vma_says(&lab, false, Some("the guest has no VMware Tools"));
    let body = json!({"vm_name": "pgtest1", "quiesce": true});
    let job = succeeded(&lab, "/api/v1/replications", body).await.unwrap().body;
    assert_eq!((&job["quiesce"], &job["quiesced"]), (&json!(true), &json!(false)));
    assert_eq!(job["quiesce_reason"], "the guest has no VMware Tools");
    for disk in job["disks"].as_array().unwrap() {
        assert_eq!(
            (&disk["reader"], &disk["reader_reason"]),
            (&json!("vddk"), &json!("VDDK is set up"))
        );
    }
}
