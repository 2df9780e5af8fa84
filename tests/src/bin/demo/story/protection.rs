//! Replication and backups: the same disk rows, plain images, and what each copy cost.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use hub_tests::api::Fields as _;
use hub_tests::judge::Image;
use serde_json::{Value, json};

use super::{Managed, inventory};
use crate::ledger::{Ledger, disk_name, expect};
use crate::screen::{Screen, bytes};
use crate::stage::Stage;

/// Replicates pgtest1 and shows that its disk rows are the same ones.
pub(super) async fn replicate(
    stage: &Stage,
    screen: &mut Screen,
    managed: &[Managed],
    ledger: &mut Ledger,
) -> Result<()> {
    screen.begin("replicate");
    let vm = managed.first().context("pgtest1 is managed")?;
    let body = json!({"vm_name": vm.name, "replication_type": "initial", "format": "raw"});
    let job = stage.api.run_with("/replications", &body, |job| show(screen, job)).await?;
    let rows = stage.api.all(&format!("/vm-contexts/{}/disks", vm.context_id)).await?;
    ensure!(rows.len() == vm.rows.len(), "a row was added or lost: {rows:#?}");
    for (row, known) in rows.iter().zip(&vm.rows) {
        let same = row.number("/id")? == known.number("/id")?;
        ensure!(same && row.text("/job_id")? == job.text("/id")?, "not linked: {row:#}");
    }
    let sent = job.number("/bytes/sent")?;
    screen.end(&[
        format!("{} sent to the replica of {}; the same rows, now linked:", bytes(sent), vm.name),
        inventory::described(&rows)?,
    ]);
    for disk in job.list("/disks")? {
        let ordinal = disk.number("/disk_id")?;
        let replica = stage.hub.replica(&disk.text("/replica_path")?);
        let source = source(stage, &vm.name, ordinal)?;
        let same = Image::new(&source, "vmdk").compare(Image::new(&replica, "raw"));
        ledger.prove(&format!("{} disk {ordinal}", vm.name), "replica", same);
    }
    Ok(())
}

/// Backs up all disks of both VMs at once, and has each image judged.
pub(super) async fn back_up(
    stage: &Stage,
    screen: &mut Screen,
    managed: &mut [Managed],
    kind: &'static str,
    ledger: &mut Ledger,
) -> Result<()> {
    screen.begin(kind);
    let repository = repository(stage).await?;
    let mut started = Vec::new();
    for vm in managed.iter() {
        let body = json!({
            "vm_name": vm.name, "backup_type": kind, "repository_id": repository.text("/id")?,
        });
        started.push(stage.api.start("/backup/start", &body).await?);
    }
    let (mut lines, mut points) = (Vec::new(), Vec::new());
    for (vm, location) in managed.iter_mut().zip(started) {
        let run = stage.api.ended(&location, |run| show(screen, run)).await?;
        if run.text("/status")? != "succeeded" {
            bail!("the {kind} backup of {} ended badly: {run:#}", vm.name);
        }
        let backups = run.list("/backups")?;
        let sent = run.number("/bytes/sent")?;
        let count = match backups.len() {
            1 => "1 disk".to_owned(),
            count => format!("{count} disks at one instant"),
        };
        lines.push(format!("{}: {count}, {} sent", vm.name, bytes(sent)));
        points.extend(backups.iter().cloned());
        vm.runs.push(backups);
    }
    screen.end(&[lines.join("; ")]);
    screen.begin(if kind == "full" { "judge" } else { "judge again" });
    for backup in &points {
        ledger.point(backup)?;
        judge(stage, &repository, backup, ledger)?;
    }
    screen.end(&[format!("{} images: qemu-img check, and compare with the source", points.len())]);
    Ok(())
}

/// Asks `qemu-img` about the image of one point, straight from the repository.
fn judge(stage: &Stage, repository: &Value, backup: &Value, ledger: &mut Ledger) -> Result<()> {
    let path = Path::new(&repository.text("/path")?).join(backup.text("/repository_path")?);
    let image = Image::new(&path, "qcow2");
    let name = disk_name(backup)?;
    let capacity = backup.number("/capacity_bytes")?;
    ledger.prove(&name, "size", image.virtual_size().and_then(|size| expect(&size, &capacity)));
    ledger.prove(&name, "check", image.check());
    let source = source(stage, &backup.text("/vm_name")?, backup.number("/disk_id")?)?;
    ledger.prove(&name, "= source", Image::new(&source, "vmdk").compare(image));
    Ok(())
}

/// Changes files and blocks of both VMs.
pub(super) fn change(stage: &mut Stage, screen: &mut Screen) -> Result<()> {
    screen.begin("change");
    stage.change()?;
    screen.end(&[
        "pgtest1: files rewritten on both disks, 2 MiB of blocks overwritten on the second"
            .to_owned(),
        "web01: a second snapshot, then more writes that no snapshot holds".to_owned(),
    ]);
    Ok(())
}

/// Shows the chain of each disk.
pub(super) async fn chains(stage: &Stage, screen: &mut Screen, managed: &[Managed]) -> Result<()> {
    screen.begin("chains");
    let mut lines = Vec::new();
    for vm in managed {
        for ordinal in 0..vm.rows.len() {
            let path = format!("/backup/chain?vm_name={}&disk_id={ordinal}", vm.name);
            let answer = stage.api.get(&path).await?.ok()?;
            let chains = answer.list("/chains")?;
            let [chain] = chains.as_slice() else {
                bail!("one repository, one chain: {answer:#}");
            };
            let (count, stored) = (chain.number("/count")?, chain.number("/stored_bytes")?);
            ensure!(count == 2, "a full and an incremental: {chain:#}");
            lines.push(format!("{} disk {ordinal}: {count} points in {}", vm.name, bytes(stored)));
        }
    }
    screen.end(&lines);
    Ok(())
}

/// The one repository that a new hub has.
pub(super) async fn repository(stage: &Stage) -> Result<Value> {
    let all = stage.api.all("/repositories").await?;
    all.into_iter().next().context("a new hub has a repository")
}

/// The file that a disk is read from: its newest layer, or below it when the VM runs.
pub(super) fn source(stage: &Stage, name: &str, ordinal: u64) -> Result<PathBuf> {
    let disk = stage.vm(name).disk(usize::try_from(ordinal)?)?;
    if name == "web01" { disk.frozen().context("web01 has a snapshot") } else { Ok(disk.top()) }
}

/// Moves the bar.
pub(crate) fn show(screen: &Screen, job: &Value) {
    let count = |pointer| job.pointer(pointer).and_then(Value::as_u64);
    let done = count("/bytes/done").or_else(|| count("/bytes_done"));
    let total = count("/bytes/total").or_else(|| count("/bytes_total"));
    if let (Some(done), Some(total)) = (done, total) {
        screen.progress(done, total);
    }
}
