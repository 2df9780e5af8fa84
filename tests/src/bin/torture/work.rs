//! What a hub is asked to do while something is injected.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use hub_tests::api::{Api, Fields as _};
use serde_json::{Value, json};

use crate::world::World;

/// One piece of work on one VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Work {
    /// A full backup of all disks.
    Full,
    /// A backup over the newest points.
    Incremental,
    /// A verification of the newest chain.
    Verify,
    /// A restore of the newest point to a raw file.
    RestoreRaw,
    /// To a qcow2 image.
    RestoreQcow2,
    /// To a VMDK.
    RestoreVmdk,
    /// A replica in a raw file, made or brought up to date.
    ReplicateRaw,
    /// A replica in a qcow2 image, written anew.
    ReplicateAnew,
    /// A replica in a qcow2 image, brought up to date.
    ReplicateQcow2,
    /// The newest point is deleted.
    Delete,
    /// The newest point is offered over NBD and closed again.
    Export,
}

impl Work {
    /// All of it, in an order in which each finds what it needs.
    pub(crate) const ALL: [Self; 11] = [
        Self::Full,
        Self::Incremental,
        Self::Verify,
        Self::Export,
        Self::RestoreRaw,
        Self::RestoreQcow2,
        Self::RestoreVmdk,
        Self::ReplicateAnew,
        Self::ReplicateQcow2,
        Self::ReplicateRaw,
        Self::Delete,
    ];

    /// Its name in what is printed.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Incremental => "incremental",
            Self::Verify => "verify",
            Self::RestoreRaw => "restore-raw",
            Self::RestoreQcow2 => "restore-qcow2",
            Self::RestoreVmdk => "restore-vmdk",
            Self::ReplicateRaw => "replicate-raw",
            Self::ReplicateAnew => "replicate-anew",
            Self::ReplicateQcow2 => "replicate-qcow2",
            Self::Delete => "delete",
            Self::Export => "export",
        }
    }
}

/// Names of restored files are never used twice.
static RESTORES: AtomicU64 = AtomicU64::new(0);

/// A piece of work with everything that it needs, so that the world stays free for whoever kills.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    work: Work,
    api: Api,
    backup: Value,
    replication: Value,
    tip: Option<String>,
    /// Points whose deletion was asked for.
    asked: Arc<Mutex<BTreeSet<String>>>,
}

impl World {
    /// An order for one VM.
    pub(crate) fn order(&self, work: Work, place: usize) -> Result<Order> {
        let machine = self.machine(place)?;
        let kind = if work == Work::Full { "full" } else { "incremental" };
        let replication = if work == Work::ReplicateAnew { "initial" } else { "incremental" };
        let format = if work == Work::ReplicateRaw { "raw" } else { "qcow2" };
        // A deletion that has begun is ended first: nothing below it can go before.
        let begun = self.deleting.iter().find(|(_, of)| **of == machine.context);
        let begun = begun.map(|(id, _)| id.clone()).filter(|_| work == Work::Delete);
        Ok(Order {
            work,
            api: self.lab.api.clone(),
            backup: machine.backup(kind, &self.repository),
            replication: machine.replication(replication, format),
            tip: begun.or_else(|| self.tips(&machine.context).pop()),
            asked: Arc::default(),
        })
    }

    /// Notes which points the order asked to delete.
    pub(crate) fn note(&mut self, order: &Order) {
        let asked = order.asked.lock().map(|it| it.clone()).unwrap_or_default();
        self.leaving.extend(asked);
    }

    /// Does a piece of work that nothing disturbs, which must succeed.
    pub(crate) async fn must(&mut self, work: Work, place: usize) -> Result<()> {
        let order = self.order(work, place)?;
        let done = order.carry_out().await;
        self.note(&order);
        let job = done.with_context(|| format!("{} in peace", work.name()))?;
        let status = job.get("status").and_then(Value::as_str).unwrap_or("succeeded");
        anyhow::ensure!(status == "succeeded", "{} in peace ended as {job:#}", work.name());
        Ok(())
    }
}

impl Order {
    /// Asks for the work and follows it to its end, whatever that is; answers the job.
    pub(crate) async fn carry_out(&self) -> Result<Value> {
        let tip = || self.tip.clone().context("there is a point to work on");
        match self.work {
            Work::Full | Work::Incremental => self.job("/backups", &self.backup).await,
            Work::Verify => {
                let path = format!("/backups/{}/verify", tip()?);
                self.job(&path, &json!({"scope": "chain"})).await
            }
            Work::RestoreRaw => self.restore(&tip()?, "raw").await,
            Work::RestoreQcow2 => self.restore(&tip()?, "qcow2").await,
            Work::RestoreVmdk => self.restore(&tip()?, "vmdk").await,
            Work::ReplicateRaw | Work::ReplicateAnew | Work::ReplicateQcow2 => {
                self.job("/replications", &self.replication).await
            }
            Work::Delete => {
                let id = tip()?;
                if let Ok(mut asked) = self.asked.lock() {
                    asked.insert(id.clone());
                }
                self.api.delete(&format!("/backups/{id}")).await?.ok()
            }
            Work::Export => {
                let offered =
                    self.api.post("/exports", &json!({"backup_id": tip()?})).await?.ok()?;
                let id = offered.text("/export_id")?;
                self.api.delete(&format!("/exports/{id}")).await?.ok()
            }
        }
    }

    async fn restore(&self, tip: &str, format: &str) -> Result<Value> {
        let number = RESTORES.fetch_add(1, Ordering::Relaxed);
        let name = format!("restored-{number}.{format}");
        self.job("/restores", &json!({"backup_id": tip, "format": format, "file_name": name})).await
    }

    async fn job(&self, path: &str, body: &Value) -> Result<Value> {
        let job = self.api.start(path, body).await?;
        self.api.ended(&job, |_| ()).await
    }
}
