//! Limits as settings, and what waits because of them.

use std::time::Duration;

use anyhow::{Result, ensure};
use hub_testkit::{Break, CopyScript, fixtures};
use serde_json::{Value, json};

use crate::lab::Lab;

#[tokio::test]
async fn the_limits_of_a_vma_are_set_changed_and_taken_away() {
    let lab = Lab::new(Vec::new()).await.unwrap();
    let body = json!({"name": "a", "url": "http://a:1", "token": "0123456789abcdef",
        "max_concurrent_copies": 2.0, "max_bytes_per_second": 1_000_000});
    let made = lab.post("/api/v1/vma-nodes", body).await.unwrap();
    assert_eq!(made.status, 201, "{}", made.text);
    let path = made.header("location").to_owned();
    let limits = |body: &Value| {
        (body["max_concurrent_copies"].clone(), body["max_bytes_per_second"].clone())
    };
    assert_eq!(limits(&made.body), (json!(2), json!(1_000_000)));
    let put = json!({"name": "b", "url": "http://b:1"});
    let put = lab.put(&path, put).await.unwrap();
    assert_eq!(limits(&put.body), (json!(2), json!(1_000_000)), "a whole change keeps them");
    let changed = lab.patch(&path, json!({"max_concurrent_copies": null})).await.unwrap();
    assert_eq!(limits(&changed.body), (Value::Null, json!(1_000_000)));
    assert_eq!(changed.body["name"], "b");
    let changed = lab.patch(&path, json!({"max_bytes_per_second": 65_536})).await.unwrap();
    assert_eq!(limits(&changed.body), (Value::Null, json!(65_536)));
    assert_eq!(lab.get(&path).await.unwrap().body["max_bytes_per_second"], 65_536);
    for (field, value) in [
        ("max_concurrent_copies", json!(0)),
        ("max_concurrent_copies", json!(1001)),
        ("max_concurrent_copies", json!(4_294_967_297_u64)),
        ("max_bytes_per_second", json!(65_535)),
        ("max_bytes_per_second", json!(u64::MAX)),
    ] {
        let mut body = json!({});
        body[field] = value.clone();
        let refused = lab.patch(&path, body).await.unwrap();
        assert_eq!(refused.problem(), (400, "request/invalid-field"), "{field}={value}");
        assert_eq!(refused.body["errors"][0]["pointer"], format!("/{field}"));
    }
    for odd in [
        json!({"max_concurrent_copies": -1}),
        json!({"max_concurrent_copies": 1.5}),
        json!({"name": "c"}),
    ] {
        let refused = lab.patch(&path, odd.clone()).await.unwrap();
        assert_eq!(refused.problem(), (400, "request/invalid-body"), "{odd}");
    }
    let nobody = "/api/v1/vma-nodes/00000000-0000-0000-0000-00000000ffff";
    assert_eq!(lab.patch(nobody, json!({})).await.unwrap().problem(), (404, "vma/not-found"));
}

#[tokio::test]
async fn the_settings_of_a_repository_are_set_changed_and_taken_away() {
    let lab = Lab::new(Vec::new()).await.unwrap();
    let body =
        json!({"name": "main", "path": "/srv/main", "compression": "zstd", "compression_level": 7});
    let made = lab.post("/api/v1/repositories", body).await.unwrap();
    assert_eq!(made.status, 201, "{}", made.text);
    let path = made.header("location").to_owned();
    let settings = |body: &Value| {
        (
            body["compression"].clone(),
            body["compression_level"].clone(),
            body["max_concurrent_copies"].clone(),
        )
    };
    assert_eq!(settings(&made.body), (json!("zstd"), json!(7), Value::Null));
    let steps = [
        (json!({"max_concurrent_copies": 3}), (json!("zstd"), json!(7), json!(3))),
        (json!({"compression": "zstd"}), (json!("zstd"), json!(7), json!(3))),
        (json!({"compression_level": 19}), (json!("zstd"), json!(19), json!(3))),
        (json!({"compression": "none"}), (json!("none"), Value::Null, json!(3))),
        (json!({"compression": "zstd"}), (json!("zstd"), json!(3), json!(3))),
        (json!({"max_concurrent_copies": null}), (json!("zstd"), json!(3), Value::Null)),
    ];
    for (change, expected) in steps {
        let changed = lab.patch(&path, change.clone()).await.unwrap();
        assert_eq!(settings(&changed.body), expected, "{change}: {}", changed.text);
    }
    for odd in [
        json!({"compression_level": 0}),
        json!({"compression_level": 20}),
        json!({"compression": "none", "compression_level": 3}),
    ] {
        let refused = lab.patch(&path, odd.clone()).await.unwrap();
        assert_eq!(refused.problem(), (400, "request/invalid-field"), "{odd}");
    }
    // Nothing else than a limit can be taken away, so null is no answer to how images are stored.
    for odd in [
        json!({"compression": "lz4"}),
        json!({"compression": null}),
        json!({"compression_level": null}),
    ] {
        let refused = lab.patch(&path, odd.clone()).await.unwrap();
        assert_eq!(refused.problem(), (400, "request/invalid-body"), "{odd}");
    }
}

/// A VMA takes its time to prove itself; what is set meanwhile is not taken back with what was read before.
#[tokio::test]
async fn a_limit_that_is_set_while_the_vma_is_changed_stays() {
    let lab = Lab::new(Vec::new()).await.unwrap();
    let path = format!("/api/v1/vma-nodes/{}", lab.register_vma().await.unwrap());
    let asked = lab.vma.calls("vma.identify");
    let held = lab.vma.hold_back().await;
    let put = lab.put(&path, json!({"name": "moved", "url": "http://elsewhere:1"}));
    let patch = async {
        while lab.vma.calls("vma.identify") == asked {
            tokio::task::yield_now().await;
        }
        let patched = lab.patch(&path, json!({"max_concurrent_copies": 2})).await;
        drop(held);
        patched
    };
    let (put, patched) = tokio::join!(put, patch);
    assert_eq!(patched.unwrap().body["max_concurrent_copies"], 2);
    assert_eq!(put.unwrap().body["max_concurrent_copies"], 2);
    let stored = lab.get(&path).await.unwrap().body;
    assert_eq!((&stored["max_concurrent_copies"], &stored["name"]), (&json!(2), &json!("moved")));
}

/// The catalogue is away for a moment right after a job was stored: it joins the line, or nobody would run it before
/// the next start of the hub.
#[tokio::test(start_paused = true)]
async fn a_job_that_is_stored_joins_the_line_however_the_catalogue_is() {
    for kind in ["backups", "replications"] {
        // One hub says which call it is, and another one, where nothing else is at work, fails there.
        let (_, log) = started_with(kind, None).await.unwrap();
        let stored = log.iter().position(|call| call == "store.committed").unwrap();
        // Steps count from 1, so this is the call after the commit.
        let (ended, log) = started_with(kind, Some(stored + 2)).await.unwrap();
        assert_eq!(ended, "succeeded", "{kind}: {log:?}");
    }
}

/// A copy that is started on a hub of its own, perhaps with a call to the catalogue that fails: how it ended, and the
/// calls until it was answered.
async fn started_with(kind: &str, failing: Option<usize>) -> Result<(String, Vec<String>)> {
    let lab = Lab::with_pgtest1().await?;
    let repository = lab.repository("main").await?;
    let mut body = json!({"vm_name": "pgtest1"});
    if kind == "backups" {
        body["backup_type"] = json!("full");
        body["repository_id"] = json!(repository);
    }
    lab.store_steps.heal();
    if let Some(step) = failing {
        lab.store_steps.break_at(step, Break::Fail);
    }
    let started = lab.post(&format!("/api/v1/{kind}"), body).await?;
    let log = lab.store_steps.log();
    ensure!(started.status == 202, "{}: {log:?}", started.text);
    ensure!(failing.is_none() || lab.store_steps.reached(), "{log:?}");
    let ended = lab.ended(started.header("location")).await?;
    Ok((ended.text_at("/status")?, log))
}

/// Two VMs of a VMA that bears one copy, whose copies never end; the locations of their replications.
async fn two_of_one() -> Result<(Lab, [String; 2])> {
    let script = CopyScript { stuck_at: Some(1), ..CopyScript::default() };
    two_at_once(json!({"max_concurrent_copies": 1}), script).await
}

/// Two VMs of a VMA with this limit and this script; the locations of their replications.
async fn two_at_once(limit: Value, script: CopyScript) -> Result<(Lab, [String; 2])> {
    let vms = vec![
        fixtures::pgtest1()?,
        fixtures::seen_vm("other", "vm-2", vec![fixtures::disk("disk-2000", 1 << 30)?]),
    ];
    let lab = Lab::new(vms).await?;
    let node = lab.register_vma().await?;
    ensure!(lab.patch(&format!("/api/v1/vma-nodes/{node}"), limit).await?.status == 200);
    lab.post("/api/v1/discovery/add-vms", json!({"all": true})).await?;
    lab.vma.script(script);
    let mut locations = Vec::new();
    for name in ["pgtest1", "other"] {
        let started = lab.post("/api/v1/replications", json!({"vm_name": name})).await?;
        ensure!(started.status == 202, "{}", started.text);
        locations.push(started.header("location").to_owned());
    }
    let locations = locations.try_into().map_err(|_| anyhow::anyhow!("two"))?;
    Ok((lab, locations))
}

/// Not before its turn does a copy reach the VMA or a storage.
#[tokio::test]
async fn nothing_is_open_for_a_copy_that_waits() {
    let (lab, [first, second]) = two_of_one().await.unwrap();
    lab.until(&first, |job| job["status"] == "running").await.unwrap();
    lab.until(&first, |job| job["bytes"]["done"] != 0).await.unwrap();
    let waiting = lab.get(&second).await.unwrap();
    let reason = "1 of 1 copies of VMA vma-1 are at work; 1st in line";
    let expected =
        json!({"reason": reason, "limited_by": "vma", "limit": 1, "at_work": 1, "place": 1});
    assert_eq!((&waiting.body["status"], &waiting.body["waiting"]), (&json!("queued"), &expected));
    assert_eq!(lab.get(&first).await.unwrap().body["waiting"], Value::Null);
    let listed = lab.get("/api/v1/replications?vm_name=other").await.unwrap();
    assert_eq!(listed.body["items"][0]["waiting"], expected);
    assert_eq!(lab.vma.orders().len(), 1, "one copy was ordered");
    assert_eq!(waiting.body["disks"][0]["replica_path"], Value::Null);
    lab.post(&format!("{first}/cancel"), json!({})).await.unwrap();
    let let_in = lab.until(&second, |job| job["status"] == "running").await.unwrap();
    assert_eq!(let_in.body["waiting"], Value::Null);
    lab.until(&second, |job| job["bytes"]["done"] != 0).await.unwrap();
    assert_eq!(lab.vma.orders().len(), 2);
    lab.post(&format!("{second}/cancel"), json!({})).await.unwrap();
    lab.ended(&second).await.unwrap();
}

#[tokio::test]
async fn p9_a_waiter_is_cancelled_at_once_and_a_raised_limit_lets_others_in() {
    let (lab, [first, second]) = two_of_one().await.unwrap();
    lab.until(&first, |job| job["status"] == "running").await.unwrap();
    let cancelled = lab.post(&format!("{second}/cancel"), json!({})).await.unwrap();
    assert_eq!(
        (&cancelled.body["status"], &cancelled.body["waiting"]),
        (&json!("cancelled"), &Value::Null)
    );
    let again = lab.post("/api/v1/replications", json!({"vm_name": "other"})).await.unwrap();
    let again = again.header("location").to_owned();
    assert_eq!(lab.get(&again).await.unwrap().body["waiting"]["place"], 1);
    let nodes = lab.get("/api/v1/vma-nodes").await.unwrap();
    let node = format!("/api/v1/vma-nodes/{}", nodes.text_at("/items/0/id").unwrap());
    lab.patch(&node, json!({"max_concurrent_copies": 2})).await.unwrap();
    lab.until(&again, |job| job["status"] == "running").await.unwrap();
    assert_eq!(lab.get(&first).await.unwrap().body["status"], "running");
    for job in [first, again] {
        lab.post(&format!("{job}/cancel"), json!({})).await.unwrap();
        lab.ended(&job).await.unwrap();
    }
}

#[tokio::test]
async fn a_rate_is_told_to_the_vma_and_a_bad_one_is_refused() {
    let lab = Lab::with_pgtest1().await.unwrap();
    let node = lab.get("/api/v1/vma-nodes").await.unwrap().text_at("/items/0/id").unwrap();
    let limit = json!({"max_bytes_per_second": 5_000_000});
    lab.patch(&format!("/api/v1/vma-nodes/{node}"), limit).await.unwrap();
    let repository = lab.repository("main").await.unwrap();
    let body = |rate: Value| {
        json!({"vm_name": "pgtest1", "backup_type": "full",
        "repository_id": repository, "max_bytes_per_second": rate})
    };
    for bad in [json!(0), json!(65_535)] {
        let refused = lab.post("/api/v1/backups", body(bad)).await.unwrap();
        assert_eq!(refused.problem(), (400, "request/invalid-field"));
    }
    let run = lab.post("/api/v1/backups", body(json!(70_000))).await.unwrap();
    assert_eq!(run.body["max_bytes_per_second"], 70_000, "{}", run.text);
    let ended = lab.ended(run.header("location")).await.unwrap();
    assert_eq!(ended.body["status"], "succeeded", "{}", ended.text);
    let body = json!({"vm_name": "pgtest1", "max_bytes_per_second": 80_000});
    let job = lab.post("/api/v1/replications", body).await.unwrap();
    assert_eq!(job.body["max_bytes_per_second"], 80_000, "{}", job.text);
    lab.ended(job.header("location")).await.unwrap();
    let told = lab.vma.orders().into_iter().map(|order| {
        let bytes =
            |rate: Option<hub_domain::limits::ByteRate>| rate.map(|it| it.bytes_per_second());
        (bytes(order.rates.job), bytes(order.rates.vma))
    });
    let expected = [(Some(70_000), Some(5_000_000)), (Some(80_000), Some(5_000_000))];
    assert_eq!(told.collect::<Vec<_>>(), expected);
}

/// A VMA may run fewer jobs than the hub would let it have; what it refuses has not failed.
#[tokio::test]
async fn a_copy_that_its_vma_refuses_waits_in_line_again_and_says_why() {
    let script = CopyScript { stuck_at: Some(1), takes: Some(1), ..CopyScript::default() };
    let (lab, jobs) = two_at_once(json!({}), script).await.unwrap();
    let in_line = async {
        loop {
            // A running hub does this every few seconds.
            lab.api.claim_unclaimed().await.unwrap();
            for (place, job) in jobs.iter().enumerate() {
                let seen = lab.get(job).await.unwrap().body;
                if seen["waiting"].is_object() && lab.vma.calls("vma.start_copy") >= 2 {
                    return (place, seen);
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let (place, waiting) =
        tokio::time::timeout(Duration::from_secs(60), in_line).await.expect("one waits");
    assert_eq!((&waiting["status"], &waiting["error"]), (&json!("queued"), &Value::Null));
    let reason = "VMA vma-1 takes no more jobs than it has, 1 of them from this hub; 1st in line";
    assert_eq!(waiting["waiting"]["reason"], reason, "{waiting}");
    let (refused, at_work) = (&jobs[place], &jobs[1 - place]);
    lab.post(&format!("{at_work}/cancel"), json!({})).await.unwrap();
    lab.until(refused, |job| job["status"] == "running").await.unwrap();
    lab.until(refused, |job| job["bytes"]["done"] != 0).await.unwrap();
    lab.post(&format!("{refused}/cancel"), json!({})).await.unwrap();
    lab.ended(refused).await.unwrap();
}
