//! Verification, restores and exports, each compared with the source by tools that are not ours.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use hub_tests::api::Fields as _;
use hub_tests::datastore::FileSystem;
use hub_tests::judge::{self, ExportInfo, Image};
use serde_json::{Value, json};

use super::Managed;
use super::protection::{show, source};
use crate::ledger::{Ledger, disk_name, expect};
use crate::screen::Screen;
use crate::stage::Stage;

/// The digests of the source's disks, by the name of the disk.
pub(super) type Digests = BTreeMap<String, blake3::Hash>;

/// Restore formats, one per disk in turn.
const FORMATS: [&str; 3] = ["raw", "qcow2", "vmdk"];

/// Reads every disk of the source with `nbdcopy`, without anything of ours.
pub(super) fn source_digests(
    stage: &Stage,
    screen: &mut Screen,
    step: &'static str,
) -> Result<Digests> {
    screen.begin(step);
    let mut digests = Digests::new();
    for vm in [&stage.pgtest1, &stage.web01] {
        for ordinal in 0..vm.disks().len() {
            let path = source(stage, vm.name(), u64::try_from(ordinal)?)?;
            let digest = Image::new(&path, "vmdk").digest()?;
            digests.insert(format!("{} disk {ordinal}", vm.name()), digest);
        }
    }
    screen.end(&["BLAKE3 of the source's disks, read by qemu-nbd and nbdcopy".to_owned()]);
    Ok(digests)
}

/// Checks every chain against its manifests.
pub(super) async fn verify(
    stage: &Stage,
    screen: &mut Screen,
    managed: &[Managed],
    ledger: &mut Ledger,
) -> Result<()> {
    screen.begin("verify");
    let (mut points, mut blocks) = (0, 0);
    for backup in latest(managed)? {
        let path = format!("/backups/{}/verify", backup.text("/backup_id")?);
        let body = json!({"scope": "chain"});
        let done = stage.api.run_with(&path, &body, |job| show(screen, job)).await?;
        for point in done.list("/points")? {
            points += 1;
            blocks += point.number("/blocks_checked")?;
        }
        ledger.prove(&disk_name(backup)?, "verify", expect(&done.flag("/good")?, &true));
    }
    screen.end(&[format!("{points} points, {blocks} blocks against their BLAKE3 digests")]);
    Ok(())
}

/// Restores the newest point of each disk, each to another format.
pub(super) async fn restore(
    stage: &Stage,
    screen: &mut Screen,
    managed: &[Managed],
    ledger: &mut Ledger,
) -> Result<()> {
    screen.begin("restore");
    let mut restored = Vec::new();
    for (backup, format) in latest(managed)?.into_iter().zip(FORMATS) {
        let body = json!({"backup_id": backup.text("/backup_id")?, "format": format});
        let done = stage.api.run_with("/restores", &body, |job| show(screen, job)).await?;
        restored.push((backup, format, done.text("/path")?));
    }
    screen.end(&["the newest point of each disk, to raw, qcow2 and VMDK".to_owned()]);
    screen.begin("judge restores");
    for (backup, format, path) in restored {
        let (name, path) = (disk_name(backup)?, Path::new(&path));
        let source = source(stage, &backup.text("/vm_name")?, backup.number("/disk_id")?)?;
        let image = Image::new(path, format);
        ledger.prove(&name, "restore", Image::new(&source, "vmdk").compare(image));
        if format == "raw" {
            let files = FileSystem::of(path);
            ledger.prove(&name, "e2fsck", files.check());
            let note = files.read("/note.txt").map(|it| String::from_utf8_lossy(&it).into_owned());
            let wanted = "after the full backup".to_owned();
            ledger.prove(&name, "files", note.and_then(|note| expect(&note, &wanted)));
        }
    }
    let line = "qemu-img compare with the source; e2fsck and a changed file of the raw one";
    screen.end(&[line.to_owned()]);
    Ok(())
}

/// Exports the older and the newer point of each disk read-only, and reads them with foreign clients.
pub(super) async fn export(
    stage: &Stage,
    screen: &mut Screen,
    managed: &[Managed],
    digests: [&Digests; 2],
    ledger: &mut Ledger,
) -> Result<()> {
    screen.begin("export");
    let mut count = 0;
    for vm in managed {
        for (run, digests) in vm.runs.iter().zip(digests) {
            for backup in run {
                read_export(stage, backup, digests, ledger).await?;
                count += 1;
            }
        }
    }
    screen
        .end(&[format!("{count} points, old and new, over NBD read-only, by nbdinfo and nbdcopy")]);
    Ok(())
}

async fn read_export(
    stage: &Stage,
    backup: &Value,
    digests: &Digests,
    ledger: &mut Ledger,
) -> Result<()> {
    let name = disk_name(backup)?;
    let body = json!({"backup_id": backup.text("/backup_id")?, "ttl_seconds": 600});
    let export = stage.api.post("/exports", &body).await?.ok()?;
    let uri = export.text("/nbd_uri")?;
    let expected = ExportInfo { size: backup.number("/capacity_bytes")?, read_only: true };
    let info = judge::export_info(&uri).and_then(|found| {
        anyhow::ensure!(found == expected, "nbdinfo shows {found:?}, not {expected:?}");
        Ok(())
    });
    ledger.prove(&name, "nbdinfo", info);
    let wanted = digests.get(&name).context("every disk of the source was digested")?;
    let same = judge::export_digest(&uri).and_then(|digest| expect(&digest, wanted));
    ledger.prove(&name, "BLAKE3", same);
    stage.api.delete(&format!("/exports/{}", export.text("/export_id")?)).await?.ok()?;
    Ok(())
}

/// The newest point of every disk.
fn latest(managed: &[Managed]) -> Result<Vec<&Value>> {
    let mut all = Vec::new();
    for vm in managed {
        all.extend(vm.runs.last().with_context(|| format!("{} has points", vm.name))?);
    }
    Ok(all)
}
