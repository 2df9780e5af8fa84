//! Replications, restores, verifications and exports.

use actix_web::App;
use actix_web::body::MessageBody;
use actix_web::http::Method;
use actix_web::test::{TestRequest, call_service, init_service};
use anyhow::Result;
use hub_testkit::{CopyScript, Fault};
use serde_json::{Value, json};

use crate::lab::{AUTHORITY, Lab, PATIENCE};

/// A lab with one completed full backup of the first disk; the backup's id.
async fn with_point() -> Result<(Lab, String)> {
    let lab = Lab::with_pgtest1().await?;
    let repository = lab.repository("main").await?;
    let body = json!({"vm_name": "pgtest1", "disk_id": 0, "backup_type": "full", "repository_id": repository});
    let run = lab.post("/api/v1/backups", body).await?;
    let ended = lab.ended(run.header("location")).await?;
    anyhow::ensure!(ended.body["status"] == "succeeded", "{}", ended.text);
    let id = ended.text_at("/backups/0/backup_id")?;
    Ok((lab, id))
}

async fn linked_jobs(lab: &Lab) -> Result<Vec<Value>> {
    let disks = lab.get("/api/v1/vm-contexts/pgtest1/disks").await?;
    Ok(disks.body["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|it| it["job_id"].clone())
        .collect())
}

#[tokio::test]
async fn story_2_a_replication_links_the_disks_and_its_deletion_keeps_them() {
    let lab = Lab::with_pgtest1().await.unwrap();
    let started = lab.post("/api/v1/replications", json!({"vm_name": "pgtest1"})).await.unwrap();
    assert_eq!(started.status, 202, "{}", started.text);
    let location = started.header("location").to_owned();
    assert_eq!(location, format!("/api/v1/replications/{}", started.text_at("/id").unwrap()));
    let id = started.body["id"].clone();
    assert_eq!(linked_jobs(&lab).await.unwrap(), [id.clone(), id.clone()]);
    let ended = lab.ended(&location).await.unwrap();
    insta::assert_json_snapshot!("replication", ended.body);
    let listed = lab.get("/api/v1/replications?vm_name=pgtest1").await.unwrap();
    assert_eq!(listed.body["items"][0], ended.body);
    assert_eq!(lab.delete(&location).await.unwrap().status, 204);
    assert_eq!(linked_jobs(&lab).await.unwrap(), [Value::Null, Value::Null]);
    assert_eq!(lab.get(&location).await.unwrap().problem(), (404, "replication/not-found"));
}

#[tokio::test]
async fn p8_the_same_replication_twice_is_one_job() {
    let lab = Lab::with_pgtest1().await.unwrap();
    lab.vma.script(CopyScript { stuck_at: Some(1), ..CopyScript::default() });
    let body = json!({"vm_name": "pgtest1", "replication_type": "initial", "format": "qcow2"});
    let first = lab.post("/api/v1/replications", body.clone()).await.unwrap();
    let second = lab.post("/api/v1/replications", body).await.unwrap();
    assert_eq!((first.status, second.status), (202, 202));
    assert_eq!(first.body["id"], second.body["id"]);
    let location = first.header("location").to_owned();
    let active = lab.delete(&location).await.unwrap();
    assert_eq!(active.status, 409, "{}", active.text);
    lab.post(&format!("{location}/cancel"), json!({})).await.unwrap();
    assert_eq!(lab.ended(&location).await.unwrap().body["status"], "cancelled");
}

/// Asks for something whose commit is done and whose answer is lost; then takes up what nobody has, and follows it.
async fn taken_up(lab: &Lab, path: &str, body: Value, list: &str) -> Result<Value> {
    let before = lab.get(list).await?.body["items"].as_array().map_or(0, Vec::len);
    lab.store_steps.take_down("store.committed");
    let lost = lab.post(path, body).await?;
    lab.store_steps.heal();
    anyhow::ensure!(lost.status == 503, "{}", lost.text);
    let stored = lab.get(list).await?;
    let jobs = stored.body["items"].as_array().cloned().unwrap_or_default();
    anyhow::ensure!(jobs.len() > before, "it is stored: {}", stored.text);
    let queued: Vec<_> = jobs.iter().filter(|job| job["status"] == "queued").collect();
    anyhow::ensure!(queued.len() == jobs.len() - before, "nobody works on it: {}", stored.text);
    lab.api.claim_unclaimed().await?;
    lab.api.claim_unclaimed().await?;
    let ended = |body: &Value| {
        let all = body["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        all.iter().all(|job| job["status"] != "queued" && job["status"] != "running")
    };
    Ok(lab.until(list, ended).await?.body)
}

/// Trap C8: a stored job does not wait for ever because whoever stored it did not hear of it.
#[tokio::test]
async fn c8_a_job_whose_commit_was_not_answered_is_taken_up() {
    let (lab, backup) = with_point().await.unwrap();
    let repository = lab.get("/api/v1/repositories").await.unwrap().body["items"][0]["id"].clone();
    let restore = json!({"backup_id": backup, "format": "raw", "file_name": "lost.raw"});
    let verify = format!("/api/v1/backups/{backup}/verify");
    let full = json!({"vm_name": "pgtest1", "backup_type": "full", "repository_id": repository});
    for (path, body, list) in [
        ("/api/v1/restores", restore, "/api/v1/restores"),
        (verify.as_str(), json!({}), "/api/v1/verifications"),
        ("/api/v1/replications", json!({"vm_name": "pgtest1"}), "/api/v1/replications"),
        ("/api/v1/backups", full, "/api/v1/backups"),
    ] {
        let ended = taken_up(&lab, path, body, list).await.unwrap();
        for job in ended["items"].as_array().unwrap() {
            assert_eq!(job["status"], "succeeded", "{job:#}");
        }
    }
}

#[tokio::test]
async fn bad_replications_are_refused() {
    let lab = Lab::with_pgtest1().await.unwrap();
    let replications = "/api/v1/replications";
    let unknown = lab.post(replications, json!({"vm_name": "ghost"})).await.unwrap();
    assert_eq!(unknown.problem(), (404, "vm/not-found"));
    let nobody = lab.post(replications, json!({})).await.unwrap();
    assert_eq!(nobody.problem(), (400, "request/invalid-field"));
    let odd = json!({"vm_name": "pgtest1", "replication_type": "sideways"});
    let odd = lab.post(replications, odd).await.unwrap();
    assert_eq!(odd.problem(), (400, "request/invalid-body"));
    assert!(odd.text.contains("incremental"), "{}", odd.text);
}

#[tokio::test]
async fn a_point_is_restored_to_a_file() {
    let (lab, point) = with_point().await.unwrap();
    let body = json!({"backup_id": point, "format": "raw"});
    let started = lab.post("/api/v1/restores", body).await.unwrap();
    assert_eq!(started.status, 202, "{}", started.text);
    let ended = lab.ended(started.header("location")).await.unwrap();
    insta::assert_json_snapshot!("restore", ended.body);
    let listed = lab.get("/api/v1/restores").await.unwrap();
    assert_eq!(listed.body["items"][0], ended.body);
    for name in ["../x", "a/b", ""] {
        let body = json!({"backup_id": point, "format": "raw", "file_name": name});
        let refused = lab.post("/api/v1/restores", body).await.unwrap();
        assert_eq!(refused.status, 400, "{name}: {}", refused.text);
    }
    let none = json!({"backup_id": "none", "format": "raw"});
    let none = lab.post("/api/v1/restores", none).await.unwrap();
    assert_eq!(none.problem(), (404, "backup/not-found"));
    let cancel = format!("{}/cancel", started.header("location"));
    assert_eq!(lab.post(&cancel, json!({})).await.unwrap().problem(), (409, "job/ended"));
}

#[tokio::test]
async fn a_verification_names_the_first_damage() {
    let (lab, point) = with_point().await.unwrap();
    let verify = format!("/api/v1/backups/{point}/verify");
    let request = TestRequest::post().uri(&verify);
    let started = lab.authorised(request).await.unwrap();
    assert_eq!(started.status, 202, "{}", started.text);
    assert_eq!(started.body["scope"], "chain");
    assert_eq!(started.body["good"], Value::Null);
    let good = lab.ended(started.header("location")).await.unwrap();
    assert_eq!((&good.body["good"], &good.body["first_bad"]), (&json!(true), &Value::Null));
    lab.storage.set_fault(Some(Fault::Damaged));
    let started = lab.post(&verify, json!({"scope": "point"})).await.unwrap();
    let bad = lab.ended(started.header("location")).await.unwrap();
    assert_eq!(bad.body["good"], false, "{}", bad.text);
    assert_eq!(bad.body["first_bad"]["backup_id"], json!(point));
    assert_eq!(bad.body["first_bad"]["disk_id"], 0);
    let listed = lab.get("/api/v1/verifications?limit=1").await.unwrap();
    assert!(listed.body["next"].is_string());
    let odd = lab.post(&verify, json!({"scope": "everything"})).await.unwrap();
    assert_eq!(odd.problem(), (400, "request/invalid-body"));
}

#[tokio::test]
async fn an_export_lives_for_its_time() {
    let (lab, point) = with_point().await.unwrap();
    let body = json!({"backup_id": point, "ttl_seconds": 60.0});
    let opened = lab.post("/api/v1/exports", body).await.unwrap();
    assert_eq!(opened.status, 201, "{}", opened.text);
    assert!(opened.text_at("/nbd_uri").unwrap().starts_with("nbd://"));
    let path = opened.header("location").to_owned();
    assert_eq!(lab.get(&path).await.unwrap().body, opened.body);
    assert_eq!(lab.get("/api/v1/exports").await.unwrap().body["items"][0], opened.body);
    assert_eq!(lab.storage.open_exports().len(), 1);
    // Who reads it would be left with nothing.
    let of_point = format!("/api/v1/backups/{point}");
    let refused = lab.delete(&of_point).await.unwrap();
    assert_eq!(refused.problem(), (409, "backup/exported"));
    let export = opened.text_at("/export_id").unwrap();
    assert!(refused.text_at("/detail").unwrap().contains(&export), "{}", refused.text);
    assert_eq!(lab.get(&of_point).await.unwrap().status, 200);
    assert_eq!(lab.delete(&path).await.unwrap().status, 204);
    assert_eq!(lab.delete(&path).await.unwrap().problem(), (404, "export/not-found"));
    assert_eq!(lab.storage.open_exports().len(), 0);
    for seconds in [json!(0), json!(-1), json!(0.5), json!(604_801), json!(1e300)] {
        let body = json!({"backup_id": point, "ttl_seconds": seconds});
        let refused = lab.post("/api/v1/exports", body).await.unwrap();
        assert_eq!(refused.status, 400, "{seconds}: {}", refused.text);
    }
}

#[tokio::test]
async fn the_certificate_for_exports_needs_no_token() {
    let lab = Lab::with_pgtest1().await.unwrap();
    let open = lab.send(Method::GET, "/api/v1/certificates/nbd-ca.pem", None, None).await.unwrap();
    assert_eq!((open.status, open.text.as_str()), (200, AUTHORITY));
}

/// The pieces of an event stream until its end.
async fn stream(lab: &Lab, request: TestRequest) -> Result<Vec<String>> {
    let service = init_service(App::new().configure(|it| lab.api.configure(it))).await;
    let response = call_service(&service, lab.with_token(request).to_request()).await;
    let mut body = Box::pin(response.into_body());
    let mut pieces = Vec::new();
    while let Some(piece) = std::future::poll_fn(|cx| body.as_mut().poll_next(cx)).await {
        let piece = piece.map_err(|_| anyhow::anyhow!("the stream broke"))?;
        pieces.push(String::from_utf8(piece.to_vec())?);
    }
    Ok(pieces)
}

#[tokio::test]
async fn events_follow_a_job_to_its_end() {
    let lab = Lab::with_pgtest1().await.unwrap();
    let started = lab.post("/api/v1/replications", json!({"vm_name": "pgtest1"})).await.unwrap();
    let path = format!("{}/events", started.header("location"));
    let pieces = stream(&lab, TestRequest::get().uri(&path)).await.unwrap();
    assert!(pieces.iter().all(|it| it.starts_with("event: replication\ndata: {")), "{pieces:?}");
    let last = pieces.last().unwrap().trim_end().rsplit("data: ").next().unwrap();
    let last: Value = serde_json::from_str(last).unwrap();
    assert_eq!(last["status"], "succeeded");
    let none = lab.get("/api/v1/replications/none/events").await.unwrap();
    assert_eq!(none.problem(), (404, "replication/not-found"));
}

#[tokio::test]
async fn trap_c18_event_streams_end_when_the_hub_stops() {
    let lab = Lab::with_pgtest1().await.unwrap();
    lab.vma.script(CopyScript { stuck_at: Some(1), ..CopyScript::default() });
    let started = lab.post("/api/v1/replications", json!({"vm_name": "pgtest1"})).await.unwrap();
    let path = format!("{}/events", started.header("location"));
    let following = stream(&lab, TestRequest::get().uri(&path));
    let stopping = async {
        lab.until(started.header("location"), |job| job["status"] == "running").await?;
        lab.stop.cancel();
        anyhow::Ok(())
    };
    let both = async { tokio::join!(following, stopping) };
    let (pieces, stopped) = tokio::time::timeout(PATIENCE, both).await.unwrap();
    stopped.unwrap();
    assert!(!pieces.unwrap().is_empty());
    assert!(lab.supervisor.shutdown(PATIENCE).await.is_ok());
}
