//! Power cuts in the middle of a copy that goes on afterwards: whatever is left of image and journal, what
//! becomes of it is the disk of the second attempt, and of no other instant.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hub_block::trail::follow;
use hub_ports::{BackupStorage, NoProgress, PrepareImage};
use tokio_util::sync::CancellationToken;

use super::super::fixture::{Hub, image_path, judge, pattern, push, seal};
use super::super::power_cut::{Loss, PowerCut};
use super::super::resuming::{send, told_of};
use super::super::seed::{Seed, rounds};

/// Ten clusters and an odd end.
const SIZE: usize = 10 * 65_536 + 1_536;

/// A first attempt that is written down twice, and writes over a cluster in between.
async fn first_attempt() -> Result<PowerCut> {
    let hub = Hub::with_checkpoints(Duration::from_millis(10)).await?;
    let root = hub.folder.path().to_owned();
    let trail = follow(&root);
    let target = hub.storage.prepare_image(&hub.order(1, SIZE, None)?).await?;
    let (old, older) = (pattern(SIZE, 1), pattern(SIZE, 7));
    for (disk, clusters, wanted) in [(&older, 0..4, 4), (&old, 1..2, 4), (&old, 4..7, 7)] {
        send(disk, &target, clusters).await?;
        told_of(&hub, wanted).await?;
    }
    send(&old, &target, 7..9).await?;
    Ok(PowerCut { steps: trail.steps(), root })
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_a_copy_that_goes_on_after_a_power_cut_is_no_mix() -> Result<()> {
    let cut = first_attempt().await?;
    let mut seed = Seed::new();
    let (mut tried, mut gone_on) = (0, 0);
    let mut disk = pattern(SIZE, 2);
    // Some of it is as it was, so that there is something to keep.
    disk[2 * 65_536..6 * 65_536].copy_from_slice(&pattern(SIZE, 1)[2 * 65_536..6 * 65_536]);
    for count in 1..=cut.steps.len() {
        for _ in 0..rounds(2) {
            let next = Hub::start().await?;
            cut.rebuild(count, &mut Loss::draw(&mut seed), next.folder.path())?;
            let order = PrepareImage { resume: true, ..next.order(1, SIZE, None)? };
            let told = format!("seed {}, step {count}", seed.first());
            let target = next.storage.prepare_image(&order).await.context(told.clone())?;
            gone_on += usize::from(target.kept_bytes.is_some_and(|it| it > 0));
            let root = push(&disk, &target).await.context(told.clone())?;
            next.storage.seal_image(&seal(1, target, root, None)?).await.context(told.clone())?;
            let (location, stop) = (next.location(1), CancellationToken::new());
            let verdict = next.storage.verify_point(&location, &NoProgress, &stop).await?;
            ensure!(verdict.is_good(), "{told}: {verdict:?}");
            if tried % 10 == 0 {
                judge(&next.file(&image_path(1)), "qcow2", &disk).context(told)?;
            }
            tried += 1;
        }
    }
    eprintln!("resumed: seed {}, {tried} states, {gone_on} gone on with, 0 lost", seed.first());
    ensure!(gone_on > 0, "no state was gone on with");
    Ok(())
}
