//! A vCenter that lies about one disk: how long that is believed, and what follows when it is found.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use hub_tests::api::Fields as _;
use hub_tests::datastore::noise;
use hub_tests::judge::Image;
use serde_json::Value;

use super::{MIB, NAME, Stage, protection};
use crate::ledger::{Ledger, disk_name, expect};
use crate::screen::{Screen, bytes};

/// The disk that is lied about.
const DISK: usize = 1;

/// Where it is written to, and how much.
const HIDDEN: u64 = 24 * MIB;
const LENGTH: u64 = 64 << 10;

/// Within how many runs the whole disk is audited, for this act only; a hundred unless a run is told otherwise.
const RUNS: u32 = 4;

/// Lets the vCenter deny a change, and takes incrementals until an audit finds it; then one more backup.
pub(super) async fn lie(stage: &Stage, screen: &mut Screen, ledger: &mut Ledger) -> Result<()> {
    screen.begin("lie");
    stage.guest.write(DISK, HIDDEN, &noise(99, usize::try_from(LENGTH)?))?;
    stage.lab.deny_changes(&stage.guest, DISK)?;
    let hidden = format!("{} at {}", bytes(LENGTH), bytes(HIDDEN));
    screen.end(&[format!("{hidden} of disk {DISK} changed; the vCenter says that nothing has")]);

    let believed = audits(stage, screen, ledger).await?;
    screen.begin("suspicion");
    let mut suspect = 0;
    for id in &believed {
        let point = stage.lab.api.get(&format!("/backups/{id}")).await?.ok()?;
        suspect += usize::from(point.flag("/suspect")?);
    }
    let health = stage.lab.api.get("/debug/health").await?.ok()?;
    let alarms = health.number("/alarms/suspect_chains")?;
    let name = format!("{NAME} disk {DISK}");
    ledger.prove(&name, "suspect", expect(&suspect, &believed.len()));
    ledger.prove(&name, "alarm", expect(&alarms, &1));
    screen.end(&[format!(
        "{suspect} of {} points that believed it are suspect; chains that raise an alarm: {alarms}",
        believed.len()
    )]);

    let next = protection::back_up(stage, screen, "incremental", ledger).await?;
    let next = next.get(DISK).context("the disk that was lied about")?;
    let kind = next.text("/backup_type")?;
    ledger.prove(&disk_name(next)?, "then a full", expect(&kind, &"full".to_owned()));
    Ok(())
}

/// Takes incrementals of the disk until one of them finds the lie; answers those that believed it.
async fn audits(stage: &Stage, screen: &mut Screen, ledger: &mut Ledger) -> Result<Vec<String>> {
    screen.begin("audit");
    let (mut lines, mut believed) = (Vec::new(), Vec::new());
    loop {
        let point = stage.lab.audit(&stage.context, DISK, RUNS).await?;
        ledger.point(&point)?;
        let run = believed.len() + 1;
        if point.is_null_at("/suspicion") {
            let audited = bytes(point.number("/audit/bytes")?);
            lines.push(format!("run {run}: {audited} audited elsewhere, and the rest believed"));
            believed.push(point.text("/backup_id")?);
            ensure!(run <= 4, "the whole disk was audited, and the lie was not found");
            continue;
        }
        lines.push(found(run, &point)?);
        let root = stage.lab.repository().await?.text("/path")?;
        let path = Path::new(&root).join(point.text("/repository_path")?);
        let source = stage.guest.disks().get(DISK).context("the disk")?;
        let same = Image::new(source, "raw").compare(Image::new(&path, "qcow2"));
        ledger.prove(&disk_name(&point)?, "= source", same);
        screen.end(&lines);
        return Ok(believed);
    }
}

fn found(run: usize, point: &Value) -> Result<String> {
    let offset = bytes(point.number("/suspicion/offset")?);
    let read = bytes(point.number("/bytes/read")?);
    Ok(format!("run {run} of {RUNS} at most: a lie at {offset}; {read} read in place of the areas"))
}
