//! Promise P9: cancel ends a job within seconds and leaves nothing behind.

use anyhow::{Result, ensure};
use hub_tests::api::Fields as _;
use hub_tests::datastore::VmSpec;
use hub_tests::lab::Lab;
use serde_json::{Value, json};

use super::play;
use super::protected::{Protected, ends, large_disk, small_disk};

/// What the VMA says of a copy that was taken away from it.
const COPY_LOST: &[&str] = &["a disk was not copied", "an NBD server was lost"];

async fn cancel(lab: &Lab, run: &str) -> Result<Value> {
    let answer = lab.api.post(&format!("{run}/cancel"), &json!({})).await?;
    ensure!(answer.status == 202, "accepted: {answer:?}");
    answer.ok()
}

#[tokio::test]
async fn p9_cancel_in_the_middle_of_a_copy_leaves_nothing_and_the_next_run_succeeds() {
    let part = async |lab: &mut Lab| {
        let spec = VmSpec::new("cancelled", vec![large_disk(1), small_disk(2)]);
        let it = Protected::new(lab, &spec).await?;
        let run = it.start(lab, "full").await?;
        it.is_mid_copy().await?;
        cancel(lab, &run).await?;
        let run = lab.api.ended(&run, |_| ()).await?;
        ensure!(run.text("/status")? == "cancelled", "{run:#}");
        let first = ends(&run)?.into_iter().next().unwrap_or_default();
        ensure!(first.starts_with("cancelled"), "the disk that was at work: {run:#}");
        // A disk of the run that had succeeded before is a point; anything else is gone.
        let points = lab.api.all("/backups?status=succeeded").await?;
        ensure!(it.files()?.len() == 2 * points.len(), "only points: {:#?}", it.files()?);
        let chain = format!("/backup/chain?vm_context_id={}&disk_id=0", it.context_id);
        let chain = lab.api.get(&chain).await?.ok()?;
        ensure!(chain.list("/chains")?.is_empty(), "no chain of the cancelled disk: {chain:#}");

        // Cancelling what has ended changes nothing.
        let again = cancel(lab, &format!("/backup-runs/{}", run.text("/run_id")?)).await?;
        ensure!(again.text("/status")? == "cancelled", "{again:#}");
        it.back_up(lab, "full").await?;
        Ok(())
    };
    play(COPY_LOST, part).await.unwrap();
}

#[tokio::test]
async fn p9_cancel_ends_a_job_whose_vma_does_not_answer() {
    let part = async |lab: &mut Lab| {
        let it = Protected::new(lab, &VmSpec::new("frozen", vec![large_disk(1)])).await?;
        let run = it.freeze_mid_copy(lab, "full").await?;
        cancel(lab, &run).await?;
        let run = lab.api.ended(&run, |_| ()).await?;
        ensure!(run.text("/status")? == "cancelled", "{run:#}");
        ensure!(it.files()?.is_empty(), "nothing stays: {:#?}", it.files()?);

        // The copy that wakes up has no target any more, and is not mixed into the next one.
        lab.vma.program.signal("CONT")?;
        it.back_up(lab, "full").await?;
        Ok(())
    };
    play(COPY_LOST, part).await.unwrap();
}
