//! Promise P8: the same request sent many times makes one job, and another one meanwhile is refused.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};
use hub_tests::api::Fields as _;
use hub_tests::datastore::VmSpec;
use hub_tests::lab::Lab;
use serde_json::json;
use tokio::task::JoinSet;

use super::play;
use super::protected::{Protected, large_disk, small_disk};

#[tokio::test]
async fn p8_twenty_equal_requests_at_once_make_one_run_and_a_different_one_is_refused() {
    let part = async |lab: &mut Lab| {
        let spec = VmSpec::new("popular", vec![large_disk(1), small_disk(2)]);
        let it = Protected::new(lab, &spec).await?;
        let mut asking = JoinSet::new();
        for _ in 0..20 {
            let (api, request) = (lab.api.clone(), it.request("full"));
            asking.spawn(async move { api.post("/backups", &request).await });
        }
        let mut runs = BTreeSet::new();
        while let Some(answer) = asking.join_next().await {
            let answer = answer??;
            ensure!(answer.status == 202, "accepted: {answer:?}");
            let location = answer.location.clone().context("a Location")?;
            let run = answer.ok()?.text("/run_id")?;
            ensure!(location == format!("/api/v1/backup-runs/{run}"), "{location} of {run}");
            runs.insert(location);
        }
        ensure!(runs.len() == 1, "one run: {runs:?}");
        let run = runs.first().context("one run")?;
        it.is_mid_copy().await?;
        lab.vma.program.signal("STOP")?;

        let different = [
            json!({"backup_type": "incremental"}),
            json!({"backup_type": "full", "disk_id": 0}),
            json!({"backup_type": "full", "tags": ["another"]}),
        ];
        for change in different {
            let mut body = it.request("full");
            if let (Some(body), Some(change)) = (body.as_object_mut(), change.as_object()) {
                body.extend(change.clone());
            }
            let problem = lab.api.post("/backups", &body).await?;
            let problem = problem.refused(409, "backup/already-running")?;
            let id = run.rsplit('/').next().unwrap_or_default();
            ensure!(problem.text("/detail")?.contains(id), "it says which: {problem:#}");
        }
        let same = lab.api.start("/backups", &it.request("full")).await?;
        ensure!(same == *run, "the same request again is the same run");
        lab.vma.program.signal("CONT")?;

        let ended = lab.api.ended(run, |_| ()).await?;
        ensure!(ended.text("/status")? == "succeeded", "{ended:#}");
        let jobs = lab.api.all("/backups").await?;
        ensure!(jobs.len() == 2, "one job per disk: {jobs:#?}");
        ensure!(it.files()?.len() == 4, "image and manifest per disk: {:#?}", it.files()?);
        for (backup, disk) in ended.list("/backups")?.iter().zip(it.vm.disks()) {
            it.judge(backup, hub_tests::judge::Image::new(&disk.top(), "vmdk"))?;
        }
        Ok(())
    };
    play(&[], part).await.unwrap();
}
