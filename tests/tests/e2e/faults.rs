//! Bad input and faults: what is refused and why, and what stands after something was killed, filled or flipped.

mod broken_copy;
mod broken_replication;
mod broken_restore;
mod cancelling;
mod changes;
mod compression;
mod cut_network;
mod deep_chain;
mod deleting;
mod disk_ids;
mod flipped_bit;
mod full_repository;
mod grown_disk;
mod hub_killed;
mod limits;
mod names;
mod protected;
mod requests;
mod running_vm;
mod strange_vma;
mod twice;

use anyhow::{Result, ensure};
use hub_testkit::database::DatabaseKind;
use hub_tests::lab::Lab;

/// Plays a part in a lab whose VMA is registered; of warnings and errors, only lines with `expected` may be logged.
async fn play(expected: &[&str], part: impl AsyncFnOnce(&mut Lab) -> Result<()>) -> Result<()> {
    let whole = async |lab: &mut Lab| {
        lab.register().await?;
        part(lab).await?;
        logged_only(lab, expected)
    };
    Lab::play(DatabaseKind::Sqlite, whole).await
}

/// Fails when a process logged a warning or an error that holds none of the expected texts.
fn logged_only(lab: &Lab, expected: &[&str]) -> Result<()> {
    for program in [&lab.hub.program, &lab.vma.program] {
        let mut lines = program.loud()?;
        lines.retain(|line| !expected.iter().any(|it| line.contains(it)));
        ensure!(lines.is_empty(), "logged though nobody expects it:\n{}", lines.join("\n"));
    }
    Ok(())
}
