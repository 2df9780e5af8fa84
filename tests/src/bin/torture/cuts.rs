//! Connections that are cut or stall between the VMA and the hub's exports.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::campaign::Campaign;
use crate::choices::Choices;
use crate::points::trim;
use crate::proxy::{Fault, Proxy};
use crate::work::Work;
use crate::world::{Victim, World};

/// The row of the scoreboard.
pub(crate) const KIND: &str = "connections cut or stalled";

/// Where the hub says that its exports are; only the proxy answers there.
const ADVERTISED: &str = "127.0.0.2";

/// What a hub has to be told at its start, so that VMAs come through the proxy.
pub(crate) fn environment() -> Vec<(String, String)> {
    vec![("HUB__NBD__ADVERTISE_HOST".to_owned(), ADVERTISED.to_owned())]
}

/// Cuts one piece of work somewhere, lets everything end, then does it again in peace.
pub(crate) async fn cut(campaign: &Campaign, world: &mut World, step: u64) -> Result<()> {
    let mut choices = Choices::of_step(campaign.seed(), "cuts", step);
    world.restart(Victim::Hub, &environment()).await?;
    let target: SocketAddr = world.lab.hub.nbd.parse()?;
    let listen = SocketAddr::new(ADVERTISED.parse()?, target.port());
    let work = [Work::Full, Work::Incremental, Work::ReplicateRaw, Work::ReplicateQcow2];
    let work = choices.pick(&work).copied().unwrap_or(Work::Full);
    // From the middle of the first handshake to the middle of the data.
    let at = if choices.one_in(3) { choices.below(600) } else { choices.below(200_000) };
    let fault = match choices.below(3) {
        0 => Fault::Reset(at),
        1 => Fault::Close(at),
        _ => Fault::Stall(at, Duration::from_millis(300)),
    };
    world.write(0, &mut choices)?;
    let proxy = Proxy::start(listen, target, fault).await?;
    let order = world.order(work, 0)?;
    drop(order.carry_out().await);
    world.settle().await?;
    ensure!(proxy.passed() > 0, "nothing passed through the proxy");
    drop(proxy);
    world.judge().await?;
    world.restart(Victim::Hub, &[]).await?;
    world.write(0, &mut choices)?;
    world.must(Work::Incremental, 0).await?;
    world.judge().await?;
    trim(world, 0, 2).await
}
