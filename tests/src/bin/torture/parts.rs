//! The parts of a campaign, and which of them follow each other.

use anyhow::Result;

use crate::campaign::Campaign;
use crate::chains::{self, Surgery};
use crate::choices::Choices;
use crate::points::{self, Reached};
use crate::work::Work;
use crate::world::World;
use crate::{cuts, errors, first_start, kills, rot};

/// The row of deaths at a point.
const AT_POINT: &str = "killed at a failpoint";

/// Rounds of a short campaign.
const SHORT_KILLS: u64 = 12;
/// Cuts of a short campaign, and of a long one.
const CUTS: (u64, u64) = (4, 60);

/// Parts that follow each other; lanes of a long campaign run beside each other, each with processes of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// First starts, failpoints, damage, chains, connections: each takes as long as it needs.
    Systematic,
    /// Failing disks, as far as they get.
    Errors,
    /// Random kills, to the end: every step of two whose number leaves this rest.
    Kills(u64),
}

/// Lanes of random kills.
const KILLING: u64 = 2;

impl Lane {
    /// All of them.
    pub(crate) const ALL: [Self; 4] =
        [Self::Systematic, Self::Errors, Self::Kills(0), Self::Kills(1)];

    /// Its name in paths.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Systematic => "systematic",
            Self::Errors => "errors",
            Self::Kills(0) => "kills",
            Self::Kills(_) => "more-kills",
        }
    }

    /// Runs every part of it whose name holds `only`.
    pub(crate) async fn run(self, campaign: &mut Campaign, only: &str) -> Result<()> {
        match self {
            Self::Systematic => systematic(campaign, only).await,
            Self::Errors if "errors".contains(only) => failing_disks(campaign).await,
            Self::Kills(rest) if "kills".contains(only) => random_kills(campaign, rest).await,
            Self::Errors | Self::Kills(_) => Ok(()),
        }
    }
}

async fn systematic(campaign: &mut Campaign, only: &str) -> Result<()> {
    let wanted = |name: &str| name.contains(only);
    if wanted("first-start") {
        first_starts(campaign).await?;
    }
    if wanted("points") {
        deaths(campaign).await?;
    }
    if wanted("rot") || wanted("chains") || wanted("cuts") {
        let mut world = campaign.small_world().await?;
        if wanted("rot") {
            rotting(campaign, &mut world).await?;
        }
        if wanted("chains") {
            surgeries(campaign, &mut world).await?;
        }
        if wanted("cuts") {
            connections(campaign, &mut world).await?;
        }
    }
    Ok(())
}

async fn first_starts(campaign: &mut Campaign) -> Result<()> {
    let all = first_start::record(campaign).await?;
    let mut world = campaign.small_world().await?;
    for (step, death) in all.iter().enumerate() {
        if campaign.is_past(10) || campaign.is_lost() {
            break;
        }
        campaign.say("first start", step, all.len());
        let (victim, point, hit) = *death;
        let outcome = first_start::die_at(campaign, *death).await;
        let what = format!("{} at {} {hit}", victim.name(), point.name());
        campaign.count(first_start::KIND, what, outcome, &mut world).await?;
    }
    Ok(())
}

/// A world and where its processes come to while it works.
async fn recorded(campaign: &mut Campaign) -> Result<(World, Reached)> {
    let mut world = campaign.small_world().await?;
    let reached = points::record(campaign, &mut world).await?;
    Ok((campaign.small_world().await?, reached))
}

async fn deaths(campaign: &mut Campaign) -> Result<()> {
    let (mut world, reached) = recorded(campaign).await?;
    let world = &mut world;
    let all = points::deaths(campaign, &reached);
    for (step, death) in (0..).zip(&all) {
        if campaign.is_past(60) || campaign.is_lost() {
            break;
        }
        campaign.say("failpoints", step, all.len());
        let (victim, work, point, hit) = *death;
        let outcome = points::die_at(campaign, world, *death, u64::try_from(step)?).await;
        let what = format!("{} doing {} at {} {hit}", victim.name(), work.name(), point.name());
        campaign.count(AT_POINT, what, outcome, world).await?;
    }
    Ok(())
}

async fn failing_disks(campaign: &mut Campaign) -> Result<()> {
    let (mut world, reached) = recorded(campaign).await?;
    let world = &mut world;
    let all = errors::sweeps(campaign, &reached);
    for (step, sweep) in (0..).zip(&all) {
        if campaign.is_past(100) || campaign.is_lost() {
            break;
        }
        campaign.say("failing disks", step, all.len());
        match errors::sweep(campaign, world, sweep, u64::try_from(step)?).await {
            Ok(times) => {
                for _ in 0..times {
                    campaign.board.survived(sweep.kind());
                }
            }
            Err(error) => campaign.count(sweep.kind(), sweep.name(), Err(error), world).await?,
        }
    }
    Ok(())
}

/// Makes sure that the first VM has a full and an incremental, which is what is damaged.
async fn with_a_chain(campaign: &Campaign, world: &mut World) -> Result<()> {
    points::trim(world, 0, 2).await?;
    world.write(0, &mut Choices::new(campaign.seed()))?;
    world.must(Work::Incremental, 0).await?;
    world.judge().await
}

async fn rotting(campaign: &mut Campaign, world: &mut World) -> Result<()> {
    with_a_chain(campaign, world).await?;
    let mut chains = world.chains().await?;
    let regions = rot::regions(campaign, &chains)?;
    for (step, region) in (0..).zip(&regions) {
        if campaign.is_past(80) || campaign.is_lost() {
            break;
        }
        campaign.say("flipped bits", step, regions.len());
        let outcome = rot::flip(campaign, world, &chains, region, u64::try_from(step)?).await;
        if outcome.is_err() {
            campaign.count(rot::FLIPPED, region.name(), outcome, world).await?;
            // The chains of the new world are others, and regions of theirs are a matter of another seed.
            with_a_chain(campaign, world).await?;
            chains = world.chains().await?;
            break;
        }
        campaign.count(rot::FLIPPED, region.name(), outcome, world).await?;
    }
    let lengths = rot::lengths(campaign, &chains)?;
    for (step, (chain, file, end)) in lengths.iter().enumerate() {
        if campaign.is_past(85) || campaign.is_lost() {
            break;
        }
        campaign.say("truncated files", step, lengths.len());
        let outcome = rot::truncate(world, &chains, (*chain, file, *end)).await;
        let failed = outcome.is_err();
        let what = format!("{} at {end}", file.display());
        campaign.count(rot::TRUNCATED, what, outcome, world).await?;
        if failed {
            with_a_chain(campaign, world).await?;
            chains = world.chains().await?;
            break;
        }
    }
    for chain in &chains {
        if !rot::has_two_clusters(chain)? {
            continue;
        }
        let mut outcome = rot::swap_blocks(world, chain).await;
        if outcome.is_ok() {
            outcome = world.judge().await;
        }
        let failed = outcome.is_err();
        campaign.count(rot::SWAPPED, "two clusters of data", outcome, world).await?;
        if failed {
            break;
        }
    }
    Ok(())
}

async fn surgeries(campaign: &mut Campaign, world: &mut World) -> Result<()> {
    let all = campaign.sampled("chains", Surgery::ALL.to_vec());
    for (step, surgery) in all.iter().enumerate() {
        if campaign.is_past(95) || campaign.is_lost() {
            break;
        }
        campaign.say("chains", step, all.len());
        with_a_chain(campaign, world).await?;
        let chains = world.chains().await?;
        let mut outcome = chains::operate(world, &chains, *surgery).await;
        if outcome.is_ok() {
            outcome = world.judge().await;
        }
        campaign.count(chains::KIND, format!("{surgery:?}"), outcome, world).await?;
    }
    Ok(())
}

async fn connections(campaign: &mut Campaign, world: &mut World) -> Result<()> {
    let count = if campaign.is_short() { CUTS.0 } else { CUTS.1 };
    for step in 0..count {
        if campaign.is_past(100) || campaign.is_lost() {
            break;
        }
        campaign.say("connections", usize::try_from(step)?, usize::try_from(count)?);
        let outcome = cuts::cut(campaign, world, step).await;
        campaign.count(cuts::KIND, format!("step {step}"), outcome, world).await?;
    }
    Ok(())
}

async fn random_kills(campaign: &mut Campaign, rest: u64) -> Result<()> {
    let mut world = campaign.world_with(&kills::MACHINES, kills::environment()).await?;
    let mut step = rest;
    while !campaign.is_lost() {
        let over = if campaign.is_short() { step >= SHORT_KILLS } else { campaign.is_past(100) };
        if over {
            break;
        }
        if (step / KILLING).is_multiple_of(10) {
            campaign.say("random kills", usize::try_from(step)?, 0);
        }
        let outcome = kills::round(campaign, &mut world, step).await;
        campaign.count(kills::KIND, format!("step {step}"), outcome, &mut world).await?;
        step += KILLING;
    }
    Ok(())
}
