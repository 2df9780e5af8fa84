//! Credentials, VMAs and repositories.

use anyhow::Result;
use hub_domain::fault::Fault;
use hub_domain::source::SourceAbout;
use hub_testkit::{Break, fixtures};
use serde_json::{Value, json};

use crate::lab::Lab;

fn login(name: &str) -> Value {
    json!({"name": name, "vcenter_host": "vc.example.local", "username": "backup", "password": "hunter2 secret"})
}

#[tokio::test]
async fn a_credential_is_kept_and_its_password_never_comes_back() {
    let lab = Lab::new(Vec::new()).await.unwrap();
    let made = lab.post("/api/v1/vmware-credentials", login("lab")).await.unwrap();
    assert_eq!(made.status, 201, "{}", made.text);
    insta::assert_json_snapshot!("credential", made.body);
    let path = made.header("location").to_owned();
    let mut changed = login("other");
    changed["datacenter"] = json!("DC1");
    changed.as_object_mut().unwrap().remove("password");
    let replies = [
        lab.get(&path).await.unwrap(),
        lab.put(&path, changed).await.unwrap(),
        lab.get("/api/v1/vmware-credentials").await.unwrap(),
    ];
    for reply in &replies {
        assert_eq!(reply.status, 200, "{}", reply.text);
        assert!(!reply.text.contains("hunter2"), "{}", reply.text);
    }
    assert_eq!(replies[2].body["items"][0]["name"], "other");
    assert_eq!(replies[2].body["items"][0]["datacenter"], "DC1");
    let taken = lab.post("/api/v1/vmware-credentials", login("other")).await.unwrap();
    assert_eq!(taken.problem(), (409, "store/refused"));
    assert_eq!(lab.delete(&path).await.unwrap().status, 204);
    assert_eq!(lab.delete(&path).await.unwrap().problem(), (404, "credential/not-found"));
}

#[tokio::test]
async fn trap_c15_a_credential_is_really_tested_or_not_at_all() {
    let lab = Lab::new(vec![fixtures::pgtest1().unwrap()]).await.unwrap();
    let vma = lab.register_vma().await.unwrap();
    let made = lab.post("/api/v1/vmware-credentials", login("lab")).await.unwrap();
    let test = format!("{}/test", made.header("location"));
    let folder = lab.post(&test, json!({"vma_node_id": vma})).await.unwrap();
    assert_eq!(folder.problem(), (409, "credential/not-testable"));
    lab.vma.set_about(Ok(SourceAbout {
        product: "VMware vCenter Server 8.0.2 build-22617221".to_owned(),
        version: "8.0.2".to_owned(),
        build: "22617221".to_owned(),
        api_type: "VirtualCenter".to_owned(),
        instance_uuid: Some("vc-1".to_owned()),
    }));
    let works = lab.post(&test, json!({"vma_node_id": vma})).await.unwrap();
    assert_eq!((&works.body["ok"], &works.body["instance_uuid"]), (&json!(true), &json!("vc-1")));
    assert_eq!(lab.vma.inventory_calls(), 0, "nobody waits for a list of ten thousand VMs");
    let known = lab.get(&format!("/api/v1/vma-nodes/{vma}")).await.unwrap();
    assert_eq!(known.body["source_uuid"], "vc-1", "it is kept in mind for the choice of VMAs");
    for (code, expected) in [
        ("source/login-refused", (409, "source/login-refused")),
        ("source/endpoint-untrusted", (409, "source/endpoint-untrusted")),
        ("source/other-endpoint", (409, "source/other-endpoint")),
        ("source/endpoint-unreachable", (503, "source/endpoint-unreachable")),
        ("source/call-failed", (502, "source/call-failed")),
        ("vma/stopping", (503, "vma/stopping")),
        ("something/new", (409, "vma/refused")),
        ("request/unauthorized", (502, "vma/refused")),
        ("internal", (502, "vma/refused")),
    ] {
        lab.vma.set_about(Err(Fault::new(code, "what the VMA says")));
        let discover = json!({"vma_node_id": vma});
        let add = json!({"vma_node_id": vma, "all": true});
        for refused in [
            lab.post(&test, json!({"vma_node_id": vma})).await.unwrap(),
            lab.post("/api/v1/discovery/discover-vms", discover).await.unwrap(),
            lab.post("/api/v1/discovery/add-vms", add).await.unwrap(),
        ] {
            assert_eq!(refused.problem(), expected);
            assert_eq!(refused.headers.contains_key("retry-after"), expected.0 == 503);
            assert!(refused.text.contains("what the VMA says"), "{}", refused.text);
            assert!(!refused.text.contains("hunter2"), "{}", refused.text);
        }
    }
    lab.vma.set_reachable(false);
    let away = lab.post(&test, json!({"vma_node_id": vma})).await.unwrap();
    assert_eq!(away.problem(), (503, "vma/unreachable"));
    lab.vma.set_reachable(true);
    let none = "00000000-0000-0000-0000-00000000ffff";
    let unknown = lab.post(&test, json!({"vma_node_id": none})).await.unwrap();
    assert_eq!(unknown.problem(), (404, "vma/not-found"));
}

#[tokio::test]
async fn a_vma_has_to_answer_before_it_is_stored() {
    let lab = Lab::new(Vec::new()).await.unwrap();
    lab.vma.set_reachable(false);
    let body = json!({"name": "vma-1", "url": "http://vma-1:8081", "token": "0123456789abcdef"});
    let down = lab.post("/api/v1/vma-nodes", body.clone()).await.unwrap();
    assert_eq!(down.problem(), (503, "vma/unreachable"));
    lab.vma.set_reachable(true);
    let made = lab.post("/api/v1/vma-nodes", body).await.unwrap();
    insta::assert_json_snapshot!("vma_node", made.body);
    let path = made.header("location").to_owned();
    let tested = lab.post(&format!("{path}/test"), json!({})).await.unwrap();
    assert_eq!(tested.body["ok"], true);
    let moved = json!({"name": "vma-2", "url": "http://vma-2:8081"});
    let changed = lab.put(&path, moved).await.unwrap();
    assert_eq!(changed.body["url"], "http://vma-2:8081");
    let all = lab.get("/api/v1/vma-nodes").await.unwrap();
    assert_eq!(all.body["items"][0]["name"], "vma-2");
    assert!(!all.text.contains("0123456789abcdef"));
    assert_eq!(lab.delete(&path).await.unwrap().status, 204);
    assert_eq!(lab.get(&path).await.unwrap().problem(), (404, "vma/not-found"));
}

#[tokio::test]
async fn bad_fields_of_a_vma_are_pointed_at() {
    let lab = Lab::new(Vec::new()).await.unwrap();
    for (field, value) in
        [("name", ""), ("url", "vma-1:8081"), ("url", "http://u:p@vma-1"), ("token", "short")]
    {
        let mut body = json!({"name": "a", "url": "http://a:1", "token": "0123456789abcdef"});
        body[field] = json!(value);
        let reply = lab.post("/api/v1/vma-nodes", body).await.unwrap();
        assert_eq!(reply.problem(), (400, "request/invalid-field"), "{field}={value}");
        assert_eq!(reply.body["errors"][0]["pointer"], format!("/{field}"));
    }
}

#[tokio::test]
async fn a_repository_is_tried_before_it_is_stored() {
    let lab = Lab::new(Vec::new()).await.unwrap();
    let body = json!({"name": "main", "path": "/srv/main/"});
    lab.storage_steps.break_at(1, Break::Fail);
    let broken = lab.post("/api/v1/repositories", body.clone()).await.unwrap();
    assert_eq!(broken.problem(), (500, "repository/io"));
    assert!(!broken.text.contains("test fault"), "{}", broken.text);
    lab.storage_steps.heal();
    let made = lab.post("/api/v1/repositories", body).await.unwrap();
    insta::assert_json_snapshot!("repository", made.body);
    let path = made.header("location").to_owned();
    assert_eq!(lab.get(&path).await.unwrap().body["path"], "/srv/main");
    let tested = lab.post(&format!("{path}/test"), json!({})).await.unwrap();
    assert_eq!(tested.body["ok"], true);
    for (name, place) in [("b", "/srv/main"), ("b", "/srv/main/inside"), ("b", "/srv")] {
        let body = json!({"name": name, "path": place});
        let reply = lab.post("/api/v1/repositories", body).await.unwrap();
        assert_eq!(reply.problem(), (409, "repository/path-taken"), "{place}");
    }
    assert_eq!(lab.delete(&path).await.unwrap().status, 204);
}

#[tokio::test]
async fn lists_come_in_pages() {
    let lab = Lab::new(Vec::new()).await.unwrap();
    let mut made = Vec::new();
    for number in 0..5 {
        made.push(lab.repository(&format!("r{number}")).await.unwrap());
    }
    let mut seen = Vec::new();
    let mut path = "/api/v1/repositories?limit=2".to_owned();
    loop {
        let page = lab.get(&path).await.unwrap();
        let items = page.body["items"].as_array().unwrap().clone();
        assert!(items.len() <= 2);
        seen.extend(items.iter().filter_map(|it| it["id"].as_str().map(ToOwned::to_owned)));
        let Some(next) = page.body["next"].as_str() else { break };
        path = format!("/api/v1/repositories?limit=2&after={next}");
    }
    assert_eq!(seen, made);
}

#[tokio::test]
async fn trap_c16_what_a_vm_needs_is_not_removed() {
    async fn first(lab: &Lab, path: &str) -> Result<String> {
        lab.get(path).await?.text_at("/items/0/id")
    }
    let lab = Lab::with_pgtest1().await.unwrap();
    let node = first(&lab, "/api/v1/vma-nodes").await.unwrap();
    let refused = lab.delete(&format!("/api/v1/vma-nodes/{node}")).await.unwrap();
    assert_eq!(refused.problem(), (409, "store/refused"));
}
