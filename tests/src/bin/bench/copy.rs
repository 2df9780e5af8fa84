//! Copies: one disk through VMA and hub into an image, beside qemu's and libnbd's tools on the same source.

mod cpu;
mod ours;
mod plan;
mod report;
mod rivals;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use hub_tests::tool;

use ours::{Copied, Ours};
use plan::{Goals, PIECE, Peer, Scenario};
use report::Case;
use rivals::{Rivals, allocated};

/// How large, how often, and where the figures go.
#[derive(clap::Args)]
pub(crate) struct CopyArguments {
    /// Disks of an eighth of the size, for every day.
    #[arg(long)]
    quick: bool,
    /// Rounds that the medians are taken from; in each, everybody copies once.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only cases whose names begin so, such as `a/sparse`.
    #[arg(long)]
    only: Option<String>,
    /// Where disks and images lie while it runs; the system's temporary directory unless set.
    #[arg(long)]
    place: Option<PathBuf>,
    /// Also writes the figures as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Runs the cases one after the other.
pub(crate) async fn run(arguments: &CopyArguments) -> Result<()> {
    ensure!(arguments.rounds > 0, "no rounds, no medians");
    ensure!(tool::present(&tool::DISK_TOOLS)?, "`cargo xtask bench` installs the tools");
    let only = arguments.only.as_deref().unwrap_or_default();
    let mut cases = Vec::new();
    for scenario in plan::scenarios(arguments.quick) {
        if scenario.name.starts_with(only) {
            measure(arguments, &scenario, &mut cases).await?;
        }
    }
    let size = if arguments.quick { "an eighth of the size" } else { "full size" };
    let title = format!("copies, {size}, medians of {} interleaved rounds", arguments.rounds);
    report::show(&title, &cases, arguments.json.as_deref())
}

async fn measure(
    arguments: &CopyArguments,
    scenario: &Scenario,
    cases: &mut Vec<Case>,
) -> Result<()> {
    say(&format!("{}: making the disk …", scenario.name));
    let mut folder = tempfile::Builder::new();
    let folder = folder.prefix("hub-bench-");
    let folder = match &arguments.place {
        Some(place) => folder.tempdir_in(place)?,
        None => folder.tempdir()?,
    };
    let ours = Ours::start(folder.path(), &scenario.disk).await?;
    let capacity = scenario.disk.capacity;
    let mut bench = Bench { rounds: arguments.rounds, folder: folder.path(), capacity, ours };

    let rivals = bench.rivals().await?;
    rivals.make_base().await?;
    let full = bench.full(scenario, &rivals).await?;
    drop(rivals);
    let median = full.median();
    cases.push(full);
    if scenario.with_changes {
        cases.push(bench.incremental("d/digest", false, median).await?);
        cases.push(bench.incremental("d/areas", true, median).await?);
    }
    bench.ours.stop().await
}

/// One disk with everybody who copies it.
struct Bench<'a> {
    rounds: usize,
    folder: &'a std::path::Path,
    capacity: u64,
    ours: Ours,
}

impl Bench<'_> {
    /// The newest state of the disk, served to the peers.
    async fn rivals(&self) -> Result<Rivals> {
        Rivals::serve(self.folder, &self.ours.vm.disk(0)?.top(), self.capacity).await
    }

    /// Full copies; the last of ours stays, for incrementals to stand on.
    async fn full(&self, scenario: &Scenario, rivals: &Rivals) -> Result<Case> {
        let bytes = allocated(&self.ours.vm.disk(0)?.top())?;
        let mut case = Case::new(&scenario.name, &Peer::FULL, scenario.goals, bytes, bytes);
        self.ours.forget_peaks()?;
        for round in 0..self.rounds {
            say(&format!("{}: round {} …", scenario.name, round + 1));
            if let Some(last) = case.ours.last() {
                self.ours.delete(last).await?;
            }
            self.round(round, rivals, "full", &mut case).await?;
        }
        self.finish(&mut case)?;
        Ok(case)
    }

    /// Incrementals, each after the same hundredth of the disk was written anew.
    async fn incremental(&mut self, name: &str, by_areas: bool, full: f64) -> Result<Case> {
        let pieces = plan::changed_pieces(self.capacity);
        let (peers, method): (&[Peer], _) = match by_areas {
            true => (&Peer::CHANGED, "changed_since"),
            false => (&Peer::BY_DIGEST, "by_digest"),
        };
        let changed = pieces.len() as u64 * PIECE;
        let goals = plan::incremental_goals(by_areas);
        let mut case = Case::new(name, peers, goals, 0, changed);
        case.full = Some(full);
        self.ours.forget_peaks()?;
        for round in 0..self.rounds {
            say(&format!("{name}: round {} …", round + 1));
            if by_areas {
                self.ours.vm.snapshot()?;
            }
            self.ours.change(&pieces, (name.len() + round) as u64)?;
            let rivals = self.rivals().await?;
            self.round(round, &rivals, "incremental", &mut case).await?;
            case.ours.last().map_or(Ok(()), |it| Ours::found_by(it, method))?;
        }
        case.allocated = allocated(&self.ours.vm.disk(0)?.top())?;
        self.finish(&mut case)?;
        Ok(case)
    }

    /// Everybody once; another one begins in each round, so that no place in the order is anybody's.
    async fn round(
        &self,
        round: usize,
        rivals: &Rivals,
        kind: &str,
        case: &mut Case,
    ) -> Result<()> {
        let runners = case.peers.len() + 1;
        for turn in 0..runners {
            match (round + turn) % runners {
                0 => case.ours.push(self.ours.back_up(kind).await?),
                number => {
                    if let Some((peer, took)) = case.peers.get_mut(number - 1) {
                        took.push(rivals.run(*peer).await?);
                    }
                }
            }
        }
        Ok(())
    }

    /// A fast copy that is wrong is no figure.
    fn finish(&self, case: &mut Case) -> Result<()> {
        case.peaks = self.ours.peaks()?;
        case.ours.last().map_or(Ok(()), |it: &Copied| self.ours.judge(it))
    }
}

impl Case {
    fn new(name: &str, peers: &[Peer], goals: Goals, allocated: u64, changed: u64) -> Self {
        Self {
            name: name.to_owned(),
            ours: Vec::new(),
            peers: peers.iter().map(|peer| (*peer, Vec::new())).collect(),
            goals,
            allocated,
            changed,
            full: None,
            peaks: [0.0; 2],
        }
    }
}

#[expect(clippy::print_stdout, reason = "progress of a long run")]
fn say(line: &str) {
    println!("{line}");
}
