//! A datastore, a VMA and a hub on one database, as every end-to-end test wants them.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use hub_testkit::database::{DatabaseKind, TestDatabase};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::api::{Api, Fields as _};
use crate::datastore::Datastore;
use crate::processes::{Hub, HubOptions, Lifetime, Vma, VmaOptions};
use crate::tool;

/// The real parts together; dropping it ends the processes and removes everything.
#[derive(Debug)]
pub struct Lab {
    /// A client of the hub with its first token.
    pub api: Api,
    /// The VMA over the datastore; not yet registered.
    pub vma: Vma,
    /// The hub.
    pub hub: Hub,
    /// `datastore1`, empty.
    pub datastore: Datastore,
    /// The hub's catalogue, for states that the API cannot make.
    pub database: TestDatabase,
    folder: TempDir,
}

/// What the processes of a lab find around them.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Environment of the hub, such as `HUB__NBD__PLAIN`.
    pub hub: Vec<(String, String)>,
    /// Environment of the VMA.
    pub vma: Vec<(String, String)>,
}

impl Lab {
    /// Starts VMA and hub; nothing, said loudly, where tools or the database are missing and not required.
    pub async fn start(kind: DatabaseKind) -> Result<Option<Self>> {
        // Boxed, because the compiler gives up on futures that lie too deep in each other.
        Box::pin(Self::start_in(kind, Surroundings::default())).await
    }

    /// The same with environments of their own.
    pub async fn start_in(kind: DatabaseKind, around: Surroundings) -> Result<Option<Self>> {
        if !tool::present(&tool::DISK_TOOLS)? {
            return Ok(None);
        }
        let Some(database) = TestDatabase::create(kind).await? else { return Ok(None) };
        let folder = tempfile::Builder::new().prefix("hub-lab-").tempdir()?;
        let datastore = Datastore::create(folder.path(), "datastore1")?;
        let logs = folder.path().join("logs");
        let vma = Vma::start(VmaOptions {
            name: "lab".to_owned(),
            state_dir: folder.path().join("vma"),
            datastores: vec![datastore.root().to_owned()],
            logs: logs.clone(),
            environment: around.vma,
            lifetime: Lifetime::Owned,
        });
        let vma = vma.await?;
        let hub = Hub::start(HubOptions {
            data_dir: folder.path().join("hub"),
            database_url: Some(database.url.clone()),
            logs,
            environment: around.hub,
            lifetime: Lifetime::Owned,
        });
        let hub = hub.await?;
        let api = hub.api()?;
        Ok(Some(Self { api, vma, hub, datastore, database, folder }))
    }

    /// Starts a lab, plays one part in it, and shows what the processes had to say when it fails.
    pub async fn play(
        kind: DatabaseKind,
        part: impl AsyncFnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let Some(mut lab) = Self::start(kind).await? else { return Ok(()) };
        let outcome = part(&mut lab).await;
        outcome.with_context(|| format!("{}\n{}", lab.vma.program.tail(), lab.hub.program.tail()))
    }

    /// Fails when a process logged a warning or an error: where all went well there is none.
    pub fn check_logs(&self) -> Result<()> {
        for program in [&self.hub.program, &self.vma.program] {
            let lines = program.loud()?;
            ensure!(lines.is_empty(), "logged though all went well:\n{}", lines.join("\n"));
        }
        Ok(())
    }

    /// A directory that goes away with the lab, for files of the test's own.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Registers the VMA with the hub and answers the node's id.
    pub async fn register(&self) -> Result<String> {
        let body = json!({"name": "lab", "url": self.vma.url, "token": self.vma.token});
        self.api.post("/vma-nodes", &body).await?.ok()?.text("/id")
    }

    /// Puts VMs under management, all of which must succeed, and answers their contexts in that order.
    pub async fn add(&self, names: &[&str]) -> Result<Vec<Value>> {
        let body = json!({"vm_names": names});
        let answer = self.api.post("/discovery/add-vms", &body).await?.ok()?;
        let mut contexts = Vec::new();
        for result in answer.list("/results")? {
            ensure!(result.flag("/success")?, "not added: {result:#}");
            contexts.push(self.context(&result.text("/context_id")?).await?);
        }
        ensure!(contexts.len() == names.len(), "asked for {names:?}, got {answer:#}");
        Ok(contexts)
    }

    /// A VM context with its disks.
    pub async fn context(&self, id: &str) -> Result<Value> {
        self.api.get(&format!("/vm-contexts/{id}")).await?.ok()
    }

    /// The disk rows of a VM.
    pub async fn disks(&self, context_id: &str) -> Result<Vec<Value>> {
        self.api.get(&format!("/vm-contexts/{context_id}/disks")).await?.ok()?.list("/items")
    }

    /// The id of the repository that the hub made at its first start.
    pub async fn repository(&self) -> Result<String> {
        let all = self.api.all("/repositories").await?;
        ensure!(all.len() == 1, "a new hub has one repository: {all:#?}");
        all.first().unwrap_or(&Value::Null).text("/id")
    }
}
