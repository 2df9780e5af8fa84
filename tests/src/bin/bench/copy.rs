//! Copies: disks through VMA and hub into images, beside qemu's and libnbd's tools on the same sources.

mod peers;
pub(crate) mod plan;
mod report;
mod rivals;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::ours::Ours;
use crate::workshop::{self, Terms, say};
use peers::Peer;
use plan::{Goals, PIECE, Scenario};
use report::Case;
use rivals::{Rivals, allocated};

/// What is copied.
#[derive(clap::Args)]
pub(crate) struct CopyArguments {
    #[command(flatten)]
    terms: Terms,
    /// Only cases whose names begin so, such as `a/sparse`.
    #[arg(long)]
    only: Option<String>,
    /// Rounds that the medians are taken from; in each, everybody copies once.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

/// Runs the cases one after the other.
pub(crate) async fn run(arguments: &CopyArguments) -> Result<()> {
    ensure!(arguments.rounds > 0, "no rounds, no medians");
    let only = arguments.only.as_deref().unwrap_or_default();
    let mut cases = Vec::new();
    for scenario in plan::scenarios(arguments.terms.shrink()) {
        if scenario.name.starts_with(only) {
            measure(arguments, &scenario, &mut cases).await?;
        }
    }
    let size = arguments.terms.size();
    let title = format!("copies, {size}, medians of {} interleaved rounds", arguments.rounds);
    report::show(&title, &cases, arguments.terms.json.as_deref())
}

async fn measure(
    arguments: &CopyArguments,
    scenario: &Scenario,
    cases: &mut Vec<Case>,
) -> Result<()> {
    say(&format!("{}: making the disks …", scenario.name));
    let folder = workshop::folder(&arguments.terms)?;
    let ours = Ours::start(folder.path(), &scenario.disks).await?;
    if scenario.compressed {
        ours.compress().await?;
    }
    let mut bench = Bench { rounds: arguments.rounds, folder: folder.path(), ours };

    let rivals = bench.rivals().await?;
    rivals.make_bases().await?;
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

/// One VM with everybody who copies it.
struct Bench<'a> {
    rounds: usize,
    folder: &'a Path,
    ours: Ours,
}

impl Bench<'_> {
    /// The newest state of the disks, served to the peers.
    async fn rivals(&self) -> Result<Rivals> {
        Rivals::serve(self.folder, &self.disks()).await
    }

    /// The files and capacities of the disks.
    fn disks(&self) -> Vec<(PathBuf, u64)> {
        self.ours.vm.disks().iter().map(|it| (it.top(), it.capacity())).collect()
    }

    fn allocated(&self) -> Result<u64> {
        self.ours.vm.disks().iter().map(|it| allocated(&it.top())).sum()
    }

    /// Full copies; the last of ours stays, for incrementals to stand on.
    async fn full(&self, scenario: &Scenario, rivals: &Rivals) -> Result<Case> {
        let bytes = self.allocated()?;
        let mut case = Case::new(&scenario.name, scenario.peers, scenario.goals, bytes);
        case.disks = scenario.disks.len();
        case.changed = bytes;
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
        let disk = self.ours.vm.disk(0).context("a VM has a disk")?;
        let pieces = plan::changed_pieces(disk.capacity());
        let (peers, method): (&[Peer], _) = match by_areas {
            true => (&Peer::CHANGED, "changed_since"),
            false => (&Peer::BY_DIGEST, "by_digest"),
        };
        let goals = plan::incremental_goals(by_areas);
        let mut case = Case::new(name, peers, goals, 0);
        case.changed = pieces.len() as u64 * PIECE;
        case.full = Some(full);
        self.ours.forget_peaks()?;
        for round in 0..self.rounds {
            say(&format!("{name}: round {} …", round + 1));
            if by_areas {
                self.ours.vm.snapshot()?;
            }
            self.ours.change(&pieces, PIECE, (name.len() + round) as u64)?;
            let rivals = self.rivals().await?;
            self.round(round, &rivals, "incremental", &mut case).await?;
            case.ours.last().map_or(Ok(()), |it| it.found_by(method))?;
        }
        case.allocated = self.allocated()?;
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
        case.ours.last().map_or(Ok(()), |it| self.ours.judge(it))
    }
}

impl Case {
    fn new(name: &str, peers: &[Peer], goals: Goals, allocated: u64) -> Self {
        Self {
            name: name.to_owned(),
            ours: Vec::new(),
            peers: peers.iter().map(|peer| (*peer, Vec::new())).collect(),
            goals,
            allocated,
            changed: 0,
            disks: 1,
            full: None,
            peaks: [0.0; 2],
        }
    }
}
