//! The peers at work: qemu's and libnbd's own tools on the same sources, served by `qemu-nbd`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use hub_tests::tool;

use super::peers::{Peer, Task, text};
use crate::cpu;
use crate::ours::space;
use crate::qemu_nbd::QemuNbd;

/// What one run took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Took {
    /// Until the targets are durable.
    pub(super) wall: Duration,
    /// Processor time of the tools and of the servers at both ends.
    pub(super) cpu: Duration,
    /// Bytes that the images take.
    pub(super) stored: u64,
}

/// The exports of the sources, and a place for targets.
pub(super) struct Rivals {
    place: PathBuf,
    sources: Vec<Source>,
}

struct Source {
    file: PathBuf,
    capacity: u64,
    server: QemuNbd,
}

impl Rivals {
    /// Serves disks, which must not be written to while this lives: their files and capacities.
    pub(super) async fn serve(place: &Path, disks: &[(PathBuf, u64)]) -> Result<Self> {
        let place = place.join("rivals");
        fs::create_dir_all(&place)?;
        let mut sources = Vec::with_capacity(disks.len());
        for (number, (file, capacity)) in disks.iter().enumerate() {
            let (name, arguments) = (format!("source-{number}"), ["--read-only", "--format=vmdk"]);
            let server = QemuNbd::start(&place, &name, &arguments, file).await?;
            sources.push(Source { file: file.clone(), capacity: *capacity, server });
        }
        Ok(Self { place, sources })
    }

    /// Makes the full images that overlays stand on, which also warms the page cache.
    pub(super) async fn make_bases(&self) -> Result<()> {
        self.work(Peer::Convert, "base").await?;
        Ok(())
    }

    /// Runs one peer into fresh targets, on all disks at once.
    pub(super) async fn run(&self, peer: Peer) -> Result<Took> {
        let before = self.cpu()?;
        let wall = self.work(peer, "target").await?;
        let cpu = self.cpu()? - before;
        let mut stored = 0;
        for number in 0..self.sources.len() {
            let target = self.file("target", number);
            stored += space(&target)?;
            fs::remove_file(&target)?;
        }
        Ok(Took { wall, cpu, stored })
    }

    /// The serving ends live on; all others have ended when a run has.
    fn cpu(&self) -> Result<Duration> {
        let serving = self.sources.iter().map(|it| cpu::of_process(it.server.id()));
        Ok(cpu::of_ended_children()? + serving.sum::<Result<Duration>>()?)
    }

    async fn work(&self, peer: Peer, target: &str) -> Result<Duration> {
        let mut tasks = Vec::with_capacity(self.sources.len());
        let mut receivers = Vec::new();
        for (number, source) in self.sources.iter().enumerate() {
            let mut task = Task {
                from: source.server.uri(),
                local: source.file.clone(),
                capacity: source.capacity,
                base: self.file("base", number),
                target: self.file(target, number),
                to: None,
            };
            // A receiving server is started before the clock, as a hub is.
            if let Some(cache) = peer.target_cache() {
                let (file, capacity) = (text(&task.target)?, task.capacity.to_string());
                tool::run("qemu-img", &["create", "-q", "-f", "qcow2", file, &capacity])?;
                let (name, arguments) = (format!("target-{number}"), ["--format=qcow2", cache]);
                let server = QemuNbd::start(&self.place, &name, &arguments, &task.target).await?;
                task.to = Some(server.uri());
                receivers.push(server);
            }
            tasks.push(task);
        }
        let started = Instant::now();
        std::thread::scope(|scope| {
            let all: Vec<_> = tasks.iter().map(|it| scope.spawn(|| do_one(peer, it))).collect();
            let mut ended = all.into_iter().map(|it| it.join());
            ended.try_for_each(|it| it.map_err(|_| anyhow!("a thread died"))?)
        })?;
        Ok(started.elapsed())
    }

    fn file(&self, name: &str, number: usize) -> PathBuf {
        self.place.join(format!("{name}-{number}.qcow2"))
    }
}

/// Copies one disk until it is durable.
fn do_one(peer: Peer, task: &Task) -> Result<()> {
    for (program, arguments) in peer.calls(task)? {
        tool::run(program, &arguments)?;
    }
    Ok(File::open(&task.target)?.sync_all()?)
}

/// Bytes of a disk that are neither holes nor zero clusters, as `qemu-img map` tells.
pub(super) fn allocated(disk: &Path) -> Result<u64> {
    let arguments = ["map", "-f", "vmdk", "--output=json", text(disk)?];
    let map: serde_json::Value = serde_json::from_str(&tool::run("qemu-img", &arguments)?)?;
    let areas = map.as_array().context("a map is a list")?.iter();
    let says = |area: &serde_json::Value, what: &str| {
        area.get(what).and_then(serde_json::Value::as_bool) == Some(true)
    };
    // The holes of a flat extent are mapped, but known to be zero.
    let holds = |area: &&serde_json::Value| says(area, "data") && !says(area, "zero");
    let len = |area: &serde_json::Value| area.get("length").and_then(serde_json::Value::as_u64);
    areas.filter(holds).map(|area| len(area).context("an area has a length")).sum()
}
