//! A hub over doubles, and a client that calls it in process.

use std::sync::Arc;
use std::time::Duration;

use actix_web::App;
use actix_web::body::to_bytes;
use actix_web::http::Method;
use actix_web::http::header::HeaderMap;
use actix_web::test::{TestRequest, call_service, init_service};
use anyhow::{Context, Result, anyhow, ensure};
use hub_api::{Api, Hub, HubFacts, NewToken};
use hub_backup::Backup;
use hub_discovery::Discovery;
use hub_domain::inventory::{SeenInventory, SeenVm};
use hub_job_runner::Supervisor;
use hub_ports::{
    BackupStorage, Clock, IdGen, RateReadings, SourceNode, SourceWaits, Store, WatchOptions,
};
use hub_replication::Replication;
use hub_restore::{ExportRegistry, Restore};
use hub_testkit::{
    FakeVma, FixedClock, MemBackupStorage, MemReplicaStorage, MemStore, SeqIds, Steps, fixtures,
};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a condition may take to come true; only a bug reaches it, on a machine of any speed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// What the labs show as the certificate of their authority.
pub(crate) const AUTHORITY: &str = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n";

/// How often a copy is asked how far it is.
const POLL: Duration = Duration::from_millis(10);

/// A hub over doubles.
pub(crate) struct Lab {
    pub(crate) api: Api,
    pub(crate) store: Arc<MemStore>,
    pub(crate) clock: Arc<FixedClock>,
    pub(crate) vma: Arc<FakeVma>,
    pub(crate) storage: Arc<MemBackupStorage>,
    pub(crate) store_steps: Steps,
    pub(crate) storage_steps: Steps,
    pub(crate) supervisor: Supervisor,
    pub(crate) stop: CancellationToken,
    token: String,
}

/// What a call answered.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
    pub(crate) text: String,
}

impl Reply {
    /// One header as text.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|it| it.to_str().ok()).unwrap_or_default()
    }

    /// Status and code of a problem, after checking that it is one.
    pub(crate) fn problem(&self) -> (u16, &str) {
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.text);
        assert_eq!(self.body["status"], self.status);
        let code = self.body["code"].as_str().unwrap_or_default();
        assert_eq!(self.body["type"], format!("/problems/{code}"));
        assert_eq!(self.body["instance"], self.header("x-request-id"), "{}", self.text);
        (self.status, code)
    }

    /// The text at a pointer into the body.
    pub(crate) fn text_at(&self, pointer: &str) -> Result<String> {
        let found = self.body.pointer(pointer).and_then(Value::as_str);
        found.map(ToOwned::to_owned).with_context(|| format!("{pointer} in {}", self.text))
    }
}

impl Lab {
    /// A hub whose one VMA has these VMs; nothing is registered yet.
    pub(crate) async fn new(vms: Vec<SeenVm>) -> Result<Self> {
        Self::of(fixtures::inventory(vms)).await
    }

    /// The same, from a whole inventory.
    pub(crate) async fn of(inventory: SeenInventory) -> Result<Self> {
        let store_steps = Steps::default();
        let store = Arc::new(MemStore::with_steps(store_steps.clone()));
        let vma = Arc::new(FakeVma::new(inventory));
        let storage_steps = Steps::default();
        let storage = Arc::new(MemBackupStorage::with_steps(storage_steps.clone()));
        let (supervisor, stop) = (Supervisor::default(), CancellationToken::new());
        let clock = Arc::new(FixedClock::default());
        let ids: Arc<dyn IdGen> = Arc::new(SeqIds::default());
        let token = NewToken::make("test");
        token.store(store.as_ref(), clock.as_ref(), ids.as_ref()).await?;
        let hub = hub(&store, &vma, &storage, &supervisor, &stop, clock.clone(), ids);
        Ok(Self {
            api: Api::new(hub),
            store,
            clock,
            vma,
            storage,
            store_steps,
            storage_steps,
            supervisor,
            stop,
            token: token.text.expose_secret().to_owned(),
        })
    }

    /// A hub with a registered VMA, a repository, and `pgtest1` under management.
    pub(crate) async fn with_pgtest1() -> Result<Self> {
        let lab = Self::new(vec![fixtures::pgtest1()?]).await?;
        lab.register_vma().await?;
        let added = lab.post("/api/v1/discovery/add-vms", json!({"vm_names": ["pgtest1"]})).await?;
        ensure!(added.body["added"] == 1, "{}", added.text);
        Ok(lab)
    }

    /// Registers the VMA; its id.
    pub(crate) async fn register_vma(&self) -> Result<String> {
        let body =
            json!({"name": "vma-1", "url": "http://vma-1:8081", "token": "0123456789abcdef"});
        let made = self.post("/api/v1/vma-nodes", body).await?;
        ensure!(made.status == 201, "{}", made.text);
        made.text_at("/id")
    }

    /// Adds a repository; its id.
    pub(crate) async fn repository(&self, name: &str) -> Result<String> {
        let body = json!({"name": name, "kind": "local", "path": format!("/srv/{name}")});
        let made = self.post("/api/v1/repositories", body).await?;
        ensure!(made.status == 201, "{}", made.text);
        made.text_at("/id")
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Reply> {
        self.send(Method::GET, path, None, Some(&self.token)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Result<Reply> {
        self.send(Method::POST, path, Some(body), Some(&self.token)).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Result<Reply> {
        self.send(Method::PUT, path, Some(body), Some(&self.token)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Result<Reply> {
        self.send(Method::PATCH, path, Some(body), Some(&self.token)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<Reply> {
        self.send(Method::DELETE, path, None, Some(&self.token)).await
    }

    /// Calls with any method, body and token.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        token: Option<&str>,
    ) -> Result<Reply> {
        let mut request = TestRequest::with_uri(path).method(method);
        if let Some(token) = token {
            request = request.insert_header(("authorization", format!("Bearer {token}")));
        }
        if let Some(body) = body {
            request = request.set_json(body);
        }
        self.call(request).await
    }

    /// Calls with a request of the test's own making, authorised.
    pub(crate) async fn authorised(&self, request: TestRequest) -> Result<Reply> {
        self.call(self.with_token(request)).await
    }

    /// Gives a request the token.
    pub(crate) fn with_token(&self, request: TestRequest) -> TestRequest {
        request.insert_header(("authorization", format!("Bearer {}", self.token)))
    }

    /// Answers a request as it is.
    pub(crate) async fn call(&self, request: TestRequest) -> Result<Reply> {
        let service = init_service(App::new().configure(|it| self.api.configure(it))).await;
        let response = call_service(&service, request.to_request()).await;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = to_bytes(response.into_body()).await.map_err(|error| anyhow!("{error}"))?;
        let text = String::from_utf8(bytes.to_vec())?;
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Reply { status, headers, body, text })
    }

    /// Asks until `done` says so; the answer that satisfied it.
    pub(crate) async fn until(&self, path: &str, done: impl Fn(&Value) -> bool) -> Result<Reply> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let reply = self.get(path).await?;
            if done(&reply.body) {
                return Ok(reply);
            }
            ensure!(Instant::now() < deadline, "{path} stays {}", reply.text);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits for the end of a job; its resource.
    pub(crate) async fn ended(&self, location: &str) -> Result<Reply> {
        let terminal = ["succeeded", "failed", "cancelled", "interrupted"];
        let ended = |body: &Value| body["status"].as_str().is_some_and(|it| terminal.contains(&it));
        self.until(location, ended).await
    }
}

fn hub(
    store: &Arc<MemStore>,
    vma: &Arc<FakeVma>,
    images: &Arc<MemBackupStorage>,
    supervisor: &Supervisor,
    stop: &CancellationToken,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdGen>,
) -> Hub {
    let store: Arc<dyn Store> = store.clone();
    let source: Arc<dyn SourceNode> = vma.clone();
    let storage: Arc<dyn BackupStorage> = images.clone();
    let watch = WatchOptions { poll_interval: POLL, ..WatchOptions::default() };
    let rates = RateReadings::new(1);
    Hub {
        facts: HubFacts {
            owed_alarm: Duration::from_secs(3600),
            version: "1.2.3".to_owned(),
            build: "test".to_owned(),
            database: "memory".to_owned(),
            restore_dir: "/srv/restores".into(),
            nbd_authority: AUTHORITY.to_owned(),
        },
        discovery: Discovery {
            store: store.clone(),
            source: source.clone(),
            clock: clock.clone(),
            ids: ids.clone(),
            options: Default::default(),
        },
        replication: Replication {
            store: store.clone(),
            source: source.clone(),
            storage: Arc::new(MemReplicaStorage::default()),
            clock: clock.clone(),
            ids: ids.clone(),
            rates: rates.clone(),
            waits: SourceWaits::default(),
            options: hub_replication::Options { watch, ..Default::default() },
        },
        backup: Backup {
            store: store.clone(),
            source: source.clone(),
            storage: storage.clone(),
            clock: clock.clone(),
            ids: ids.clone(),
            rates: rates.clone(),
            waits: SourceWaits::default(),
            options: hub_backup::Options { watch, ..Default::default() },
        },
        restore: Restore {
            store: store.clone(),
            storage: storage.clone(),
            clock: clock.clone(),
            ids: ids.clone(),
            exports: ExportRegistry::default(),
            options: Default::default(),
        },
        store,
        source,
        storage,
        clock,
        ids,
        supervisor: supervisor.clone(),
        stop: stop.clone(),
    }
}
