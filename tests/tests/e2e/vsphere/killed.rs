//! Promise P3: killed with a snapshot open, VMA and hub leave none behind once they are back.

use anyhow::{Context as _, Result, ensure};
use hub_tests::api::Fields as _;
use hub_tests::vsphere::{Account, VsphereLab};

use super::held::{HeldBackup, failed, play};

/// What hub and VMA say about a job that was interrupted.
const EXPECTED: &[&str] = &[
    "a copy was lost and is ordered again",
    "a backup ended badly",
    "a disk was not copied",
    "an NBD server was lost",
    "requeued",
    "interrupted",
];

/// Fails unless the snapshot of the killed job is there, for the second client, too.
fn one_is_left(lab: &VsphereLab) -> Result<()> {
    ensure!(lab.peer.snapshots()?.len() == 1, "{:?}", lab.peer.snapshots()?);
    ensure!(lab.owed()? == 1, "it is written down");
    let Some(seen) = lab.peer.seen_by_pyvmomi()? else { return Ok(()) };
    let mut names = Vec::new();
    for vm in seen.as_array().context("a list of VMs")? {
        names.extend(vm.list("/snapshots")?);
    }
    ensure!(names.len() == 1, "pyvmomi sees {names:?}");
    Ok(())
}

#[tokio::test]
async fn p3_a_vma_killed_with_a_snapshot_open_is_told_again_and_leaves_none() {
    let part = async |lab: &mut VsphereLab| {
        let it = HeldBackup::start(lab).await?;
        lab.vma.program.kill()?;
        lab.peer.calm()?;
        one_is_left(lab)?;
        lab.vma.restart().await?;
        let run = it.succeeds(lab).await?;
        for point in run.list("/backups")? {
            ensure!(point.number("/attempt")? == 2, "{point:#}");
        }
        it.the_next_one_succeeds(lab).await
    };
    play(Account::OfBoth, EXPECTED, part).await.unwrap();
}

#[tokio::test]
async fn p3_trap_u12_a_vma_that_comes_back_too_late_removes_its_snapshot_at_its_start() {
    let part = async |lab: &mut VsphereLab| {
        let it = HeldBackup::start(lab).await?;
        lab.vma.program.kill()?;
        lab.peer.calm()?;
        let run = it.ended(lab).await?;
        failed(&run, "vma/unreachable")?;
        one_is_left(lab)?;
        lab.vma.restart().await?;
        it.the_next_one_succeeds(lab).await
    };
    play(Account::OfBoth, EXPECTED, part).await.unwrap();
}

#[tokio::test]
async fn p3_a_hub_killed_with_a_snapshot_open_goes_on_and_leaves_none() {
    let part = async |lab: &mut VsphereLab| {
        let it = HeldBackup::start(lab).await?;
        lab.hub.restart().await?;
        lab.peer.calm()?;
        it.succeeds(lab).await?;
        it.the_next_one_succeeds(lab).await
    };
    play(Account::OfHub, EXPECTED, part).await.unwrap();
}

#[tokio::test]
async fn p3_hub_and_vma_killed_together_leave_no_snapshot() {
    let part = async |lab: &mut VsphereLab| {
        let it = HeldBackup::start(lab).await?;
        lab.vma.program.kill()?;
        lab.hub.program.kill()?;
        lab.peer.calm()?;
        one_is_left(lab)?;
        lab.hub.restart().await?;
        lab.vma.restart().await?;
        let run = it.ended(lab).await?;
        let ends = ["succeeded", "interrupted", "failed"];
        ensure!(ends.contains(&run.text("/status")?.as_str()), "a named end: {run:#}");
        it.the_next_one_succeeds(lab).await
    };
    play(Account::OfBoth, EXPECTED, part).await.unwrap();
}

/// The VMA has no account of its own, so only the hub can have it clean up, and does so over a restart of its own.
#[tokio::test]
async fn p3_trap_u12_the_hub_remembers_the_snapshot_of_a_vma_that_was_killed_until_it_is_gone() {
    let part = async |lab: &mut VsphereLab| {
        let it = HeldBackup::start(lab).await?;
        lab.vma.program.kill()?;
        lab.peer.calm()?;
        let run = it.cancelled(lab).await?;
        ensure!(run.text("/status")? == "cancelled", "{run:#}");
        one_is_left(lab)?;
        lab.vma.restart().await?;
        lab.hub.restart().await?;
        it.the_next_one_succeeds(lab).await
    };
    play(Account::OfHub, EXPECTED, part).await.unwrap();
}
