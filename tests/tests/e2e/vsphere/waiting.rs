//! A copy that waits for its turn at a host runs, and everybody can see what it waits for.

use anyhow::ensure;
use hub_tests::api::Fields as _;
use hub_tests::vsphere::{Account, VsphereLab};
use hub_vsphere_peer::Trouble;
use serde_json::Value;

use super::MIB;
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

/// A vCenter that takes its time while a copy is ordered is waited for by name, and costs no run.
#[tokio::test]
async fn p5_a_vcenter_that_is_slow_when_a_copy_begins_is_waited_for() {
    let part = async |lab: &mut VsphereLab| {
        let (_, context) = lab.manage("slow", &[2 * MIB]).await?;
        for (method, reason) in [("Login", "let the VMA in"), ("FindAllByUuid", "about the VM")] {
            // The first is for what is known of the VM, which is refreshed before.
            lab.peer.trouble(&Trouble {
                skip: 1,
                times: 0,
                ..Trouble::once(method, "hold", "")
            })?;
            let run = lab.start_backup(&context, "full").await?;
            let waits =
                |run: &Value| run.text("/waiting/reason").is_ok_and(|it| it.contains(reason));
            let seen = lab.api.until(&run, |run| Ok(waits(run))).await?;
            ensure!(seen.text("/status")? == "running", "{seen:#}");
            lab.peer.calm()?;
            let ended = lab.api.ended(&run, |_| ()).await?;
            ensure!(ended.text("/status")? == "succeeded", "{ended:#}");
            lab.nothing_is_left().await?;
        }
        Ok(())
    };
    play(Account::OfHub, &[], part).await.unwrap();
}
