//! Each failpoint in turn: a process dies there, starts again, and everything is judged.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hub_block::failpoint::Point;
use tokio::time::Instant;

use crate::campaign::Campaign;
use crate::choices::Choices;
use crate::work::Work;
use crate::world::{Victim, World};

/// Sizes of the disks: more than one cluster each, and ends that no cluster shares.
pub(crate) const DISKS: &[u64] = &[2 << 20, (1 << 20) + 48 * 1024];

/// How long work may go on with a process that should have died; then the point was not reached.
const WITHIN: Duration = Duration::from_secs(120);

/// How long a process may take to be gone after the request that it died of has failed.
const GONE_WITHIN: Duration = Duration::from_secs(10);

/// How often it is looked whether a process is gone.
const LOOK_EVERY: Duration = Duration::from_millis(3);

/// How often a piece of work came to a point.
pub(crate) type Reached = BTreeMap<(Victim, Work, Point), u64>;

/// What makes a process die at the `hit`-th time that it comes to a point, or do whatever else is ordered.
pub(crate) fn armed(order: &str) -> Vec<(String, String)> {
    vec![("SENDENSE_FAILPOINTS".to_owned(), order.to_owned())]
}

/// Does every kind of work once, undisturbed, and counts where the processes come to.
pub(crate) async fn record(campaign: &mut Campaign, world: &mut World) -> Result<Reached> {
    let mut reached = Reached::new();
    let record = |victim: Victim| -> PathBuf {
        world.lab.folder().join(format!("reached-{}", victim.name()))
    };
    let files = [(Victim::Hub, record(Victim::Hub)), (Victim::Vma, record(Victim::Vma))];
    for (victim, file) in &files {
        let record = ("SENDENSE_FAILPOINTS_RECORD".to_owned(), file.display().to_string());
        world.restart(*victim, &[record]).await?;
    }
    // A VM that nobody has copied: its directories have to be made.
    let place = world.add_machine(DISKS).await?;
    let mut choices = Choices::new(campaign.seed());
    for work in Work::ALL {
        world.write(place, &mut choices)?;
        let before = counts(&files)?;
        world.must(work, place).await?;
        for (key, count) in counts(&files)? {
            let hits = count - before.get(&key).copied().unwrap_or(0);
            if hits > 0 {
                reached.insert((key.0, work, key.1), hits);
                campaign.board.reached(key.1.name(), hits);
            }
        }
        world.judge().await?;
    }
    for (victim, _) in &files {
        world.restart(*victim, &[]).await?;
    }
    ensure!(
        !reached.is_empty(),
        "no failpoint was reached: hub-server and vma are no debug builds"
    );
    Ok(reached)
}

/// The lines of each record, by point.
fn counts(files: &[(Victim, PathBuf)]) -> Result<BTreeMap<(Victim, Point), u64>> {
    let mut counts = BTreeMap::new();
    for (victim, file) in files {
        for name in std::fs::read_to_string(file).unwrap_or_default().lines() {
            let point = Point::named(name).with_context(|| format!("the record says `{name}`"))?;
            *counts.entry((*victim, point)).or_insert(0) += 1;
        }
    }
    Ok(counts)
}

/// Which deaths to die: the first, a middle and the last hit of each point in each work; a sample in the short form.
pub(crate) fn deaths(campaign: &Campaign, reached: &Reached) -> Vec<(Victim, Work, Point, u64)> {
    let mut choices = Choices::of_step(campaign.seed(), "deaths", 0);
    let mut all = Vec::new();
    for ((victim, work, point), hits) in reached {
        let mut chosen = vec![1, 1 + choices.below(*hits), *hits];
        chosen.dedup();
        all.extend(chosen.into_iter().map(|hit| (*victim, *work, *point, hit)));
    }
    campaign.sampled("deaths", all)
}

/// Kills a process at a point while it does its work, then judges.
pub(crate) async fn die_at(
    campaign: &mut Campaign,
    world: &mut World,
    (victim, work, point, hit): (Victim, Work, Point, u64),
    step: u64,
) -> Result<()> {
    let mut choices = Choices::of_step(campaign.seed(), "deaths", step);
    let place = 0;
    let context = world.machine(place)?.context.clone();
    if world.tips(&context).is_empty() || work == Work::Delete {
        world.must(Work::Incremental, place).await?;
        world.judge().await?;
    }
    world.write(place, &mut choices)?;
    let start = world.restart(victim, &armed(&format!("{}=kill@{hit}", point.name()))).await;
    // A start comes to some points, too, when it tidies up; then it dies before it says where it listens.
    let died = match start {
        Err(error) if !world.has_ended(victim)? => return Err(error),
        Err(_) => true,
        Ok(()) => interrupted(world, work, place, victim).await?,
    };
    if died {
        campaign.board.died_at(point.name());
    } else {
        // The work came there less often than when it was counted; what follows happens in peace.
        world.restart(victim, &[]).await?;
    }
    world.revive().await?;
    world.judge().await?;
    // Whatever was interrupted, the hub goes on working.
    world.write(place, &mut choices)?;
    world.must(Work::Incremental, place).await?;
    world.judge().await?;
    trim(world, place, 2).await
}

/// Does a piece of work until it ends or a process dies of it; answers whether one died.
pub(crate) async fn interrupted(
    world: &mut World,
    work: Work,
    place: usize,
    victim: Victim,
) -> Result<bool> {
    let order = world.order(work, place)?;
    let doing = order.carry_out();
    tokio::pin!(doing);
    let (died, goes_on) = tokio::select! {
        died = is_gone(world, victim, WITHIN) => (died?, true),
        // What the hub answers is of no interest here; the judge looks at what has become of it.
        done = &mut doing => {
            // A connection breaks before its process is gone.
            let patience = if done.is_err() { GONE_WITHIN } else { Duration::ZERO };
            (is_gone(world, victim, patience).await?, false)
        }
    };
    world.revive().await?;
    if died && goes_on && victim == Victim::Vma {
        // The hub lives and still does what it was asked for.
        drop(tokio::time::timeout(WITHIN, doing).await);
    }
    world.note(&order);
    Ok(died)
}

/// Waits until a process has ended, so long at most; answers whether it has.
async fn is_gone(world: &mut World, victim: Victim, within: Duration) -> Result<bool> {
    let deadline = Instant::now() + within;
    while !world.has_ended(victim)? {
        if Instant::now() >= deadline {
            return Ok(false);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(true)
}

/// Deletes the newest points of a VM until so many are left, in peace, and looks whether they are gone.
pub(crate) async fn trim(world: &mut World, place: usize, left: usize) -> Result<()> {
    let context = world.machine(place)?.context.clone();
    let mut gone = Vec::new();
    while world.point_count(&context) > left {
        let Some(tip) = world.tips(&context).pop() else { break };
        world.leaving.insert(tip.clone());
        world.lab.api.delete(&format!("/backups/{tip}")).await?.ok()?;
        world.points.remove(&tip);
        gone.push(tip);
    }
    if !gone.is_empty() {
        world.judge().await?;
    }
    let back: Vec<_> = gone.iter().filter(|it| world.points.contains_key(*it)).collect();
    ensure!(back.is_empty(), "points that were deleted are still there: {back:#?}");
    Ok(())
}
