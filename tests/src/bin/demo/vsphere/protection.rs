//! Backups of a VM of the vCenter, each with one snapshot, and what the vCenter was asked for them.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use hub_tests::api::Fields as _;
use hub_tests::datastore::{FileSystem, noise};
use hub_tests::judge::Image;
use serde_json::Value;

use super::{MIB, NAME, Stage};
use crate::ledger::{Ledger, disk_name, expect};
use crate::screen::{Screen, bytes, folded};
use crate::story::show;

/// Backs up all disks at one instant, and has each image judged.
pub(super) async fn back_up(
    stage: &Stage,
    screen: &mut Screen,
    kind: &'static str,
    ledger: &mut Ledger,
) -> Result<Vec<Value>> {
    screen.begin(kind);
    let lab = &stage.lab;
    let methods = ["CreateSnapshot_Task", "QueryChangedDiskAreas", "folder"];
    let before = methods.map(|it| lab.calls(it).unwrap_or(0));
    let path = lab.start_backup(&stage.context, kind).await?;
    let run = lab.api.ended(&path, |run| show(screen, run)).await?;
    if run.text("/status")? != "succeeded" {
        bail!("the {kind} backup ended badly: {run:#}");
    }
    let backups = run.list("/backups")?;
    let [snapshots, questions, reads] = [0, 1, 2].map(|it: usize| {
        let (now, then) = (methods.get(it).map(|it| lab.calls(it)), before.get(it));
        now.and_then(Result::ok).zip(then).map_or(0, |(now, then)| now - then)
    });
    let mut lines = vec![format!(
        "{} read, {} sent, {snapshots} snapshot of {} disks, {reads} reads of their files",
        bytes(run.number("/bytes/read")?),
        bytes(run.number("/bytes/sent")?),
        backups.len(),
    )];
    if questions > 0 {
        lines.push(format!("questions for changed areas: {questions}"));
    }
    for backup in &backups {
        let (blocks, audited) = (backup.number("/audit/blocks")?, backup.number("/audit/bytes")?);
        if blocks > 0 {
            let (name, audited) = (disk_name(backup)?, bytes(audited));
            lines.push(format!("{name}: {audited} audited in {blocks} blocks, unchanged as told"));
        }
        if let Some(reason) = backup.pointer("/method_reason").and_then(Value::as_str) {
            lines.extend(folded(&format!("{}: {reason}", disk_name(backup)?)));
        }
    }
    screen.end(&lines);
    screen.begin(if kind == "full" { "judge" } else { "judge again" });
    let root = lab.repository().await?.text("/path")?;
    for (backup, source) in backups.iter().zip(stage.guest.disks()) {
        ledger.point(backup)?;
        judge(Path::new(&root), backup, source, ledger)?;
    }
    screen.end(&[format!(
        "{} images: qemu-img check, and compare with the vCenter's files",
        backups.len()
    )]);
    Ok(backups)
}

fn judge(root: &Path, backup: &Value, source: &Path, ledger: &mut Ledger) -> Result<()> {
    let path = root.join(backup.text("/repository_path")?);
    let image = Image::new(&path, "qcow2");
    let name = disk_name(backup)?;
    let capacity = backup.number("/capacity_bytes")?;
    ledger.prove(&name, "size", image.virtual_size().and_then(|size| expect(&size, &capacity)));
    ledger.prove(&name, "check", image.check());
    ledger.prove(&name, "= source", Image::new(source, "raw").compare(image));
    Ok(())
}

/// Rewrites a file on the first disk and a megabyte of the second.
pub(super) fn change(stage: &Stage, screen: &mut Screen) -> Result<()> {
    screen.begin("change");
    let first = stage.guest.disks().first().context("a first disk")?;
    let files = FileSystem::of(first);
    files.put("/note.txt", b"after the full backup")?;
    files.put("/data/file-0002.bin", &noise(77, 3 << 20))?;
    files.check()?;
    stage.guest.write(1, 40 * MIB, &noise(78, 1 << 20))?;
    screen.end(&[format!(
        "{NAME}: a file of 3 MiB rewritten on the first disk, 1 MiB of blocks on the second"
    )]);
    Ok(())
}
