//! A copy that waits for its turn at a host runs, and everybody can see what it waits for.

use anyhow::ensure;
use hub_tests::api::Fields as _;
use hub_tests::vsphere::{Account, VsphereLab};
use serde_json::Value;

use super::held::{HeldBackup, play};

#[tokio::test]
async fn p9_a_disk_that_waits_for_its_turn_at_a_host_is_seen_in_the_run() {
    let part = async |lab: &mut VsphereLab| {
        let one = ("VMA__SOURCE__READERS_PER_HOST".to_owned(), "1".to_owned());
        lab.vma.restart_once_with(&[one]).await?;
        let it = HeldBackup::start(lab).await?;
        let place = "1 of its disks are being read";
        // The sentence is the job's: until its first disk reads, no disk of it does, and both wait.
        let waits = |run: &Value| {
            let told = run.text("/waiting/reason").is_ok_and(|reason| reason.contains(place));
            let disks = run.list("/backups")?;
            Ok(told && disks.iter().filter(|disk| !disk.is_null_at("/waiting")).count() == 1)
        };
        let run = lab.api.until(&it.run, waits).await?;
        ensure!(run.text("/status")? == "running", "{run:#}");
        ensure!(run.text("/waiting/limited_by")? == "vma", "{run:#}");
        lab.peer.calm()?;
        let run = it.succeeds(lab).await?;
        ensure!(run.is_null_at("/waiting"), "{run:#}");
        it.the_next_one_succeeds(lab).await
    };
    play(Account::OfHub, &[], part).await.unwrap();
}
