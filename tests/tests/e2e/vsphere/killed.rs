//! Promise P3: killed with a snapshot open, VMA and hub leave none behind once they are back.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use hub_tests::api::Fields as _;
use hub_tests::vsphere::{Account, VsphereLab, until};
use hub_vsphere_peer::DiskLibrary;

use super::MIB;

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

/// Fails unless the snapshot of the killed job is there and owed.
fn one_is_owed(lab: &VsphereLab) -> Result<()> {
    ensure!(lab.peer.snapshots()?.len() == 1, "{:?}", lab.peer.snapshots()?);
    ensure!(lab.owed()? == 1, "it is written down");
    Ok(())
}

/// The same, and the second client sees it, too.
fn one_is_left(lab: &VsphereLab) -> Result<()> {
    one_is_owed(lab)?;
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
        // The hub waits half a minute for its VMA, in which a busy machine does not start a second client.
        one_is_owed(lab)?;
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

/// Settings of a VMA that reads through this library, with a directory of its own for what it keeps for a while.
fn vddk(library: &DiskLibrary, temporary: &Path) -> Vec<(String, String)> {
    let text = |it: &Path| it.display().to_string();
    let all = [
        ("VMA__SOURCE__VDDK__LIBDIR", text(library.directory())),
        ("VMA__SOURCE__VDDK__PLUGIN", text(library.plugin())),
        ("VMA__SOURCE__VDDK__THUMBPRINT", ["01"; 20].join(":")),
        ("TMPDIR", text(temporary)),
    ];
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Processes that read through a library.
fn readers(library: &DiskLibrary) -> Result<usize> {
    let told = format!("libdir={}", library.directory().display());
    let all = fs::read_dir("/proc")?.flatten();
    let arguments = all.filter_map(|it| fs::read(it.path().join("cmdline")).ok());
    Ok(arguments.filter(|it| String::from_utf8_lossy(it).contains(&told)).count())
}

/// Every file below a directory.
fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory)? {
        let (path, kind) = entry.map(|it| (it.path(), it.file_type()))?;
        match kind? {
            it if it.is_dir() => all.extend(files(&path)?),
            it if it.is_file() => all.push(path),
            _ => (),
        }
    }
    Ok(all)
}

#[tokio::test]
async fn p3_a_vma_killed_while_vddk_logs_in_leaves_no_password_and_no_reader() {
    let Some(library) = DiskLibrary::make().unwrap() else { return };
    let part = async |lab: &mut VsphereLab| {
        library.script(&["hang connect".to_owned()])?;
        let temporary = tempfile::tempdir()?;
        lab.vma.restart_once_with(&vddk(&library, temporary.path())).await?;
        let (guest, context) = lab.manage("payroll", &[2 * MIB]).await?;
        let run = lab.start_backup(&context, "full").await?;
        let logs_in = || Ok(library.calls()?.iter().any(|it| it.starts_with("connect ")));
        until("VDDK logs in", logs_in).await?;
        lab.vma.program.kill()?;
        let password = lab.peer.password().as_bytes();
        let left = [files(temporary.path())?, files(&lab.folder().join("vma"))?].concat();
        ensure!(left.len() > 2, "the VMA has files: {left:?}");
        for file in left {
            let holds = fs::read(&file)?.windows(password.len()).any(|it| it == password);
            ensure!(!holds, "{} holds the password", file.display());
        }
        // It has been told to end, and does so when its login does, one way or the other.
        library.script(&[])?;
        until("its reader has ended", || Ok(readers(&library)? == 0)).await?;
        lab.vma.restart().await?;
        lab.api.ended(&run, |_| ()).await?;
        lab.nothing_is_left().await?;
        lab.back_up(&guest, &context, "full").await.map(drop)
    };
    play(Account::OfHub, EXPECTED, part).await.unwrap();
}
