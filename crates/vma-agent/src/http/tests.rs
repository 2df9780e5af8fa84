//! The API from outside: who gets in, and that every error has one shape.

use std::sync::Arc;

use actix_web::body::MessageBody;
use actix_web::dev::ServiceResponse;
use actix_web::http::{Method, StatusCode, header};
use actix_web::{App, test};
use anyhow::Result;
use hub_vma_api::{
    CleanupOutcome, CleanupReport, CopyReport, CopyState, CredentialsTest, Health,
    INTRODUCTION_CONTEXT, Identity, Introduced, Introduction, Inventory, OwedSnapshots,
    PROOF_CONTEXT, Problem, StrikeOffReport,
};
use secrecy::SecretString;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{Api, configure};
use crate::doubles::{GatedDevice, Hub, MemorySource, Stop, copying, ended, full_disk, memory};
use crate::fixture::content;
use crate::jobs::{Jobs, JobsOptions};

const TOKEN: &str = "a-token-for-tests";

fn api() -> Arc<Api> {
    let source = MemorySource::with(vec![("disk-2000", memory(content(1)) as _)]);
    let jobs = Jobs::new(Arc::new(source), JobsOptions::default(), CancellationToken::new());
    Arc::new(Api::new("lab", "1.2.3", &SecretString::from(TOKEN), Arc::new(jobs)))
}

fn with_token(method: Method, path: &str) -> test::TestRequest {
    let bearer = (header::AUTHORIZATION, format!("Bearer {TOKEN}"));
    test::TestRequest::default().method(method).uri(path).insert_header(bearer)
}

/// The problem that a request was answered with, its shape checked.
async fn problem_in<B: MessageBody>(answer: ServiceResponse<B>) -> Result<Problem> {
    let status = answer.status().as_u16();
    let kind = answer.headers().get(header::CONTENT_TYPE).cloned();
    let is_problem = kind.is_some_and(|it| it == "application/problem+json");
    anyhow::ensure!(is_problem, "not a problem: {status}");
    let body = test::try_read_body(answer).await.map_err(|_| anyhow::anyhow!("no body"))?;
    let problem: Problem = serde_json::from_slice(&body)?;
    anyhow::ensure!(problem.status == status, "{problem:?} came as {status}");
    anyhow::ensure!(problem.kind == format!("/problems/{}", problem.code), "{problem:?}");
    Ok(problem)
}

macro_rules! app {
    ($api:expr) => {
        test::init_service(App::new().configure(configure($api))).await
    };
}

#[actix_web::test]
async fn health_and_identity_need_no_token() {
    let app = app!(api());
    let request = test::TestRequest::get().uri("/health").to_request();
    let health: Health = test::call_and_read_body_json(&app, request).await;
    assert_eq!((health.status.as_str(), health.version.as_str()), ("ok", "1.2.3"));

    let nonce = "0123456789abcdef".repeat(4);
    let uri = format!("/api/v1/identity?nonce={nonce}");
    let request = test::TestRequest::get().uri(&uri).to_request();
    let identity: Identity = test::call_and_read_body_json(&app, request).await;
    let key = blake3::derive_key(PROOF_CONTEXT, TOKEN.as_bytes());
    let expected = blake3::keyed_hash(&key, &hex::decode(nonce).unwrap()).to_hex().to_string();
    assert_eq!(identity.proof, expected);
    assert_eq!((identity.api_version, identity.source_kind.as_str()), (1, "folder"));
    for query in ["", "?nonce=", "?nonce=zz", "?nonce=00"] {
        let request = test::TestRequest::get().uri(&format!("/api/v1/identity{query}"));
        assert_eq!(
            problem_in(test::call_service(&app, request.to_request()).await).await.unwrap().status,
            400,
            "{query}"
        );
    }
}

#[actix_web::test]
async fn a_hub_is_taken_for_a_proof_and_not_for_its_word() {
    let app = app!(api());
    let uri = format!("/api/v1/identity?nonce={}", "00".repeat(32));
    let request = test::TestRequest::get().uri(&uri).to_request();
    let identity: Identity = test::call_and_read_body_json(&app, request).await;
    let challenge = hex::decode(identity.challenge.unwrap()).unwrap();
    let certificate =
        |name: &str| rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap().cert.pem();
    let proof = |token: &str, challenge: &[u8], certificate: &str| {
        let key = blake3::derive_key(INTRODUCTION_CONTEXT, token.as_bytes());
        let covered = [challenge, certificate.as_bytes()].concat();
        blake3::keyed_hash(&key, &covered).to_hex().to_string()
    };
    let introduce = async |certificate: &str, proof: String| {
        let certificate = certificate.to_owned();
        let request = test::TestRequest::post().uri("/api/v1/introduction");
        let request = request.set_json(Introduction { certificate, proof }).to_request();
        test::call_service(&app, request).await
    };
    let (one, two) = (certificate("one"), certificate("two"));
    for wrong in [
        String::new(),
        proof("another-token", &challenge, &one),
        proof(TOKEN, &[0; 32], &one),
        proof(TOKEN, &challenge, &two),
    ] {
        let refused = problem_in(introduce(&one, wrong).await).await.unwrap();
        assert_eq!((refused.status, refused.code.as_str()), (401, "request/unauthorized"));
    }
    let text = proof(TOKEN, &challenge, "text");
    let refused = problem_in(introduce("text", text).await).await.unwrap();
    assert_eq!((refused.status, refused.code.as_str()), (400, "vma/invalid-certificate"));
    for _ in 0..2 {
        let taken = introduce(&one, proof(TOKEN, &challenge, &one)).await;
        let taken: Introduced = test::read_body_json(taken).await;
        assert_eq!(taken.authority, hub_nbd::fingerprint(&one).unwrap());
    }
    let refused = introduce(&two, proof(TOKEN, &challenge, &two)).await;
    let refused = problem_in(refused).await.unwrap();
    assert_eq!((refused.status, refused.code.as_str()), (409, "vma/other-hub"));
}

#[actix_web::test]
async fn everything_else_needs_the_token_trap_c12() {
    let app = app!(api());
    for (method, path) in [
        (Method::GET, "/api/v1/discover"),
        (Method::POST, "/api/v1/discover"),
        (Method::POST, "/api/v1/backup/start"),
        (Method::POST, "/api/v1/replicate"),
        (Method::GET, "/api/v1/progress/x"),
        (Method::POST, "/api/v1/jobs/x/cancel"),
        (Method::GET, "/api/v1/nothing"),
    ] {
        for shown in ["", "Bearer ", "Bearer wrong", "Basic YTph", TOKEN] {
            let request = test::TestRequest::default().method(method.clone()).uri(path);
            let request = request.insert_header((header::AUTHORIZATION, shown));
            let refused =
                problem_in(test::call_service(&app, request.to_request()).await).await.unwrap();
            assert_eq!(refused.code, "request/unauthorized", "{method} {path} {shown}");
        }
    }
    let request = with_token(Method::GET, "/api/v1/discover").to_request();
    let inventory: Inventory = test::call_and_read_body_json(&app, request).await;
    assert_eq!(inventory.vcenter.host, "memory");
}

#[actix_web::test]
async fn errors_of_the_framework_have_the_shape_too() {
    let app = app!(api());
    let code = async |request: test::TestRequest| {
        problem_in(test::call_service(&app, request.to_request()).await)
            .await
            .map(|it| (it.status, it.code))
            .unwrap()
    };
    let post = |path| with_token(Method::POST, path);
    let json = (header::CONTENT_TYPE, "application/json");
    let start = || post("/api/v1/backup/start");
    assert_eq!(
        code(with_token(Method::GET, "/nothing")).await,
        (404, "request/unknown-path".into())
    );
    assert_eq!(
        code(with_token(Method::GET, "/api/v1/x")).await,
        (404, "request/unknown-path".into())
    );
    for (method, path) in [
        (Method::DELETE, "/health"),
        (Method::PUT, "/api/v1/discover"),
        (Method::GET, "/api/v1/replicate"),
    ] {
        assert_eq!(
            code(with_token(method, path)).await,
            (405, "request/method-not-allowed".into())
        );
    }
    let bad = start().insert_header(json.clone()).set_payload("{");
    assert_eq!(code(bad).await, (400, "request/invalid-body".into()));
    let text = start().set_payload("job");
    assert_eq!(code(text).await, (415, "request/not-json".into()));
    let huge = start().insert_header(json).set_payload(vec![b' '; (1 << 20) + 1]);
    assert_eq!(code(huge).await, (413, "request/too-large".into()));
    let unknown = with_token(Method::GET, "/api/v1/progress/none");
    assert_eq!(code(unknown).await, (404, "copy/job-not-found".into()), "trap D38");
    assert_eq!(code(post("/api/v1/jobs/none/cancel")).await, (404, "copy/job-not-found".into()));
}

#[actix_web::test]
async fn trap_c12_a_problem_repeats_no_secret_of_the_body() {
    let app = app!(api());
    let login = json!({"vcenter": "vc", "username": "u", "password": 48_151_623});
    let export = json!({"host": "hub", "port": 1, "export": [48_151_623]});
    let disk = json!({"key": "disk-2000", "capacity_bytes": 1, "block_size": 65_536,
        "method": {"kind": "full"}, "target": export});
    let copy = json!({"job_id": "j", "vm_id": "vm", "disks": [disk]});
    let copy_with_login = json!({"job_id": "j", "vm_id": "vm", "credentials": login, "disks": []});
    for (path, body) in [
        ("/api/v1/discover", json!("48151623")),
        ("/api/v1/backup/start", copy),
        ("/api/v1/backup/start", copy_with_login),
    ] {
        let request = with_token(Method::POST, path).set_json(&body).to_request();
        let problem = problem_in(test::call_service(&app, request).await).await.unwrap();
        assert_eq!(problem.code, "request/invalid-body", "{body}");
        assert!(!format!("{problem:?}").contains("48151623"), "{problem:?}");
    }
}

#[actix_web::test]
async fn a_job_is_started_watched_and_started_again() {
    let (api, mut hub) = (api(), Hub::start().await.unwrap());
    let app = app!(api.clone());
    let image = memory(vec![0; content(1).len()]);
    let target = hub.offer("disk", image.clone()).unwrap();
    let body = json!({
        "job_id": "j-1", "vm_id": "vm",
        "credentials": {"vcenter": "vc", "username": "u", "password": "never shown"},
        "disks": [{"key": "disk-2000", "capacity_bytes": content(1).len(), "block_size": 65_536,
            "method": {"kind": "full"}, "target": target}],
    });
    let start = |path| with_token(Method::POST, path).set_json(&body).to_request();
    let answer = test::call_service(&app, start("/api/v1/backup/start")).await;
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    assert_eq!(answer.headers().get(header::LOCATION).unwrap(), "/api/v1/progress/j-1");
    let report: CopyReport = test::read_body_json(answer).await;
    assert_eq!(report.disks[0].key, "disk-2000");
    ended(&api.jobs, "j-1").await.unwrap();

    let request = with_token(Method::GET, "/api/v1/progress/j-1").to_request();
    let report: CopyReport = test::call_and_read_body_json(&app, request).await;
    assert_eq!(report.state, CopyState::Succeeded);
    assert!(image.snapshot() == content(1));
    let again: CopyReport = test::call_and_read_body_json(&app, start("/api/v1/replicate")).await;
    assert_eq!(again, report);

    let mut other = body.clone();
    other["disks"][0]["method"] = json!({"kind": "by_digest"});
    other["job_id"] = json!("j-2");
    let request = with_token(Method::POST, "/api/v1/backup/start").set_json(&other);
    assert_eq!(
        problem_in(test::call_service(&app, request.to_request()).await).await.unwrap().code,
        "copy/parent-required"
    );
    let mut other = body;
    other["vm_id"] = json!("stranger");
    let request = with_token(Method::POST, "/api/v1/backup/start").set_json(&other);
    assert_eq!(
        problem_in(test::call_service(&app, request.to_request()).await).await.unwrap().status,
        409
    );
    other["job_id"] = json!("j-3");
    let request = with_token(Method::POST, "/api/v1/backup/start").set_json(&other);
    assert_eq!(
        problem_in(test::call_service(&app, request.to_request()).await).await.unwrap().code,
        "source/vm-not-found"
    );
}

#[actix_web::test]
async fn a_source_without_logins_and_snapshots_says_so() {
    let app = app!(api());
    let login = json!({"vcenter": "vc", "username": "u", "password": "hunter2"});
    let request = with_token(Method::POST, "/api/v1/credentials/test").set_json(login);
    let tested: CredentialsTest = test::call_and_read_body_json(&app, request.to_request()).await;
    assert_eq!(tested, CredentialsTest::default());
    let owed = json!({"job_id": "j1", "vm_id": "vm"});
    for _ in 0..2 {
        let request = with_token(Method::POST, "/api/v1/snapshots/cleanup").set_json(&owed);
        let report: CleanupReport = test::call_and_read_body_json(&app, request.to_request()).await;
        assert_eq!(report, CleanupReport { outcome: CleanupOutcome::None, error: None });
    }
    let request = with_token(Method::GET, "/api/v1/snapshots/owed").to_request();
    let listed: OwedSnapshots = test::call_and_read_body_json(&app, request).await;
    assert_eq!(listed, OwedSnapshots::default());
    let job = json!({"job_id": "j1"});
    let request = with_token(Method::POST, "/api/v1/snapshots/strike-off").set_json(&job);
    let report: StrikeOffReport = test::call_and_read_body_json(&app, request.to_request()).await;
    assert!(!report.struck_off);
    let guarded = ["credentials/test", "snapshots/cleanup", "snapshots/strike-off"];
    for path in guarded.map(|it| format!("/api/v1/{it}")) {
        let stranger = test::TestRequest::post().uri(&path).set_json(&owed).to_request();
        let refused = problem_in(test::call_service(&app, stranger).await).await.unwrap();
        assert_eq!(refused.status, 401, "{path}");
    }
}

#[actix_web::test]
async fn a_job_at_work_is_not_cleaned_up_before_its_snapshot_is_there() {
    let gate = Arc::new(Semaphore::new(0));
    let gated = GatedDevice { inner: memory(content(1)), gate: gate.clone() };
    let source = MemorySource::with(vec![("disk-2000", Arc::new(gated) as _)]);
    let jobs = Jobs::new(Arc::new(source), JobsOptions::default(), CancellationToken::new());
    let api = Arc::new(Api::new("lab", "1.2.3", &SecretString::from(TOKEN), Arc::new(jobs)));
    let app = app!(api.clone());
    let mut hub = Hub::start().await.unwrap();
    let target = hub.offer("disk", memory(vec![0; content(1).len()])).unwrap();
    let order = copying("j1", vec![full_disk("disk-2000", content(1).len(), target)]);
    api.jobs.start(order).await.unwrap();
    let owed = json!({"job_id": "j1", "vm_id": "vm"});
    let ask = || with_token(Method::POST, "/api/v1/snapshots/cleanup").set_json(&owed).to_request();
    let report: CleanupReport = test::call_and_read_body_json(&app, ask()).await;
    assert_eq!(report.error.unwrap().code, "source/snapshot-in-use");
    let job = json!({"job_id": "j1"});
    let request = with_token(Method::POST, "/api/v1/snapshots/strike-off").set_json(&job);
    let refused = test::call_service(&app, request.to_request()).await;
    let refused = problem_in(refused).await.unwrap();
    assert_eq!((refused.status, refused.code.as_str()), (409, "source/snapshot-in-use"));
    gate.add_permits(1_000);
    ended(&api.jobs, "j1").await.unwrap();
    let report: CleanupReport = test::call_and_read_body_json(&app, ask()).await;
    assert_eq!(report.outcome, CleanupOutcome::None);
}

/// Nothing is left by a copy that comes yet: the answer would end the hub's own record of it.
#[actix_web::test]
async fn p3_an_order_that_is_being_accepted_is_not_cleaned_up_before_its_snapshot() {
    for held_first in ["order", "clean-up"] {
        let (checking, cleaning) = (Stop::new(), Stop::new());
        let disks = vec![("disk-2000", memory(content(1)) as _)];
        let source = MemorySource {
            checking: Some(checking.clone()),
            cleaning: Some(cleaning.clone()),
            ..MemorySource::with(disks)
        };
        let jobs = Jobs::new(Arc::new(source), JobsOptions::default(), CancellationToken::new());
        let api = Arc::new(Api::new("lab", "1.2.3", &SecretString::from(TOKEN), Arc::new(jobs)));
        let app = app!(api.clone());
        let mut hub = Hub::start().await.unwrap();
        let target = hub.offer("disk", memory(vec![0; content(1).len()])).unwrap();
        let order = copying("j1", vec![full_disk("disk-2000", content(1).len(), target)]);
        let owed = json!({"job_id": "j1", "vm_id": "vm"});
        let request = with_token(Method::POST, "/api/v1/snapshots/cleanup").set_json(&owed);
        let asking = test::call_and_read_body_json(&app, request.to_request());
        let report: CleanupReport = if held_first == "order" {
            let cleaned = async {
                checking.is_reached().await.unwrap();
                cleaning.go_on();
                let report = asking.await;
                checking.go_on();
                report
            };
            let (started, report) = tokio::join!(api.jobs.start(order), cleaned);
            started.unwrap();
            report
        } else {
            let ordered = async {
                cleaning.is_reached().await.unwrap();
                checking.go_on();
                api.jobs.start(order).await.unwrap();
                cleaning.go_on();
            };
            tokio::join!(asking, ordered).0
        };
        assert_eq!(report.outcome, CleanupOutcome::Failed, "{held_first}");
        assert_eq!(report.error.unwrap().code, "source/snapshot-in-use");
        ended(&api.jobs, "j1").await.unwrap();
        cleaning.go_on();
        let again = with_token(Method::POST, "/api/v1/snapshots/cleanup").set_json(&owed);
        let report: CleanupReport = test::call_and_read_body_json(&app, again.to_request()).await;
        assert_eq!(report.outcome, CleanupOutcome::None, "{held_first}");
    }
}
