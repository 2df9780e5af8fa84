//! Restores of the older and the newer points, each compared with what the disks held then.

use anyhow::{Context as _, Result};
use hub_tests::api::Fields as _;
use hub_tests::datastore::FileSystem;
use hub_tests::judge::file_digest;
use serde_json::{Value, json};

use super::Stage;
use crate::ledger::{Ledger, disk_name, expect};
use crate::screen::Screen;
use crate::story::show;

/// What the disks hold, read from the vCenter's files without anything of ours.
pub(super) fn digests(stage: &Stage) -> Result<Vec<blake3::Hash>> {
    stage.guest.disks().iter().map(|it| file_digest(it)).collect()
}

/// Restores every point, and compares it with its source as it was.
pub(super) async fn restore(
    stage: &Stage,
    screen: &mut Screen,
    runs: [(&Vec<Value>, Vec<blake3::Hash>); 2],
    ledger: &mut Ledger,
) -> Result<()> {
    screen.begin("restore");
    let mut count = 0;
    let mut newest = None;
    for (points, digests) in runs {
        for (point, digest) in points.iter().zip(digests) {
            let body = json!({"backup_id": point.text("/backup_id")?, "format": "raw"});
            let done = stage.lab.api.run_with("/restores", &body, |job| show(screen, job)).await?;
            let path = done.text("/path")?;
            let found = file_digest(path.as_ref()).and_then(|found| expect(&found, &digest));
            ledger.prove(&disk_name(point)?, "restore", found);
            count += 1;
            if point.number("/disk_id")? == 0 {
                newest = Some((disk_name(point)?, path));
            }
        }
    }
    screen.end(&[format!("{count} points, old and new, by BLAKE3 what the disks held then")]);
    screen.begin("files");
    let (name, path) = newest.context("there are points")?;
    let files = FileSystem::of(path.as_ref());
    ledger.prove(&name, "e2fsck", files.check());
    let note = files.read("/note.txt").map(|it| String::from_utf8_lossy(&it).into_owned());
    let wanted = "after the full backup".to_owned();
    ledger.prove(&name, "files", note.and_then(|note| expect(&note, &wanted)));
    screen.end(&["e2fsck of the restored disk, and the file that was changed".to_owned()]);
    Ok(())
}
