//! A full disk and a failing one at the N-th operation, for every N until the work passes.

use anyhow::{Result, bail};
use hub_block::failpoint::Point;
use serde_json::Value;

use crate::campaign::Campaign;
use crate::choices::Choices;
use crate::points::{Reached, armed, trim};
use crate::work::Work;
use crate::world::{Victim, World};

/// Kinds of work that write, and what a failing disk does to them.
const WORK: [Work; 9] = [
    Work::Full,
    Work::Incremental,
    Work::RestoreRaw,
    Work::RestoreQcow2,
    Work::RestoreVmdk,
    Work::ReplicateRaw,
    Work::ReplicateAnew,
    Work::ReplicateQcow2,
    Work::Delete,
];

/// Which error at which point, during which work, and how often the work comes there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sweep {
    pub(crate) victim: Victim,
    pub(crate) work: Work,
    point: Point,
    error: &'static str,
    hits: u64,
}

impl Sweep {
    /// Its name in what is printed.
    pub(crate) fn name(&self) -> String {
        format!("{} {} {}={}", self.victim.name(), self.work.name(), self.point.name(), self.error)
    }

    /// The row of the scoreboard that it belongs to.
    pub(crate) const fn kind(&self) -> &'static str {
        match self.error.as_bytes() {
            b"enospc" => "ENOSPC at the N-th operation",
            _ => "EIO at the N-th operation",
        }
    }
}

/// Every sweep that there is: each point that work came to, with each error.
pub(crate) fn sweeps(campaign: &Campaign, reached: &Reached) -> Vec<Sweep> {
    let mut all = Vec::new();
    for ((victim, work, point), hits) in reached {
        if WORK.contains(work) {
            for error in ["enospc", "eio"] {
                all.push(Sweep { victim: *victim, work: *work, point: *point, error, hits: *hits });
            }
        }
    }
    campaign.sampled("sweeps", all)
}

/// Lets the work fail at its first operation, at its second, and so on, until it passes; answers how often it failed.
///
/// A short campaign tries one N of them all.
pub(crate) async fn sweep(
    campaign: &Campaign,
    world: &mut World,
    sweep: &Sweep,
    step: u64,
) -> Result<u64> {
    let mut choices = Choices::of_step(campaign.seed(), "sweeps", step);
    let (first, climbing) =
        if campaign.is_short() { (1 + choices.below(sweep.hits), "") } else { (1, "..") };
    let order = format!("{}={}@{first}{climbing}", sweep.point.name(), sweep.error);
    world.restart(sweep.victim, &armed(&order)).await?;
    let mut failed = 0;
    // Requests in flight fail together, so a few more tries than operations may be needed, never many more.
    let tries = sweep.hits * 2 + 16;
    for _ in 0..tries {
        if sweep.work == Work::Delete {
            world.must_be_there(0).await?;
        }
        world.write(0, &mut choices)?;
        let order = world.order(sweep.work, 0)?;
        let done = order.carry_out().await;
        world.note(&order);
        world.revive().await?;
        let passed = done.is_ok_and(|job| {
            matches!(job.get("status").and_then(Value::as_str), None | Some("succeeded"))
        });
        world.judge().await?;
        failed += 1;
        if passed || campaign.is_short() {
            world.restart(sweep.victim, &[]).await?;
            world.write(0, &mut choices)?;
            world.must(Work::Incremental, 0).await?;
            world.judge().await?;
            trim(world, 0, 2).await?;
            return Ok(failed);
        }
    }
    bail!("{} does not pass after {tries} tries", sweep.name())
}

impl World {
    /// A point to delete, made even where the disk fails now and then.
    async fn must_be_there(&mut self, place: usize) -> Result<()> {
        let context = self.machine(place)?.context.clone();
        for _ in 0..64 {
            if self.point_count(&context) > 2 || self.deleting.values().any(|of| *of == context) {
                return Ok(());
            }
            let order = self.order(Work::Incremental, place)?;
            // It may fail by what is injected; then it is tried again.
            drop(order.carry_out().await);
            self.revive().await?;
            self.judge().await?;
        }
        bail!("no backup succeeds any more")
    }
}
