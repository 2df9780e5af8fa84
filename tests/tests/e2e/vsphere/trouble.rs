//! Promise P5 at a vCenter: what goes wrong there in the middle of a job ends with a name, and leaves no snapshot.

use anyhow::{Result, ensure};
use hub_tests::api::Fields as _;
use hub_tests::vsphere::{Account, VsphereLab};
use hub_vsphere_peer::{Trouble, VmShape};
use serde_json::{Value, json};

use super::MIB;
use super::held::{HeldBackup, failed, play};

/// What hub and VMA say about a job that failed.
const EXPECTED: &[&str] = &["a backup ended badly", "a disk was not copied"];

/// And about one whose VM is not there any more.
const MISSING: &[&str] =
    &["could not be removed and stays owed", "the source could not be closed", "interrupted"];

fn for_ever(method: &str, kind: &str, value: &str) -> Trouble {
    Trouble { times: 0, ..Trouble::once(method, kind, value) }
}

#[tokio::test]
async fn p5_a_session_that_is_lost_in_the_middle_of_a_job_is_opened_again() {
    let part = async |lab: &mut VsphereLab| {
        let it = HeldBackup::start(lab).await?;
        let logins = lab.calls("Login")?;
        lab.peer.expire_sessions()?;
        lab.peer.calm()?;
        it.succeeds(lab).await?;
        ensure!(lab.calls("Login")? > logins, "the session was lost");
        it.the_next_one_succeeds(lab).await
    };
    play(Account::OfHub, &[], part).await.unwrap();
}

#[tokio::test]
async fn p5_a_server_that_is_busy_for_a_moment_fails_no_job() {
    let part = async |lab: &mut VsphereLab| {
        let it = HeldBackup::start(lab).await?;
        for method in ["folder", "RetrievePropertiesEx"] {
            lab.peer.trouble(&Trouble { times: 2, ..Trouble::once(method, "status", "503") })?;
        }
        lab.peer.go_on()?;
        it.succeeds(lab).await?;
        it.the_next_one_succeeds(lab).await
    };
    play(Account::OfHub, &[], part).await.unwrap();
}

#[tokio::test]
async fn p5_a_datastore_that_stays_away_fails_the_job() {
    let part = async |lab: &mut VsphereLab| {
        let it = HeldBackup::start(lab).await?;
        lab.peer.trouble(&for_ever("folder", "status", "503"))?;
        lab.peer.go_on()?;
        it.fails(lab, "source/read-failed").await?;
        lab.peer.calm()?;
        it.the_next_one_succeeds(lab).await
    };
    play(Account::OfHub, EXPECTED, part).await.unwrap();
}

#[tokio::test]
async fn p9_a_snapshot_that_is_never_made_can_be_cancelled_and_is_owed_until_its_task_ends() {
    let part = async |lab: &mut VsphereLab| {
        let (guest, context) = lab.manage("stuck", &[2 * MIB]).await?;
        lab.peer.trouble(&Trouble::once("CreateSnapshot_Task", "stuck", ""))?;
        let run = lab.start_backup(&context, "full").await?;
        lab.is_called("CreateSnapshot_Task", 0).await?;
        lab.api.post(&format!("{run}/cancel"), &json!({})).await?.ok()?;
        let ended = lab.api.ended(&run, |_| ()).await?;
        ensure!(ended.text("/status")? == "cancelled", "{ended:#}");
        lab.peer.end_tasks()?;
        lab.nothing_is_left().await?;
        lab.back_up(&guest, &context, "full").await.map(drop)
    };
    play(Account::OfHub, EXPECTED, part).await.unwrap();
}

#[tokio::test]
async fn p9_a_job_cancelled_with_its_snapshot_open_leaves_none() {
    let part = async |lab: &mut VsphereLab| {
        let it = HeldBackup::start(lab).await?;
        let run = it.cancelled(lab).await?;
        ensure!(run.text("/status")? == "cancelled", "{run:#}");
        lab.peer.calm()?;
        it.the_next_one_succeeds(lab).await
    };
    play(Account::OfHub, EXPECTED, part).await.unwrap();
}

#[tokio::test]
async fn p3_a_vm_that_is_renamed_and_moved_in_the_middle_of_a_job_stays_itself() {
    let part = async |lab: &mut VsphereLab| {
        let it = HeldBackup::start(lab).await?;
        let vm = it.guest.name().to_owned();
        lab.peer.move_vm(&vm, "another folder")?;
        let name = Some("other".to_owned());
        lab.peer.shape(&VmShape { vm, name, ..VmShape::default() })?;
        lab.peer.calm()?;
        it.succeeds(lab).await?;
        let id = it.context.text("/context_id")?;
        lab.api.post(&format!("/vm-contexts/{id}/refresh"), &json!({})).await?.ok()?;
        let now = lab.api.get(&format!("/vm-contexts/{id}")).await?.ok()?;
        ensure!(now.text("/vm_name")? == "other", "{now:#}");
        ensure!(now.text("/vm_path")?.contains("another folder"), "{now:#}");
        ensure!(now.list("/disks")?.len() == 2, "no disk twice: {now:#}");
        it.the_next_one_succeeds(lab).await
    };
    play(Account::OfHub, &[], part).await.unwrap();
}

#[tokio::test]
async fn p5_a_vm_that_is_deleted_in_the_middle_of_a_job_fails_it() {
    let part = async |lab: &mut VsphereLab| {
        let it = HeldBackup::start(lab).await?;
        lab.peer.destroy(it.guest.name())?;
        lab.peer.calm()?;
        failed(&it.ended(lab).await?, "source/read-failed")?;
        // It may have been unregistered as well, with its snapshot: who deleted it has to say so.
        let missing = owed_by_missing(lab).await?;
        // The next run is refused before anything is made for it, and owes nothing.
        let run = lab.start_backup(&it.context, "full").await?;
        failed(&lab.api.ended(&run, |_| ()).await?, "source/vm-not-found")?;
        ensure!(lab.hub_record().await?.len() == 1, "one is owed");
        let path = format!("/owed-cleanups/{}", missing.text("/copy_name")?);
        let struck = lab.api.delete(&path).await?.ok()?;
        ensure!(struck.text("/vma_record")? == "struck_off", "{struck:#}");
        ensure!(lab.hub_record().await?.is_empty(), "none is owed");
        let said = "struck off the record by request";
        ensure!(lab.vma.program.log()?.contains(said), "the VMA says so");
        ensure!(lab.hub.program.log()?.contains("struck off by request"), "the hub says so");
        lab.nothing_is_left().await
    };
    play(Account::OfHub, &[EXPECTED, MISSING].concat(), part).await.unwrap();
}

#[tokio::test]
async fn p3_trap_u12_a_vm_that_is_unregistered_in_the_middle_of_a_job_is_cleaned_when_it_is_back() {
    let part = async |lab: &mut VsphereLab| {
        let it = HeldBackup::start(lab).await?;
        lab.peer.unregister(it.guest.name())?;
        lab.peer.calm()?;
        let run = it.ended(lab).await?;
        ensure!(run.text("/status")? == "failed", "{run:#}");
        let missing = owed_by_missing(lab).await?;
        ensure!(missing.number("/tries")? > 0, "it was asked for: {missing:#}");
        ensure!(lab.peer.snapshots()?.len() == 1, "among the files of the VM");
        // Neither a VMA nor a hub that comes back takes it for gone.
        lab.vma.restart().await?;
        lab.hub.restart().await?;
        ensure!(lab.owed()? == 1, "it stays on record");
        lab.peer.register(it.guest.name())?;
        it.the_next_one_succeeds(lab).await?;
        // The first round of a hub is at its start.
        lab.hub.restart().await?;
        lab.hub_owes("nothing", <[Value]>::is_empty).await.map(drop)
    };
    play(Account::OfBoth, &[EXPECTED, MISSING].concat(), part).await.unwrap();
}

/// Waits until hub and VMA have one snapshot on record whose VM is not there.
async fn owed_by_missing(lab: &VsphereLab) -> Result<Value> {
    let missing =
        |all: &[Value]| matches!(all, [owed] if owed["error_code"] == "source/snapshot-vm-missing");
    let mut all = lab.hub_owes("one snapshot whose VM is missing", missing).await?;
    ensure!(lab.owed()? == 1, "the VMA has it on record, too");
    Ok(all.remove(0))
}

#[tokio::test]
async fn p3_a_snapshot_that_somebody_removes_in_the_middle_of_a_job_fails_it() {
    let part = async |lab: &mut VsphereLab| {
        let it = HeldBackup::start(lab).await?;
        lab.peer.remove_snapshots(it.guest.name())?;
        lab.peer.calm()?;
        it.fails(lab, "source/changed-while-reading").await?;
        it.the_next_one_succeeds(lab).await
    };
    play(Account::OfHub, EXPECTED, part).await.unwrap();
}

#[tokio::test]
async fn p3_a_removal_that_fails_once_stays_owed_and_is_done_before_the_next_snapshot() {
    let part = async |lab: &mut VsphereLab| {
        let it = HeldBackup::start(lab).await?;
        let fault = for_ever("RemoveSnapshot_Task", "task_fault", "HostCommunication");
        lab.peer.trouble(&fault)?;
        lab.peer.go_on()?;
        let run = it.ended(lab).await?;
        ensure!(run.text("/status")? == "succeeded", "the points are good: {run:#}");
        ensure!(lab.peer.snapshots()?.len() == 1, "it cannot be removed");
        lab.peer.calm()?;
        lab.back_up(&it.guest, &it.context, "incremental").await.map(drop)
    };
    let expected = ["the source could not be closed", "could not be removed and stays owed"];
    play(Account::OfHub, &expected, part).await.unwrap();
}
