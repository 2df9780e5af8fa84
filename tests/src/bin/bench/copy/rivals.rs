//! The peers: qemu's and libnbd's own tools on the same source, served by `qemu-nbd`.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hub_tests::processes::{Lifetime, Program};
use hub_tests::tool;

use super::cpu;
use super::plan::Peer;

/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(30);

/// What `convert` is tuned with; qemu's cache mode `none` makes every write direct and ends with a flush.
const TUNED: [&str; 5] = ["-W", "-m", "16", "-t", "none"];

/// What one run took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Took {
    /// Until the target is durable.
    pub(super) wall: Duration,
    /// Processor time of the tools and of the servers at both ends.
    pub(super) cpu: Duration,
}

/// The source's export, and a place for targets.
pub(super) struct Rivals {
    place: PathBuf,
    source: PathBuf,
    capacity: u64,
    server: Server,
}

impl Rivals {
    /// Serves the disk, which must not be written to while this lives.
    pub(super) async fn serve(place: &Path, source: &Path, capacity: u64) -> Result<Self> {
        let place = place.join("rivals");
        fs::create_dir_all(&place)?;
        let arguments = ["--read-only", "--format=vmdk"];
        let server = Server::start(&place, "source", &arguments, source).await?;
        Ok(Self { place, source: source.to_owned(), capacity, server })
    }

    /// Makes the full image that overlays stand on, which also warms the page cache.
    pub(super) async fn make_base(&self) -> Result<()> {
        self.into(Peer::Convert, &self.base()).await?;
        Ok(())
    }

    /// Runs one peer into a fresh target.
    pub(super) async fn run(&self, peer: Peer) -> Result<Took> {
        let target = self.place.join("target.qcow2");
        let before = self.cpu()?;
        let wall = self.into(peer, &target).await?;
        let cpu = self.cpu()? - before;
        fs::remove_file(&target)?;
        Ok(Took { wall, cpu })
    }

    /// The serving end lives on; all others have ended when a run has.
    fn cpu(&self) -> Result<Duration> {
        Ok(cpu::of_ended_children()? + cpu::of_process(self.server.program.id())?)
    }

    async fn into(&self, peer: Peer, target: &Path) -> Result<Duration> {
        let (target, base) = (text(target)?, self.base());
        let (from, base, local) = (self.server.uri(), text(&base)?, text(&self.source)?);
        let qemu_img = |arguments: &[&[&str]]| tool::run("qemu-img", &arguments.concat()).map(drop);
        let overlay = ["-O", "qcow2", "-B", base, "-F", "qcow2"];
        let started = Instant::now();
        match peer {
            Peer::Convert => {
                qemu_img(&[&["convert", "-f", "raw", "-O", "qcow2", &from, target]])?;
            }
            Peer::ConvertTuned => {
                qemu_img(&[&["create", "-q", "-f", "qcow2", target, &self.capacity.to_string()]])?;
                let made = ["-n", "--target-is-zero", "-f", "raw", "-O", "qcow2", &from, target];
                qemu_img(&[&["convert"], &TUNED, &made])?;
            }
            Peer::NbdCopy | Peer::NbdCopyTuned => return self.nbdcopy(peer, target).await,
            Peer::Overlay => {
                qemu_img(&[&["convert", "-f", "raw"], &overlay, &[&from, target]])?;
            }
            Peer::OverlayTuned => {
                qemu_img(&[&["convert", "-f", "raw"], &TUNED, &overlay, &[&from, target]])?;
            }
            Peer::OverlayLocal => {
                qemu_img(&[&["convert", "-f", "vmdk"], &TUNED, &overlay, &[local, target]])?;
            }
        }
        File::open(target)?.sync_all()?;
        Ok(started.elapsed())
    }

    /// The receiving server is started before the clock, as a hub is.
    async fn nbdcopy(&self, peer: Peer, target: &str) -> Result<Duration> {
        let capacity = self.capacity.to_string();
        tool::run("qemu-img", &["create", "-q", "-f", "qcow2", target, &capacity])?;
        let (cache, options): (_, &[&str]) = match peer.is_tuned() {
            true => (
                "--cache=none",
                &[
                    "--connections=4",
                    "--requests=16",
                    "--request-size=1048576",
                    "--destination-is-zero",
                ],
            ),
            false => ("--cache=writeback", &[]),
        };
        let arguments = ["--format=qcow2", cache];
        let receiver = Server::start(&self.place, "target", &arguments, Path::new(target)).await?;
        let (from, to) = (self.server.uri(), receiver.uri());
        let started = Instant::now();
        tool::run("nbdcopy", &[&["--flush"], options, &[from.as_str(), to.as_str()]].concat())?;
        File::open(target)?.sync_all()?;
        Ok(started.elapsed())
    }

    fn base(&self) -> PathBuf {
        self.place.join("base.qcow2")
    }
}

/// A `qemu-nbd` that ends when it is dropped.
struct Server {
    socket: PathBuf,
    program: Program,
}

impl Server {
    async fn start(place: &Path, name: &str, arguments: &[&str], file: &Path) -> Result<Self> {
        let socket = place.join(format!("{name}.sock"));
        if socket.exists() {
            fs::remove_file(&socket)?;
        }
        let mut all: Vec<_> = arguments.iter().map(|&it| it.to_owned()).collect();
        all.extend(["--persistent", "--shared=8", "--socket"].map(str::to_owned));
        all.extend([text(&socket)?.to_owned(), text(file)?.to_owned()]);
        let (path, logs) = (Path::new("qemu-nbd"), place.join("logs"));
        let mut program = Program::start(name, path, &all, &[], &logs, Lifetime::Owned)?;
        let deadline = Instant::now() + PATIENCE;
        while UnixStream::connect(&socket).is_err() {
            let ended = program.has_ended()?.is_some();
            ensure!(!ended && Instant::now() < deadline, "no {name}\n{}", program.tail());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(Self { socket, program })
    }

    fn uri(&self) -> String {
        format!("nbd+unix:///?socket={}", self.socket.display())
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path is not UTF-8")
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
