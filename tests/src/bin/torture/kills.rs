//! SIGKILL at any moment, to the hub, the VMA or both, while several VMs are worked on at once.

use std::time::Duration;

use anyhow::{Context as _, Result};
use hub_tests::lab::Surroundings;
use serde_json::json;
use tokio::task::JoinSet;

use crate::campaign::Campaign;
use crate::choices::Choices;
use crate::judge::ENDS_WITHIN;
use crate::points::trim;
use crate::work::{Order, Work};
use crate::world::{Victim, World};

/// The VMs of this part.
pub(crate) const MACHINES: [&[u64]; 3] =
    [&[4 << 20, (1 << 20) + 48 * 1024], &[6 << 20], &[2 << 20, 1 << 20]];

/// Here everything travels encrypted; elsewhere in the campaign it does not.
pub(crate) fn environment() -> Surroundings {
    let hub = vec![("HUB__NBD__PLAIN".to_owned(), "never".to_owned())];
    Surroundings { hub, ..Surroundings::default() }
}

/// The row of the scoreboard.
pub(crate) const KIND: &str = "SIGKILL at random, under load";

/// The longest time from the first request to the kill; most work has ended by then.
const LATEST: Duration = Duration::from_millis(1200);

/// Points of a VM above which its newest are deleted, so that chains stay of interest and short.
const MANY: usize = 14;

/// One round: every VM gets something to do, a process is killed, everything starts again and is judged.
pub(crate) async fn round(campaign: &Campaign, world: &mut World, step: u64) -> Result<()> {
    let mut choices = Choices::of_step(campaign.seed(), "kills", step);
    if choices.one_in(6) {
        let compression = if choices.one_in(2) { "zstd" } else { "none" };
        let path = format!("/repositories/{}", world.repository);
        world.lab.api.patch(&path, &json!({"compression": compression})).await?.ok()?;
    }
    let mut orders = Vec::new();
    for place in 0..world.machines.len() {
        if world.point_count(&world.machine(place)?.context) > MANY {
            trim(world, place, 4).await?;
        }
        world.write(place, &mut choices)?;
        for _ in 0..1 + choices.below(2) {
            let work = Work::ALL;
            let work = choices.pick(&work).copied().context("there is work")?;
            orders.push(world.order(work, place)?);
        }
    }
    let victims: &[Victim] = match choices.below(5) {
        0 | 1 => &[Victim::Hub],
        2 | 3 => &[Victim::Vma],
        _ => &[Victim::Hub, Victim::Vma],
    };
    // Short times are as likely as long ones: the first steps of a job are as many as those of its copy.
    let latest = choices.up_to(LATEST);
    let after = choices.up_to(latest);
    let mut working = JoinSet::new();
    for order in &orders {
        let order: Order = order.clone();
        // Whatever the hub answers, the judge looks at what has become of it.
        working.spawn(async move { order.carry_out().await.is_ok() });
    }
    tokio::time::sleep(after).await;
    for victim in victims {
        world.kill(*victim)?;
    }
    world.revive().await?;
    // What a living hub was asked for it still does: nobody judges before it has heard of everything.
    let all = async { while working.join_next().await.is_some() {} };
    tokio::time::timeout(ENDS_WITHIN, all).await.context("work that was asked for does not end")?;
    for order in &orders {
        world.note(order);
    }
    world.judge().await?;
    let place = usize::try_from(choices.below(3))?;
    world.write(place, &mut choices)?;
    world.must(Work::Incremental, place).await?;
    world.judge().await
}
