//! Restores that are cancelled or lose their hub: a named end, no half-written file, and points as they were.

use anyhow::{Context as _, ensure};
use hub_tests::api::Fields as _;
use hub_tests::datastore::VmSpec;
use hub_tests::judge::Image;
use hub_tests::lab::Lab;
use serde_json::json;

use super::play;
use super::protected::{Protected, files_below, is_written_below, large_disk};

#[tokio::test]
async fn p2_and_p9_a_broken_restore_leaves_no_file_and_can_be_asked_for_again() {
    let part = async |lab: &mut Lab| {
        let it = Protected::new(lab, &VmSpec::new("restored", vec![large_disk(1)])).await?;
        let backups = it.back_up(lab, "full").await?;
        let backup = backups.first().context("one disk")?;
        let before = it.files()?;
        let restores = lab.hub.data_dir().join("restores");
        let body = json!({"backup_id": backup.text("/backup_id")?, "format": "raw"});

        let job = lab.api.start("/restores", &body).await?;
        is_written_below(&restores, "").await?;
        lab.api.post(&format!("{job}/cancel"), &json!({})).await?.ok()?;
        let ended = lab.api.ended(&job, |_| ()).await?;
        ensure!(ended.text("/status")? == "cancelled", "{ended:#}");
        ensure!(files_below(&restores)?.is_empty(), "{:#?}", files_below(&restores)?);

        let job = lab.api.start("/restores", &body).await?;
        is_written_below(&restores, "").await?;
        lab.hub.restart().await?;
        let ended = lab.api.ended(&job, |_| ()).await?;
        ensure!(ended.text("/status")? == "interrupted", "{ended:#}");
        ensure!(ended.text("/error/code")? == "job/hub-restarted", "{ended:#}");
        ensure!(ended.is_null_at("/path"), "nothing is offered: {ended:#}");
        ensure!(files_below(&restores)?.is_empty(), "{:#?}", files_below(&restores)?);
        it.unchanged_since(&before)?;

        let job = lab.api.run("/restores", &body).await?;
        let path = job.text("/path")?;
        it.vm.disk(0)?.compare(Image::new(path.as_ref(), "raw"))
    };
    play(&["interrupted"], part).await.unwrap();
}
