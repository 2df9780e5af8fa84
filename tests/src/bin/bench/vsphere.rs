//! Discovery of a vCenter: from its properties to rows of the catalogue, and a second time without a change.

mod statements;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hub_testkit::database::DatabaseKind;
use hub_tests::api::Fields as _;
use hub_tests::vsphere::{Account, VsphereLab};
use hub_vsphere_peer::{DiskShape, PeerOptions, VmShape};
use serde_json::json;

use crate::catalogue::peak_memory;
use crate::figures::{self, Figure, median};
use crate::workshop::say;
use statements::Statements;

/// Disks of each VM, and their bytes.
const DISKS: i32 = 2;
const CAPACITY: u64 = 1 << 30;

/// The most that hub or VMA may hold, in MiB.
const MEMORY: f64 = 256.0;

/// How often each reading is done; the median counts.
const ROUNDS: usize = 3;

/// How large, and where the figures go.
#[derive(clap::Args)]
pub(crate) struct VsphereArguments {
    /// VMs with two disks each; an even number.
    #[arg(long, default_value_t = 2000)]
    vms: usize,
    /// Also writes the figures as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

pub(crate) async fn run(arguments: &VsphereArguments) -> Result<()> {
    let mut figures = Vec::new();
    for (kind, name) in [(DatabaseKind::Sqlite, "SQLite"), (DatabaseKind::MariaDb, "MariaDB")] {
        measure(kind, name, arguments.vms / 2 * 2, &mut figures).await?;
    }
    let title = format!("discovery of a vCenter of {} VMs", arguments.vms / 2 * 2);
    figures::show(&title, &figures, arguments.json.as_deref())
}

async fn measure(
    kind: DatabaseKind,
    name: &str,
    vms: usize,
    figures: &mut Vec<Figure>,
) -> Result<()> {
    say(&format!("{name}: making {vms} VMs …"));
    let started = Instant::now();
    let vcenter = PeerOptions { vms: vms / 2, ..PeerOptions::default() };
    let lab = VsphereLab::start(kind, Account::OfHub, vcenter).await?;
    let Some(mut lab) = lab else { return Ok(()) };
    shape(&lab)?;
    let made = started.elapsed();
    let credential = lab.register().await?;
    let bench = Bench { lab: &lab, credential, vms };

    say(&format!("{name}: discovering …"));
    let mut theirs = Vec::new();
    let mut listed = Vec::new();
    for _ in 0..ROUNDS {
        theirs.extend(bench.pyvmomi()?);
        listed.push(bench.discover().await?);
    }
    let first = bench.add("added").await?;
    let again = bench.add("unchanged").await?;
    let peer_memory = peak_memory(lab.peer.id())?;
    lab.hub.program.stop().await?;
    lab.vma.program.stop().await?;

    let theirs = (!theirs.is_empty()).then(|| median(theirs));
    let mut note = |figure| figures.push(figure);
    if let Some(theirs) = theirs {
        note(Figure::plain(name, "pyvmomi reading the same properties, median", secs(theirs)));
    }
    note(Figure::plain(name, "discovery that stores nothing, median", secs(median(listed))));
    first.note(name, "first", theirs, &mut note);
    again.note(name, "second, nothing changed", theirs, &mut note);
    let writing = again.statements.writing();
    note(Figure::at_most(name, "second, nothing changed: statements that write", writing, 0.0, ""));
    note(Figure::plain(name, "the simulator: making its VMs", secs(made.as_secs_f64())));
    note(Figure::plain(name, "the simulator: peak memory", format!("{peer_memory:.0} MiB")));
    Ok(())
}

fn secs(seconds: f64) -> String {
    format!("{seconds:.2} s")
}

/// Gives every VM disks that a vCenter would know by their backings.
fn shape(lab: &VsphereLab) -> Result<()> {
    for (number, vm) in lab.peer.vms()?.into_keys().enumerate() {
        let disks = (0..DISKS).map(|unit| DiskShape {
            key: 2000 + unit,
            unit,
            file: format!("disk-{unit}.vmdk"),
            capacity: CAPACITY,
            uuid: format!("6000C29{unit:x}-0000-0000-0000-{number:012x}"),
            thin: true,
            ..DiskShape::default()
        });
        let disks = Some(disks.collect());
        lab.peer.shape(&VmShape {
            vm,
            disks,
            tracking_supported: Some(true),
            ..VmShape::default()
        })?;
    }
    Ok(())
}

struct Bench<'a> {
    lab: &'a VsphereLab,
    credential: String,
    vms: usize,
}

/// What adding all VMs cost.
struct Added {
    took: Duration,
    calls: u64,
    statements: Statements,
    /// Of hub and VMA, in MiB.
    memory: [f64; 2],
}

impl Added {
    fn note(&self, name: &str, what: &str, theirs: Option<f64>, note: &mut impl FnMut(Figure)) {
        let took = self.took.as_secs_f64();
        note(Figure::plain(name, &format!("{what}: whole call"), secs(took)));
        if let Some(theirs) = theirs {
            let against = format!("{what}: whole call ÷ pyvmomi");
            note(Figure::at_most(name, &against, took / theirs, 1.0, ""));
        }
        let calls = self.calls.to_string();
        note(Figure::plain(name, &format!("{what}: calls to the vCenter"), calls));
        note(Figure::plain(name, &format!("{what}: catalogue"), self.statements.to_string()));
        for (part, memory) in ["hub's", "VMA's"].into_iter().zip(self.memory) {
            let peak = format!("{what}: {part} peak memory");
            note(Figure::at_most(name, &peak, memory, MEMORY, "MiB"));
        }
    }
}

impl Bench<'_> {
    /// Seconds that `pyvmomi` took, where it is.
    fn pyvmomi(&self) -> Result<Option<Duration>> {
        let Some(read) = self.lab.peer.read_by_pyvmomi(&hub_vsphere::VM_PROPERTIES)? else {
            return Ok(None);
        };
        ensure!(read.number("/vms")? == self.vms as u64, "pyvmomi read {read}");
        let seconds = read.pointer("/seconds").and_then(serde_json::Value::as_f64);
        Ok(Some(Duration::from_secs_f64(seconds.context("seconds")?)))
    }

    async fn discover(&self) -> Result<Duration> {
        let body = json!({"credential_id": self.credential});
        let started = Instant::now();
        let found = self.lab.api.post("/discovery/discover-vms", &body).await?.ok()?;
        let took = started.elapsed();
        ensure!(found.list("/vms")?.len() == self.vms, "not all were discovered");
        Ok(took)
    }

    /// Adds all VMs, each of which has to have this outcome.
    async fn add(&self, outcome: &str) -> Result<Added> {
        let programs = [self.lab.hub.program.id(), self.lab.vma.program.id()];
        for id in programs {
            std::fs::write(format!("/proc/{id}/clear_refs"), "5").context("the peaks stay")?;
        }
        let calls = self.calls()?;
        let before = Statements::of(&self.lab.database)?;
        let body = json!({"credential_id": self.credential, "all": true});
        let started = Instant::now();
        let answer = self.lab.api.post("/discovery/add-vms", &body).await?.ok()?;
        let took = started.elapsed();
        let statements = Statements::of(&self.lab.database)?.since(&before);
        let count = answer.number(&format!("/{outcome}"))?;
        ensure!(count == self.vms as u64, "{count} of {} are {outcome}", self.vms);
        let memory = [peak_memory(programs[0])?, peak_memory(programs[1])?];
        Ok(Added { took, calls: self.calls()? - calls, statements, memory })
    }

    fn calls(&self) -> Result<u64> {
        Ok(self.lab.peer.calls()?.values().sum())
    }
}
