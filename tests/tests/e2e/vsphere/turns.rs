//! Jobs of one VM follow each other at once, or are asked for together: none meets the snapshot of another.

use anyhow::{Context as _, Result, ensure};
use hub_tests::api::Fields as _;
use hub_tests::datastore::noise;
use hub_tests::judge::Image;
use hub_tests::vsphere::{Account, VsphereLab};
use hub_vsphere_peer::Trouble;
use serde_json::{Value, json};

use super::MIB;
use super::held::{HeldBackup, play};

/// Lets the next removal of a snapshot take its time; the run that it belongs to has ended by then.
fn removal_takes_long(lab: &VsphereLab) -> Result<()> {
    lab.peer.trouble(&Trouble::once("RemoveSnapshot_Task", "delay", "8000"))
}

/// What pre-flight says of a VM that is asked about now.
async fn concerns(lab: &VsphereLab, context: &Value) -> Result<Vec<Value>> {
    let path = format!("/vm-contexts/{}", context.text("/context_id")?);
    lab.api.post(&format!("{path}/refresh"), &json!({})).await?.ok()?;
    lab.api.get(&format!("{path}/preflight")).await?.ok()?.list("/concerns")
}

#[tokio::test]
async fn a_run_follows_another_at_once_though_its_snapshot_is_being_removed() {
    let part = async |lab: &mut VsphereLab| {
        let (guest, context) = lab.manage("payroll", &[4 * MIB, 2 * MIB]).await?;
        guest.write(0, MIB, &noise(1, 1 << 20))?;
        removal_takes_long(lab)?;
        lab.back_up(&guest, &context, "full").await?;
        ensure!(lab.peer.snapshots()?.len() == 1, "its snapshot is still there");
        guest.write(0, 2 * MIB, &noise(2, 100))?;
        for point in lab.back_up(&guest, &context, "incremental").await? {
            ensure!(point.text("/method")? == "changed_since", "{point:#}");
        }
        // A third one, beside what a cancelled one leaves.
        let reads = Trouble { times: 0, ..Trouble::once("folder", "hold", "") };
        lab.peer.trouble(&reads)?;
        let before = lab.calls("folder")?;
        let run = lab.start_backup(&context, "full").await?;
        lab.is_called("folder", before).await?;
        removal_takes_long(lab)?;
        lab.api.post(&format!("{run}/cancel"), &json!({})).await?.ok()?;
        let ended = lab.api.ended(&run, |_| ()).await?;
        ensure!(ended.text("/status")? == "cancelled", "{ended:#}");
        lab.peer.go_on()?;
        for point in lab.back_up(&guest, &context, "incremental").await? {
            ensure!(point.text("/method")? == "changed_since", "{point:#}");
        }
        ensure!(lab.calls("CreateSnapshot_Task")? == 4, "one for each run");
        Ok(())
    };
    play(Account::OfHub, &["a backup ended badly", "a disk was not copied"], part).await.unwrap();
}

#[tokio::test]
async fn a_backup_and_a_replication_of_one_vm_at_once_take_turns() {
    let part = async |lab: &mut VsphereLab| {
        let it = HeldBackup::start(lab).await?;
        let vm = it.context.text("/context_id")?;
        let body = json!({"vm_context_id": vm, "replication_type": "initial"});
        let replication = lab.api.start("/replications", &body).await?;
        let waits = |job: &Value| {
            let reason = job.text("/waiting/reason");
            Ok(reason.is_ok_and(|it| it.contains("another job of the VM")))
        };
        let job = lab.api.until(&replication, waits).await?;
        ensure!(job.text("/status")? == "running", "{job:#}");
        ensure!(concerns(lab, &it.context).await?.is_empty(), "no word of our own snapshot");
        ensure!(lab.calls("CreateSnapshot_Task")? == 1, "it waits: {:?}", lab.peer.snapshots()?);
        lab.peer.go_on()?;
        it.succeeds(lab).await?;
        let job = lab.api.ended(&replication, |_| ()).await?;
        ensure!(job.text("/status")? == "succeeded", "{job:#}");
        let disks = job.list("/disks")?;
        ensure!(disks.len() == it.guest.disks().len(), "{job:#}");
        for disk in disks {
            let replica = lab.hub.replica(&disk.text("/replica_path")?);
            let ordinal = usize::try_from(disk.number("/disk_id")?)?;
            let source = it.guest.disks().get(ordinal).context("a disk of the guest")?;
            Image::new(source, "raw").compare(Image::new(&replica, "raw"))?;
        }
        ensure!(lab.calls("CreateSnapshot_Task")? == 2, "one for each job");
        it.the_next_one_succeeds(lab).await
    };
    play(Account::OfHub, &[], part).await.unwrap();
}
