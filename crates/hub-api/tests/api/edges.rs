//! What holds for every call: the token, the error shape, the limits.

use actix_web::http::Method;
use actix_web::test::TestRequest;
use anyhow::Result;
use hub_api::Api;
use hub_testkit::Break;
use serde_json::{Value, json};

use crate::lab::Lab;

/// Method and path of every documented call, and whether it is open.
fn calls() -> Result<Vec<(Method, String, bool)>> {
    let document: Value = serde_json::from_str(&Api::openapi())?;
    let mut calls = Vec::new();
    for (path, item) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in item.as_object().into_iter().flatten() {
            let method = Method::from_bytes(method.to_uppercase().as_bytes())?;
            let path = path.replace(['{', '}'], "");
            calls.push((method, path, operation["security"] == json!([{}])));
        }
    }
    Ok(calls)
}

#[tokio::test]
async fn trap_c12_every_call_but_the_open_ones_wants_a_token() {
    let lab = Lab::new(Vec::new()).await.unwrap();
    let calls = calls().unwrap();
    let mut open = Vec::new();
    for (method, path, is_open) in &calls {
        for token in [None, Some("hub_0000"), Some("")] {
            let reply = lab.send(method.clone(), path, None, token).await.unwrap();
            if *is_open {
                assert_ne!(reply.status, 401, "{method} {path}");
            } else {
                assert_eq!(reply.problem(), (401, "request/unauthorized"), "{method} {path}");
                assert_eq!(reply.header("www-authenticate"), "Bearer");
            }
        }
        if *is_open {
            open.push(path.as_str());
        }
    }
    open.sort_unstable();
    assert_eq!(
        open,
        ["/api/v1/certificates/nbd-ca.pem", "/api/v1/health", "/health", "/problems/code"]
    );
    assert!(calls.len() > 50, "{}", calls.len());
}

/// Whatever a router, a proxy or a handler takes a path for, a token comes before it.
#[tokio::test]
async fn trap_c12_no_spelling_of_a_path_goes_around_the_token() {
    let lab = Lab::new(Vec::new()).await.unwrap();
    for path in [
        "//api/v1/repositories",
        "/api//v1/repositories",
        "/api/v1//repositories",
        "/api/v1/repositories/",
        "/api/v1/repositories/.",
        "/api/v1/./repositories",
        "/api/v1/health/../repositories",
        "/api/v1/health/%2e%2e/repositories",
        "/problems/../api/v1/repositories",
        "/problems/%2e%2e%2fapi/v1/repositories",
        "/problems/../../../etc/passwd",
        "/health/api/v1/repositories",
        "/api/v1/%72epositories",
        "/api%2fv1/repositories",
        "/%61pi/v1/repositories",
        "/API/V1/repositories",
        "/api/v1/repositories;/health",
        "/api/v1/repositories%00",
        "/api/v1/repositories?/health",
        "/api/v1/debug/health",
    ] {
        for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::POST, Method::PATCH] {
            let request = TestRequest::with_uri(path).method(method.clone());
            let request = request.insert_header(("x-http-method-override", "GET"));
            let reply = lab.call(request).await.unwrap();
            assert!(matches!(reply.status, 401 | 404 | 405), "{method} {path}: {}", reply.text);
        }
    }
}

#[tokio::test]
async fn trap_c12_a_problem_repeats_no_secret_of_the_body() {
    let lab = Lab::new(Vec::new()).await.unwrap();
    for (path, body) in [
        ("/api/v1/vmware-credentials", json!({"name": "a", "password": 48_151_623})),
        ("/api/v1/vmware-credentials", json!({"password": ["48151623"], "name": "48151623"})),
        ("/api/v1/vmware-credentials", json!("48151623, expected")),
        ("/api/v1/vma-nodes", json!({"name": "a", "url": "http://a", "token": 48_151_623.5})),
    ] {
        let reply = lab.post(path, body).await.unwrap();
        assert_eq!(reply.problem(), (400, "request/invalid-body"));
        assert!(reply.text.contains("expected a") || reply.text.contains("expected struct"));
        assert!(!reply.text.contains("48151623"), "{}", reply.text);
    }
}

#[tokio::test]
async fn trap_d37_whatever_is_wrong_is_told_as_a_problem() {
    let lab = Lab::new(Vec::new()).await.unwrap();
    let repositories = "/api/v1/repositories";
    let with = |text: &'static str| {
        TestRequest::post()
            .uri(repositories)
            .insert_header(("content-type", "application/json"))
            .set_payload(text)
    };
    let long = format!("{{\"name\":\"{}\"}}", "x".repeat(2 << 20));
    let cases: Vec<(TestRequest, u16, &str)> = vec![
        (with("{"), 400, "request/invalid-body"),
        (with("{\"name\":\"a\"}"), 400, "request/invalid-body"),
        (with("{\"name\":\"a\",\"path\":\"/a\",\"pth\":1}"), 400, "request/invalid-body"),
        (with("{\"name\":\"\",\"path\":\"/a\"}"), 400, "request/invalid-field"),
        (with("{\"name\":\"a\\u0000\",\"path\":\"/a\"}"), 400, "request/invalid-field"),
        (TestRequest::post().uri(repositories).set_payload("{}"), 415, "request/not-json"),
        (with("").set_payload(long), 413, "request/too-large"),
        (TestRequest::get().uri("/api/v1/repositories?limit=0"), 400, "request/invalid-query"),
        (TestRequest::get().uri("/api/v1/repositories?limit=501"), 400, "request/invalid-query"),
        (TestRequest::get().uri("/api/v1/repositories?limit=x"), 400, "request/invalid-query"),
        (TestRequest::get().uri("/api/v1/repositories?after=x"), 400, "request/invalid-query"),
        (TestRequest::get().uri("/api/v1/repositories?lmit=3"), 400, "request/invalid-query"),
        (TestRequest::get().uri("/api/v1/repositories/none"), 404, "repository/not-found"),
        (TestRequest::get().uri("/api/v1/nothing"), 404, "request/unknown-path"),
        (TestRequest::get().uri("/nothing"), 404, "request/unknown-path"),
    ];
    for (number, (request, status, code)) in cases.into_iter().enumerate() {
        let reply = lab.authorised(request).await.unwrap();
        assert_eq!(reply.problem(), (status, code), "case {number}: {}", reply.text);
        assert!(!reply.text_at("/title").unwrap().is_empty());
    }
    let fits = lab.get("/api/v1/repositories?limit=3.0").await.unwrap();
    assert_eq!(fits.status, 200, "{}", fits.text);
}

#[tokio::test]
async fn a_wrong_method_is_answered_with_the_right_ones() {
    let lab = Lab::new(Vec::new()).await.unwrap();
    for (path, allow) in [
        ("/api/v1/repositories", "GET, POST"),
        ("/api/v1/backups/0", "GET, DELETE"),
        ("/api/v1/backup/start", "POST"),
        ("/health", "GET"),
    ] {
        let request = TestRequest::with_uri(path).method(Method::PATCH);
        let reply = lab.authorised(request).await.unwrap();
        assert_eq!(reply.problem(), (405, "request/method-not-allowed"), "{path}");
        assert_eq!(reply.header("allow"), allow, "{path}");
    }
}

#[tokio::test]
async fn trap_d28_words_are_not_taken_for_ids() {
    let lab = Lab::new(Vec::new()).await.unwrap();
    for (path, status) in [
        ("/api/v1/backups/stats", 200),
        ("/api/v1/backup/list", 200),
        ("/api/v1/backup/chain?vm_name=x", 404),
        ("/api/v1/backups/none", 404),
    ] {
        let reply = lab.get(path).await.unwrap();
        assert_eq!(reply.status, status, "{path}: {}", reply.text);
    }
    let chain = lab.get("/api/v1/backup/chain?vm_name=x").await.unwrap();
    assert_eq!(chain.problem().1, "vm/not-found");
    assert_eq!(lab.get("/api/v1/backups/none").await.unwrap().problem().1, "backup/not-found");
}

#[tokio::test]
async fn a_request_id_is_kept_when_it_is_plain_and_made_when_it_is_not() {
    let lab = Lab::new(Vec::new()).await.unwrap();
    let given =
        |id: &str| TestRequest::get().uri("/api/v1/nothing").insert_header(("x-request-id", id));
    let kept = lab.authorised(given("abc-1")).await.unwrap();
    assert_eq!(kept.body["instance"], "abc-1");
    let made = lab.authorised(given("<script>")).await.unwrap();
    assert_ne!(made.body["instance"], "<script>");
    assert!(!made.header("x-request-id").is_empty());
}

#[tokio::test]
async fn the_health_is_told_without_a_token_and_the_details_with_one() {
    let lab = Lab::new(Vec::new()).await.unwrap();
    for path in ["/health", "/api/v1/health"] {
        let reply = lab.send(Method::GET, path, None, None).await.unwrap();
        assert_eq!(reply.body, json!({"status": "ok", "version": "1.2.3"}));
    }
    let details = lab.get("/api/v1/debug/health").await.unwrap();
    let info = &details.body["system_info"];
    assert_eq!(info["database"], json!({"kind": "memory", "status": "ok"}));
    assert_eq!(info["api_endpoints"], calls().unwrap().len());
    assert_eq!(details.body["status"], "ok");
}

#[tokio::test]
async fn a_database_that_is_away_is_told_as_503_and_nothing_more() {
    let lab = Lab::new(Vec::new()).await.unwrap();
    assert_eq!(lab.get("/api/v1/repositories").await.unwrap().status, 200);
    lab.store_steps.break_at(1, Break::Fail);
    let reply = lab.get("/api/v1/repositories").await.unwrap();
    assert_eq!(reply.problem(), (503, "store/unavailable"));
    assert!(!reply.header("retry-after").is_empty());
    lab.store_steps.break_at(1, Break::Fail);
    let details = lab.get("/api/v1/debug/health").await.unwrap();
    assert_eq!(details.body["status"], "degraded");
    lab.store_steps.heal();
    assert_eq!(lab.get("/api/v1/repositories").await.unwrap().status, 200);
}

#[tokio::test]
async fn every_problem_has_its_page() {
    let lab = Lab::new(Vec::new()).await.unwrap();
    let page = lab.send(Method::GET, "/problems/vm/ambiguous-name", None, None).await.unwrap();
    assert_eq!(page.header("content-type"), "text/markdown; charset=utf-8");
    assert!(page.text.starts_with("# "), "{}", page.text);
    let none = lab.send(Method::GET, "/problems/no/such", None, None).await.unwrap();
    assert_eq!(none.problem(), (404, "request/unknown-path"));
}

#[tokio::test]
async fn the_document_is_served() {
    let lab = Lab::new(Vec::new()).await.unwrap();
    let document = lab.get("/api/v1/openapi.json").await.unwrap();
    assert_eq!(document.text, Api::openapi());
    assert_eq!(document.body["openapi"], "3.1.0");
}
