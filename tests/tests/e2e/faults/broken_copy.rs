//! Promises P2 and P5 at the VMA: killed in the middle of a copy, its job fails with a name and can be run again.

use anyhow::ensure;
use hub_tests::datastore::{VmSpec, noise};
use hub_tests::lab::Lab;

use super::play;
use super::protected::{MIB, Protected, failed_with, large_disk};

/// How the hub tells that a run ended badly.
const EXPECTED: &[&str] = &["a backup ended badly"];

#[tokio::test]
async fn p5_a_vma_killed_in_the_middle_of_a_copy_and_started_again_knows_no_job() {
    let part = async |lab: &mut Lab| {
        let it = Protected::new(lab, &VmSpec::new("restarted", vec![large_disk(1)])).await?;
        it.back_up(lab, "full").await?;
        it.vm.disk(0)?.write(100 * MIB, &noise(9, 65_536))?;
        let before = it.files()?;
        let run = it.start(lab, "full").await?;
        it.is_mid_copy().await?;
        lab.vma.restart().await?;
        let ended = lab.api.ended(&run, |_| ()).await?;
        failed_with(&ended, "vma/unknown-job")?;
        it.unchanged_since(&before)?;
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
