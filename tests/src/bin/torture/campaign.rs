//! The course of a campaign: its seed, its time, its scoreboard, and what happens after a loss.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use hub_testkit::database::DatabaseKind;
use hub_tests::lab::Surroundings;
use tokio::time::Instant;

use crate::choices::Choices;
use crate::points::DISKS;
use crate::scoreboard::{Loss, Scoreboard};
use crate::work::Work;
use crate::world::World;

/// How many injections of a part a short campaign draws from all that there are.
const SAMPLE: usize = 8;

/// So many losses say enough.
const ENOUGH: usize = 12;

/// A campaign under way.
pub(crate) struct Campaign {
    seed: u64,
    short: bool,
    start: Instant,
    length: Duration,
    evidence: PathBuf,
    database: DatabaseKind,
    /// The counts.
    pub(crate) board: Scoreboard,
}

impl Campaign {
    /// One that begins now.
    pub(crate) fn new(
        seed: u64,
        short: bool,
        length: Duration,
        evidence: PathBuf,
        database: DatabaseKind,
    ) -> Self {
        let board = Scoreboard::default();
        Self { seed, short, start: Instant::now(), length, evidence, database, board }
    }

    /// What every random decision is a function of.
    pub(crate) const fn seed(&self) -> u64 {
        self.seed
    }

    /// Whether it is the form that takes a sample and is counted.
    pub(crate) const fn is_short(&self) -> bool {
        self.short
    }

    /// Whether so many parts in a hundred of its time are over; a short campaign is counted, not timed.
    pub(crate) fn is_past(&self, percent: u32) -> bool {
        !self.short && self.start.elapsed() >= self.length * percent / 100
    }

    /// Whether it has lost so much that it ends.
    pub(crate) fn is_lost(&self) -> bool {
        self.board.losses().len() >= ENOUGH
    }

    /// A short campaign takes a sample, a long one everything, each in an order that the seed tells.
    pub(crate) fn sampled<T>(&self, part: &str, all: Vec<T>) -> Vec<T> {
        let mut choices = Choices::of_step(self.seed, part, 1);
        let mut keyed: Vec<_> = all.into_iter().map(|it| (choices.next(), it)).collect();
        keyed.sort_by_key(|(key, _)| *key);
        let taken = if self.short { SAMPLE } else { usize::MAX };
        keyed.into_iter().map(|(_, it)| it).take(taken).collect()
    }

    /// A world with a VM that has two points, in peace.
    pub(crate) async fn world(&self, machines: &[&[u64]]) -> Result<World> {
        self.world_with(machines, Surroundings::default()).await
    }

    /// The same, whose processes find this around them.
    pub(crate) async fn world_with(
        &self,
        machines: &[&[u64]],
        around: Surroundings,
    ) -> Result<World> {
        let world = World::new(self.database, machines, around).await?;
        let mut world = world.context("the tools and the database of a campaign are there")?;
        let mut choices = Choices::new(self.seed);
        for place in 0..world.machines.len() {
            world.write(place, &mut choices)?;
            world.must(Work::Full, place).await?;
        }
        world.judge().await?;
        Ok(world)
    }

    /// A world for injections at one VM.
    pub(crate) async fn small_world(&self) -> Result<World> {
        self.world(&[DISKS]).await
    }

    /// Counts what an injection came to. After a loss everything is kept, and a new world begins.
    pub(crate) async fn count(
        &mut self,
        kind: &'static str,
        what: impl Into<String>,
        outcome: Result<()>,
        world: &mut World,
    ) -> Result<()> {
        let Err(why) = outcome else {
            self.board.survived(kind);
            return Ok(());
        };
        let evidence = self.evidence.join(format!("loss-{}", self.board.losses().len() + 1));
        let logs = format!("{}\n{}", world.lab.hub.program.tail(), world.lab.vma.program.tail());
        world.keep(&evidence)?;
        let (what, why) = (what.into(), format!("{why:#}"));
        std::fs::write(
            evidence.join("why.txt"),
            format!("seed {}\n{what}\n{why}\n{logs}\n", self.seed),
        )?;
        eprintln!("LOST {kind}: {what}: {why}\n  evidence: {}", evidence.display());
        self.board.lost(Loss { kind, what, why, evidence });
        let sizes: Vec<Vec<u64>> = world.machines.iter().map(|it| it.capacities.clone()).collect();
        let sizes: Vec<&[u64]> = sizes.iter().map(Vec::as_slice).collect();
        *world = self.world_with(&sizes, world.around.clone()).await?;
        Ok(())
    }

    /// Says where it is, so that whoever waits sees it move.
    pub(crate) fn say(&self, part: &str, done: usize, all: usize) {
        let seconds = self.start.elapsed().as_secs();
        eprintln!("[{seconds:>5} s] {part}: {done} of {all}, lost {}", self.board.losses().len());
    }
}
