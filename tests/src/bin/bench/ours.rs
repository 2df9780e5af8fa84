//! Our side: a hub and a VMA over one disk, driven through the public API.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use chrono::DateTime;
use hub_tests::api::{Api, Fields as _};
use hub_tests::datastore::{Datastore, DiskSpec, VirtualMachine, VmSpec, noise};
use hub_tests::judge::Image;
use hub_tests::processes::{Hub, HubOptions, Lifetime, Vma, VmaOptions};
use serde_json::{Value, json};

use super::cpu;
use super::plan::PIECE;
use crate::catalogue::peak_memory;

/// How often a run is asked for: the grain of the wall time, and cheap for the hub.
const ASK_EVERY: Duration = Duration::from_millis(10);

/// How long one run may take before the bench gives up.
const WITHIN: Duration = Duration::from_secs(1800);

/// The VM's only name.
const VM: &str = "bench";

/// One finished backup.
#[derive(Clone, Debug)]
pub(super) struct Copied {
    /// From the request to the first answer that says it succeeded.
    pub(super) wall: Duration,
    /// From the disk's `started_at` to its `finished_at`.
    pub(super) job: Duration,
    /// Processor time of VMA and hub, and of the VMA's readers.
    pub(super) cpu: Duration,
    /// Bytes read from the source.
    pub(super) read: u64,
    /// Bytes sent as data.
    pub(super) sent: u64,
    id: String,
    path: String,
    method: String,
}

/// A hub, a VMA, and a VM with one disk.
pub(super) struct Ours {
    pub(super) vm: VirtualMachine,
    api: Api,
    hub: Hub,
    vma: Vma,
    context_id: String,
    repository: String,
    root: PathBuf,
}

impl Ours {
    /// Makes the disk, starts both programs, and puts the VM under management.
    pub(super) async fn start(place: &Path, disk: &DiskSpec) -> Result<Self> {
        let datastore = Datastore::create(place, "datastore1")?;
        let vm = datastore.add_vm(&VmSpec::new(VM, vec![disk.clone()]))?;
        let vma = Vma::start(VmaOptions {
            name: "bench".to_owned(),
            state_dir: place.join("vma"),
            datastores: vec![datastore.root().to_owned()],
            logs: place.join("logs"),
            environment: Vec::new(),
            lifetime: Lifetime::Owned,
        });
        let vma = vma.await?;
        let hub = Hub::start(HubOptions {
            data_dir: place.join("hub"),
            database_url: None,
            logs: place.join("logs"),
            environment: Vec::new(),
            lifetime: Lifetime::Owned,
        });
        let hub = hub.await?;
        let api = hub.api()?;
        let node = json!({"name": "bench", "url": vma.url, "token": vma.token});
        api.post("/vma-nodes", &node).await?.ok()?;
        let added = api.post("/discovery/add-vms", &json!({"vm_names": [VM]})).await?.ok()?;
        let context_id = added.text("/results/0/context_id")?;
        let repositories = api.all("/repositories").await?;
        let first = repositories.first().context("a new hub has a repository")?;
        let (repository, root) = (first.text("/id")?, PathBuf::from(first.text("/path")?));
        Ok(Self { vm, api, hub, vma, context_id, repository, root })
    }

    /// One backup; the hub's seal makes it durable before it says that it succeeded.
    pub(super) async fn back_up(&self, kind: &str) -> Result<Copied> {
        let body = json!({"vm_context_id": self.context_id, "backup_type": kind,
            "repository_id": self.repository});
        let before = self.cpu()?;
        let started = Instant::now();
        let location = self.api.start("/backup/start", &body).await?;
        let (run, wall) = loop {
            let run = self.api.get(&location).await?.ok()?;
            if !matches!(run.text("/status")?.as_str(), "queued" | "running") {
                break (run, started.elapsed());
            }
            ensure!(started.elapsed() < WITHIN, "the backup goes on for too long: {run:#}");
            tokio::time::sleep(ASK_EVERY).await;
        };
        ensure!(run.text("/status")? == "succeeded", "the backup ended badly: {run:#}");
        let backup = run.pointer("/backups/0").context("the run has no backup")?;
        Copied::of(wall, self.cpu()? - before, backup)
    }

    fn cpu(&self) -> Result<Duration> {
        Ok(cpu::of_process(self.vma.program.id())? + cpu::of_process(self.hub.program.id())?)
    }

    /// Fails unless an incremental was found by this method.
    pub(super) fn found_by(copied: &Copied, method: &str) -> Result<()> {
        ensure!(copied.method == method, "changes were found {}, not {method}", copied.method);
        Ok(())
    }

    /// Fails unless the image is sound and equal to the disk, by tools that are not ours.
    pub(super) fn judge(&self, copied: &Copied) -> Result<()> {
        let path = self.root.join(&copied.path);
        let image = Image::new(&path, "qcow2");
        image.check()?;
        self.vm.disk(0)?.compare(image)
    }

    /// Removes a backup, to make room for the next.
    pub(super) async fn delete(&self, copied: &Copied) -> Result<()> {
        self.api.delete(&format!("/backups/{}", copied.id)).await?.ok().map(drop)
    }

    /// Writes new bytes to pieces of the disk.
    pub(super) fn change(&self, pieces: &[u64], seed: u64) -> Result<()> {
        let len = usize::try_from(PIECE)?;
        let bytes: Vec<_> = pieces.iter().map(|at| (*at, noise(seed ^ at, len))).collect();
        let writes: Vec<_> = bytes.iter().map(|(at, bytes)| (*at, bytes.as_slice())).collect();
        self.vm.disk(0)?.write_all(&writes)
    }

    /// Forgets the most memory that the processes had, so that each phase has figures of its own.
    pub(super) fn forget_peaks(&self) -> Result<()> {
        for id in [self.vma.program.id(), self.hub.program.id()] {
            fs::write(format!("/proc/{id}/clear_refs"), "5").context("the peaks stay")?;
        }
        Ok(())
    }

    /// The most memory that VMA and hub had resident, in MiB.
    pub(super) fn peaks(&self) -> Result<[f64; 2]> {
        Ok([peak_memory(self.vma.program.id())?, peak_memory(self.hub.program.id())?])
    }

    /// Ends both programs in order.
    pub(super) async fn stop(mut self) -> Result<()> {
        self.hub.program.stop().await?;
        self.vma.program.stop().await
    }
}

impl Copied {
    fn of(wall: Duration, cpu: Duration, backup: &Value) -> Result<Self> {
        let time =
            |pointer| -> Result<_> { Ok(DateTime::parse_from_rfc3339(&backup.text(pointer)?)?) };
        ensure!(backup.flag("/proof/agrees")?, "the ends do not agree: {backup:#}");
        Ok(Self {
            wall,
            cpu,
            job: (time("/finished_at")? - time("/started_at")?).to_std()?,
            read: backup.number("/bytes/read")?,
            sent: backup.number("/bytes/sent")?,
            id: backup.text("/backup_id")?,
            path: backup.text("/repository_path")?,
            method: backup.text("/method")?,
        })
    }
}

#[cfg(test)]
impl Copied {
    /// One with these figures, for tests of the report.
    pub(super) fn example(wall: Duration, read: u64, sent: u64) -> Self {
        let empty = String::new;
        Self { wall, job: wall, cpu: wall, read, sent, id: empty(), path: empty(), method: empty() }
    }
}
