//! A guest that comes to rest for its snapshot, and one that does not: each point says which it was, for good.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use hub_tests::api::Fields as _;
use hub_tests::datastore::noise;
use hub_tests::vsphere::{Account, Guest, VsphereLab, judge};
use hub_vsphere_peer::Trouble;
use serde_json::{Value, json};

use super::MIB;
use super::held::play;

/// A full backup with this word about the guest; the points, as the hub shows each by itself.
async fn backed_up(
    lab: &VsphereLab,
    guest: &Guest,
    context: &Value,
    quiesce: &Value,
) -> Result<Vec<Value>> {
    let repository = lab.repository().await?;
    let body = json!({
        "vm_context_id": context.text("/context_id")?,
        "backup_type": "full",
        "repository_id": repository.text("/id")?,
        "quiesce": quiesce,
    });
    let run = lab.api.run("/backups", &body).await?;
    ensure!(run.pointer("/quiesce") == Some(quiesce), "{run:#}");
    let root = repository.text("/path")?;
    let mut points = Vec::new();
    for (backup, file) in run.list("/backups")?.iter().zip(guest.disks()) {
        judge(Path::new(&root), backup, file)?;
        let id = backup.text("/backup_id")?;
        points.push(lab.api.get(&format!("/backups/{id}")).await?.ok()?);
    }
    ensure!(points.len() == guest.disks().len(), "{run:#}");
    Ok(points)
}

/// Fails unless all say so of the guest, and by which way it was read.
fn all_say(points: &[Value], quiesced: bool, reason: Option<&str>) -> Result<()> {
    for point in points {
        ensure!(point.flag("/quiesced")? == quiesced, "{point:#}");
        match reason {
            Some(reason) => ensure!(point.text("/quiesce_reason")?.contains(reason), "{point:#}"),
            None => ensure!(point.is_null_at("/quiesce_reason"), "{point:#}"),
        }
        ensure!(point.text("/reader")? == "https", "{point:#}");
        ensure!(point.text("/reader_reason")?.contains("VDDK"), "{point:#}");
    }
    Ok(())
}

#[tokio::test]
async fn a_point_says_whether_its_guest_was_at_rest_and_why_it_was_not() {
    let part = async |lab: &mut VsphereLab| {
        let (guest, context) = lab.manage("mail", &[2 * MIB, MIB]).await?;
        guest.write(0, MIB, &noise(1, 65_536))?;
        let at_rest = backed_up(lab, &guest, &context, &json!(true)).await?;
        all_say(&at_rest, true, None)?;
        let not_asked = backed_up(lab, &guest, &context, &json!(false)).await?;
        all_say(&not_asked, false, None)?;
        let as_set_up = backed_up(lab, &guest, &context, &Value::Null).await?;
        all_say(&as_set_up, true, None)?;

        let fault = Trouble::once("CreateSnapshot_Task", "task_fault", "ApplicationQuiesceFault");
        lab.peer.trouble(&fault)?;
        let snapshots = lab.calls("CreateSnapshot_Task")?;
        let not_at_rest = backed_up(lab, &guest, &context, &json!(true)).await?;
        all_say(&not_at_rest, false, Some("ApplicationQuiesceFault"))?;
        ensure!(lab.calls("CreateSnapshot_Task")? == snapshots + 2, "the second one was taken");

        lab.peer.trouble(&fault)?;
        let body = json!({"vm_context_id": context.text("/context_id")?, "quiesce": true});
        let replica = lab.api.run("/replications", &body).await?;
        ensure!(!replica.flag("/quiesced")?, "{replica:#}");
        ensure!(replica.text("/quiesce_reason")?.contains("Quiesce"), "{replica:#}");
        ensure!(replica.text("/disks/0/reader")? == "https", "{replica:#}");

        lab.hub.restart().await?;
        for point in at_rest.iter().chain(&not_at_rest) {
            let id = point.text("/backup_id")?;
            let now = lab.api.get(&format!("/backups/{id}")).await?.ok()?;
            ensure!(now == *point, "{now:#}\nand not\n{point:#}");
        }
        let id = replica.text("/id").context("a replication")?;
        ensure!(lab.api.get(&format!("/replications/{id}")).await?.ok()? == replica);
        Ok(())
    };
    play(Account::OfHub, &["did not come to rest"], part).await.unwrap();
}
