//! The first start of a hub and of a VMA, which dies at each of its points and then begins again.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use hub_block::failpoint::Point;
use hub_tests::processes::{Hub, HubOptions, Lifetime, Vma, VmaOptions};

use crate::campaign::Campaign;
use crate::points::armed;
use crate::world::Victim;

/// The row of the scoreboard.
pub(crate) const KIND: &str = "killed at a point of the first start";

fn hub(place: &Path, environment: Vec<(String, String)>) -> HubOptions {
    HubOptions {
        data_dir: place.join("hub"),
        database_url: None,
        logs: place.join("logs"),
        environment,
        lifetime: Lifetime::Owned,
    }
}

fn vma(place: &Path, environment: Vec<(String, String)>) -> Result<VmaOptions> {
    let datastore = place.join("datastore1");
    std::fs::create_dir_all(&datastore)?;
    Ok(VmaOptions {
        name: "first".to_owned(),
        state_dir: place.join("vma"),
        datastores: vec![datastore],
        logs: place.join("logs"),
        environment,
        lifetime: Lifetime::Owned,
    })
}

/// Starts one of them for the first time in a directory.
async fn start(victim: Victim, place: &Path, environment: Vec<(String, String)>) -> Result<()> {
    match victim {
        Victim::Hub => {
            let hub = Hub::start(hub(place, environment)).await?;
            // The token of the first start opens a hub that has one repository.
            let repositories = hub.api()?.all("/repositories").await?;
            ensure!(repositories.len() == 1, "a new hub has one repository: {repositories:#?}");
        }
        Victim::Vma => {
            let vma = Vma::start(vma(place, environment)?).await?;
            ensure!(vma.token.len() >= 32, "a new VMA has a token");
        }
    }
    Ok(())
}

/// Where both come to at their first start, and how often.
pub(crate) async fn record(campaign: &mut Campaign) -> Result<Vec<(Victim, Point, u64)>> {
    let mut all = Vec::new();
    for victim in [Victim::Hub, Victim::Vma] {
        let place = tempfile::tempdir()?;
        let record = place.path().join("record");
        let name = "SENDENSE_FAILPOINTS_RECORD".to_owned();
        start(victim, place.path(), vec![(name, record.display().to_string())]).await?;
        let mut counts = BTreeMap::new();
        for name in std::fs::read_to_string(record)?.lines() {
            let point = Point::named(name).with_context(|| format!("the record says `{name}`"))?;
            campaign.board.reached(point.name(), 1);
            *counts.entry(point).or_insert(0) += 1;
        }
        for (point, hits) in counts {
            all.extend((1..=hits).map(|hit| (victim, point, hit)));
        }
    }
    Ok(campaign.sampled("first start", all))
}

/// Dies at a point of a first start; the second start is a first start again, or goes on from there.
pub(crate) async fn die_at(
    campaign: &mut Campaign,
    (victim, point, hit): (Victim, Point, u64),
) -> Result<()> {
    let place = tempfile::tempdir()?;
    let armed = armed(&format!("{}=kill@{hit}", point.name()));
    let died = start(victim, place.path(), armed).await.is_err();
    ensure!(died, "{} did not die at {} {hit}", victim.name(), point.name());
    campaign.board.died_at(point.name());
    for _ in 0..2 {
        start(victim, place.path(), Vec::new()).await?;
    }
    let partial = |it: &std::path::PathBuf| it.extension().is_some_and(|it| it == "partial");
    let left: Vec<_> =
        crate::judge::files_below(place.path())?.into_iter().filter(partial).collect();
    ensure!(left.is_empty(), "partial files stay: {left:#?}");
    Ok(())
}
