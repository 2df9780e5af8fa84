//! Our side: a hub and a VMA over one VM, driven through the public API.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use chrono::{DateTime, Utc};
use hub_tests::api::{Api, Fields as _};
use hub_tests::datastore::{Datastore, DiskSpec, VirtualMachine, VmSpec, noise};
use hub_tests::judge::Image;
use hub_tests::processes::{Hub, HubOptions, Lifetime, Vma, VmaOptions};
use serde_json::{Value, json};

use crate::catalogue::peak_memory;
use crate::cpu;

/// How often a run is asked for: the grain of the wall time. Each question costs half a millisecond of processor time.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// How long one run may take before the bench gives up.
const WITHIN: Duration = Duration::from_secs(1800);

/// The VM's only name.
const VM: &str = "bench";

/// One finished backup of all disks.
#[derive(Clone, Debug)]
pub(crate) struct Copied {
    /// From the request to the first answer that says it succeeded.
    pub(crate) wall: Duration,
    /// From the first `started_at` of a disk to the last `finished_at`.
    pub(crate) job: Duration,
    /// Processor time of VMA and hub, and of the VMA's readers.
    pub(crate) cpu: Duration,
    /// Bytes read from the source.
    pub(crate) read: u64,
    /// Bytes of its sample of what was called unchanged, holes included.
    pub(crate) audited: u64,
    /// Bytes sent as data.
    pub(crate) sent: u64,
    /// Bytes that the images take.
    pub(crate) stored: u64,
    /// The restore points, by ordinal of their disk.
    pub(crate) points: Vec<Point>,
}

/// One restore point.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    /// Its id.
    pub(crate) id: String,
    /// Its image.
    pub(crate) image: PathBuf,
    method: String,
}

/// A hub, a VMA, and a VM.
pub(crate) struct Ours {
    pub(crate) vm: VirtualMachine,
    pub(crate) api: Api,
    pub(crate) hub: Hub,
    vma: Vma,
    context_id: String,
    repository: String,
    root: PathBuf,
}

impl Ours {
    /// Makes the disks, starts both programs, and puts the VM under management.
    pub(crate) async fn start(place: &Path, disks: &[DiskSpec]) -> Result<Self> {
        let datastore = Datastore::create(place, "datastore1")?;
        let vm = datastore.add_vm(&VmSpec::new(VM, disks.to_vec()))?;
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

    /// Lets all further points be compressed by zstd, at the level that a repository has unless it is told another.
    pub(crate) async fn compress(&self) -> Result<()> {
        let path = format!("/repositories/{}", self.repository);
        self.api.patch(&path, &json!({"compression": "zstd"})).await?.ok().map(drop)
    }

    /// One backup; the hub's seal makes it durable before it says that it succeeded.
    pub(crate) async fn back_up(&self, kind: &str) -> Result<Copied> {
        let body = json!({"vm_context_id": self.context_id, "backup_type": kind,
            "repository_id": self.repository});
        let before = self.cpu()?;
        let (run, wall) = self.timed("/backup/start", &body).await?;
        Copied::of(wall, self.cpu()? - before, &run.list("/backups")?, &self.root)
    }

    /// A job from its request to the first answer that says it succeeded.
    pub(crate) async fn timed(&self, path: &str, body: &Value) -> Result<(Value, Duration)> {
        let started = Instant::now();
        let location = self.api.start(path, body).await?;
        loop {
            let run = self.api.get(&location).await?.ok()?;
            match run.text("/status")?.as_str() {
                "queued" | "running" => (),
                "succeeded" => return Ok((run, started.elapsed())),
                _ => anyhow::bail!("it ended badly: {run:#}"),
            }
            ensure!(started.elapsed() < WITHIN, "it goes on for too long: {run:#}");
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// Compares the images of a run with their manifests, and nothing that they stand on.
    pub(crate) async fn verify(&self, copied: &Copied) -> Result<Duration> {
        let mut took = Duration::ZERO;
        for point in &copied.points {
            let path = format!("/backups/{}/verify", point.id);
            let (job, time) = self.timed(&path, &json!({"scope": "point"})).await?;
            ensure!(job.flag("/good")?, "a point is bad: {job:#}");
            took += time;
        }
        Ok(took)
    }

    fn cpu(&self) -> Result<Duration> {
        Ok(cpu::of_process(self.vma.program.id())? + cpu::of_process(self.hub.program.id())?)
    }

    /// Fails unless the images are sound and equal to the disks, by tools that are not ours.
    pub(crate) fn judge(&self, copied: &Copied) -> Result<()> {
        ensure!(copied.points.len() == self.vm.disks().len(), "not all disks have a point");
        for (disk, point) in self.vm.disks().iter().zip(&copied.points) {
            let image = Image::new(&point.image, "qcow2");
            image.check()?;
            disk.compare(image)?;
        }
        Ok(())
    }

    /// Removes a backup, to make room for the next.
    pub(crate) async fn delete(&self, copied: &Copied) -> Result<()> {
        for point in &copied.points {
            self.api.delete(&format!("/backups/{}", point.id)).await?.ok()?;
        }
        Ok(())
    }

    /// Writes new bytes of this length to pieces of the first disk.
    pub(crate) fn change(&self, pieces: &[u64], len: u64, seed: u64) -> Result<()> {
        let len = usize::try_from(len)?;
        let bytes: Vec<_> = pieces.iter().map(|at| (*at, noise(seed ^ at, len))).collect();
        let writes: Vec<_> = bytes.iter().map(|(at, bytes)| (*at, bytes.as_slice())).collect();
        self.vm.disk(0)?.write_all(&writes)
    }

    /// Forgets the most memory that the processes had, so that each phase has figures of its own.
    pub(crate) fn forget_peaks(&self) -> Result<()> {
        for id in [self.vma.program.id(), self.hub.program.id()] {
            fs::write(format!("/proc/{id}/clear_refs"), "5").context("the peaks stay")?;
        }
        Ok(())
    }

    /// The most memory that VMA and hub had resident, in MiB.
    pub(crate) fn peaks(&self) -> Result<[f64; 2]> {
        Ok([peak_memory(self.vma.program.id())?, peak_memory(self.hub.program.id())?])
    }

    /// Ends both programs in order.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.hub.program.stop().await?;
        self.vma.program.stop().await
    }
}

impl Copied {
    fn of(wall: Duration, cpu: Duration, backups: &[Value], root: &Path) -> Result<Self> {
        let mut backups: Vec<_> = backups.iter().collect();
        backups.sort_by_key(|it| it.number("/disk_id").unwrap_or(u64::MAX));
        let time = |it: &Value, pointer| -> Result<DateTime<Utc>> {
            Ok(DateTime::parse_from_rfc3339(&it.text(pointer)?)?.to_utc())
        };
        let times = |pointer| backups.iter().map(move |it| time(it, pointer));
        let started = times("/started_at").collect::<Result<Vec<_>>>()?;
        let finished = times("/finished_at").collect::<Result<Vec<_>>>()?;
        let from = started.iter().min().context("the run has no backup")?;
        let to = finished.iter().max().context("the run has no backup")?;
        let (mut read, mut audited, mut sent, mut stored) = (0, 0, 0, 0);
        let mut points = Vec::with_capacity(backups.len());
        for backup in &backups {
            ensure!(backup.flag("/proof/agrees")?, "the ends do not agree: {backup:#}");
            read += backup.number("/bytes/read")?;
            audited += backup.pointer("/audit/bytes").and_then(Value::as_u64).unwrap_or(0);
            sent += backup.number("/bytes/sent")?;
            let image = root.join(backup.text("/repository_path")?);
            stored += space(&image)?;
            let (id, method) = (backup.text("/backup_id")?, backup.text("/method")?);
            points.push(Point { id, image, method });
        }
        let job = (*to - *from).to_std()?;
        Ok(Self { wall, cpu, job, read, audited, sent, stored, points })
    }

    /// Fails unless the changes were found by this method.
    pub(crate) fn found_by(&self, method: &str) -> Result<()> {
        let other = self.points.iter().find(|it| it.method != method);
        other.map_or(Ok(()), |it| anyhow::bail!("changes were found {}, not {method}", it.method))
    }
}

/// Bytes that a file takes on its file system.
pub(crate) fn space(file: &Path) -> Result<u64> {
    let of = fs::metadata(file).with_context(|| file.display().to_string())?;
    Ok(std::os::unix::fs::MetadataExt::blocks(&of) * 512)
}

#[cfg(test)]
impl Copied {
    /// One with these figures, for tests of the report.
    pub(crate) fn example(wall: Duration, read: u64, sent: u64) -> Self {
        let (audited, stored, points) = (0, sent, Vec::new());
        Self { wall, job: wall, cpu: wall, read, audited, sent, stored, points }
    }
}
