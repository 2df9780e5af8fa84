//! Promises P2 and P5 at the VMA: killed in the middle of a copy, it is told again when it is back, and given up when it
//! is not.

use anyhow::ensure;
use hub_tests::api::Fields as _;
use hub_tests::datastore::{VmSpec, noise};
use hub_tests::lab::Lab;

use super::play;
use super::protected::{MIB, Protected, failed_with, large_disk, small_disk};

/// How the hub tells that a run ended badly.
const EXPECTED: &[&str] = &["a backup ended badly", "a copy was lost and is ordered again"];

#[tokio::test]
async fn p5_a_vma_killed_in_the_middle_of_a_copy_and_started_again_ends_the_same_job_with_success()
{
    let part = async |lab: &mut Lab| {
        let disks = vec![large_disk(1), small_disk(2)];
        let it = Protected::new(lab, &VmSpec::new("restarted", disks)).await?;
        it.back_up(lab, "full").await?;
        it.vm.disk(0)?.write(100 * MIB, &noise(9, 65_536))?;
        let before = it.files()?;
        let run = it.start(lab, "full").await?;
        it.is_mid_copy().await?;
        lab.vma.restart().await?;
        let ended = lab.api.ended(&run, |_| ()).await?;
        ensure!(ended.text("/status")? == "succeeded", "{ended:#}");
        for point in ended.list("/backups")? {
            ensure!(point.number("/attempt")? == 2, "{point:#}");
            let reason = point.text("/attempt_reason")?;
            ensure!(reason.starts_with("the VMA was restarted; "), "{reason}");
            ensure!(reason.contains("that had arrived were compared"), "{reason}");
            // What had arrived is compared and not sent again, but for what was under way.
            let (sent, capacity) = (point.number("/bytes/sent")?, point.number("/capacity_bytes")?);
            ensure!(sent <= capacity + 32 * MIB, "{sent} of {capacity} bytes were sent");
            it.verify(lab, &point).await?;
        }
        let now = it.files()?;
        let kept = before.iter().all(|(path, digest)| now.get(path) == Some(digest));
        ensure!(kept, "earlier points are never written to");
        it.back_up(lab, "incremental").await?;
        Ok(())
    };
    play(EXPECTED, part).await.unwrap();
}

#[tokio::test]
async fn p5_a_vma_that_stays_dead_fails_its_job_in_bounded_time() {
    let part = async |lab: &mut Lab| {
        let it = Protected::new(lab, &VmSpec::new("widowed", vec![large_disk(1)])).await?;
        let run = it.start(lab, "full").await?;
        it.is_mid_copy().await?;
        lab.vma.program.kill()?;
        let ended = lab.api.ended(&run, |_| ()).await?;
        failed_with(&ended, "vma/unreachable")?;
        ensure!(it.files()?.is_empty(), "nothing partial stays: {:#?}", it.files()?);

        lab.vma.restart().await?;
        it.back_up(lab, "full").await?;
        Ok(())
    };
    play(EXPECTED, part).await.unwrap();
}
