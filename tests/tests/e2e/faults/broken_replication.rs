//! Replications whose hub or VMA is killed in the middle: they go on by themselves, with the same disk rows, and are whole.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use hub_tests::api::Fields as _;
use hub_tests::datastore::VmSpec;
use hub_tests::judge::Image;
use hub_tests::lab::Lab;
use serde_json::{Value, json};

use super::play;
use super::protected::{Protected, is_written_below, large_disk, small_disk};

/// What a VMA says whose hub is gone, and a hub whose VMA is.
const EXPECTED: &[&str] =
    &["a disk was not copied", "a copy was lost", "requeued", "an NBD server was lost"];

fn request(it: &Protected, kind: &str, format: &str) -> Value {
    json!({"vm_context_id": it.context_id, "replication_type": kind, "format": format})
}

/// Starts a replication and comes back in the middle of its copy, with the job's path.
async fn mid_copy(lab: &Lab, it: &Protected, format: &str) -> Result<String> {
    let job = lab.api.start("/replications", &request(it, "initial", format)).await?;
    is_written_below(&lab.hub.data_dir().join("replicas"), &format!(".{format}")).await?;
    Ok(job)
}

/// Replicates to the end, and judges each replica by its disk.
async fn replicate(lab: &Lab, it: &Protected, kind: &str, format: &str) -> Result<Value> {
    let job = lab.api.run("/replications", &request(it, kind, format)).await?;
    judged(lab, it, &job, format)?;
    Ok(job)
}

/// Judges each replica by its disk.
fn judged(lab: &Lab, it: &Protected, job: &Value, format: &str) -> Result<()> {
    for (replica, disk) in job.list("/disks")?.iter().zip(it.vm.disks()) {
        let path = lab.hub.replica(&replica.text("/replica_path")?);
        let image = Image::new(&path, format);
        if format == "qcow2" {
            image.check()?;
        }
        disk.compare(image).with_context(|| format!("{job:#}"))?;
    }
    Ok(())
}

async fn rows(lab: &Lab, it: &Protected) -> Result<Vec<u64>> {
    lab.disks(&it.context_id).await?.iter().map(|row| row.number("/id")).collect()
}

#[tokio::test]
async fn p2_a_replication_whose_hub_or_vma_was_killed_goes_on_and_is_whole() {
    let part = async |lab: &mut Lab| {
        let spec = VmSpec::new("moving", vec![large_disk(1), small_disk(2)]);
        let it = Protected::new(lab, &spec).await?;
        let before = rows(lab, &it).await?;

        let job = mid_copy(lab, &it, "raw").await?;
        lab.hub.restart().await?;
        let ended = lab.api.ended(&job, |_| ()).await?;
        ensure!(ended.text("/status")? == "succeeded", "{ended:#}");
        ensure!(ended.text("/attempt_reason")?.starts_with("the hub was restarted"), "{ended:#}");
        ensure!(rows(lab, &it).await? == before, "the same disk rows");
        judged(lab, &it, &ended, "raw")?;
        let next = replicate(lab, &it, "incremental", "raw").await?;
        ensure!(next.text("/disks/0/method")? == "by_digest", "{next:#}");

        let job = mid_copy(lab, &it, "qcow2").await?;
        lab.vma.restart().await?;
        let ended = lab.api.ended(&job, |_| ()).await?;
        ensure!(ended.text("/status")? == "succeeded", "{ended:#}");
        ensure!(ended.text("/attempt_reason")?.starts_with("the VMA was restarted"), "{ended:#}");
        judged(lab, &it, &ended, "qcow2")?;
        replicate(lab, &it, "initial", "qcow2").await?;
        ensure!(rows(lab, &it).await? == before, "the same disk rows");
        // The replica of the other format was not touched by all that.
        let raw = lab.hub.replica(&next.text("/disks/0/replica_path")?);
        it.vm.disk(0)?.compare(Image::new(Path::new(&raw), "raw"))
    };
    play(EXPECTED, part).await.unwrap();
}
