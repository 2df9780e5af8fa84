//! The name of a vCenter leads to another one, which has the same VMs with the same references, as a restored copy has.

use anyhow::{Result, ensure};
use hub_tests::api::Fields as _;
use hub_tests::vsphere::{Account, VsphereLab};
use serde_json::{Value, json};

use super::held::{HeldBackup, failed, play};

/// The id of the other vCenter.
const COPY: &str = "0c0b1a52-0000-4000-8000-00000000c0b1";

/// What hub and VMA say about it.
const EXPECTED: &[&str] = &[
    "a backup ended badly",
    "a disk was not copied",
    "could not be removed and stays owed",
    "the source could not be closed",
    "a VM is not copied through a VMA that reaches another vCenter",
];

#[tokio::test]
async fn trap_u15_a_vcenter_that_becomes_another_in_the_middle_of_a_job_is_not_read() {
    let part = async |lab: &mut VsphereLab| {
        let it = HeldBackup::start(lab).await?;
        let vcenter = it.context.text("/vcenter_uuid")?;
        lab.peer.become_another(COPY)?;
        lab.peer.calm()?;
        failed(&it.ended(lab).await?, "source/other-vcenter")?;
        let points = lab.api.all("/backups?status=succeeded").await?;
        ensure!(points.is_empty(), "no point: {points:#?}");
        // The first round of a hub is at its start.
        lab.hub.restart().await?;
        its_snapshot_is_left_alone(lab).await?;
        lab.vma.restart().await?;
        // The other one is not asked for a copy, neither by this start nor by later ones.
        for _ in 0..2 {
            let refused = lab.api.post("/backups", &of(lab, &it.context).await?).await?;
            let detail = refused.refused(409, "vm/no-vma")?.text("/detail")?;
            ensure!(detail.contains(COPY) && detail.contains(&vcenter), "{detail}");
        }
        its_snapshot_is_left_alone(lab).await?;
        lab.peer.become_another(&vcenter)?;
        lab.back_up(&it.guest, &it.context, "full").await?;
        lab.nothing_is_left().await?;
        lab.hub.restart().await?;
        lab.hub_owes("nothing", <[Value]>::is_empty).await.map(drop)
    };
    play(Account::OfBoth, EXPECTED, part).await.unwrap();
}

/// A backup of all disks of a VM.
async fn of(lab: &VsphereLab, context: &Value) -> Result<Value> {
    let repository = lab.repository().await?.text("/id")?;
    let vm = context.text("/context_id")?;
    Ok(json!({"vm_context_id": vm, "backup_type": "full", "repository_id": repository}))
}

/// Waits until the hub knows that nobody has looked for the snapshot where it is; hub and VMA keep it on record.
async fn its_snapshot_is_left_alone(lab: &VsphereLab) -> Result<()> {
    let codes = ["source/other-vcenter", "vm/no-vma"];
    let known = |all: &[Value]| match all {
        [owed] => codes.iter().any(|code| owed["error_code"] == *code),
        _ => false,
    };
    lab.hub_owes("one snapshot at another vCenter", known).await?;
    ensure!(lab.owed()? == 1, "the VMA has it on record, too");
    ensure!(lab.peer.snapshots()?.len() == 1, "the other has one of the same name");
    ensure!(lab.calls("RemoveSnapshot_Task")? == 0, "and nobody removes it there");
    Ok(())
}
