//! A backup that is held in the middle of its copy, with its snapshot open.

use anyhow::{Result, ensure};
use hub_testkit::database::DatabaseKind;
use hub_tests::api::Fields as _;
use hub_tests::datastore::noise;
use hub_tests::vsphere::{Account, Guest, VsphereLab};
use hub_vsphere_peer::Trouble;
use serde_json::{Value, json};

use super::MIB;

/// Reads of the datastore that pass before the others are held.
const PASSED: u32 = 3;

/// A VM under management, and the run that is held.
pub(super) struct HeldBackup {
    pub(super) guest: Guest,
    pub(super) context: Value,
    /// The run's path.
    pub(super) run: String,
}

impl HeldBackup {
    /// Starts a full backup of two disks, and waits until its snapshot is there and a part was read.
    ///
    /// Both are larger than all reads that are under way at a time, so that neither ends with those that are held.
    pub(super) async fn start(lab: &VsphereLab) -> Result<Self> {
        let (guest, context) = lab.manage("payroll", &[24 * MIB, 18 * MIB]).await?;
        guest.write(0, MIB, &noise(1, 20 << 20))?;
        guest.write(1, MIB, &noise(2, 16 << 20))?;
        let reads = Trouble { skip: PASSED, times: 0, ..Trouble::once("folder", "hold", "") };
        lab.peer.trouble(&reads)?;
        let run = lab.start_backup(&context, "full").await?;
        lab.is_called("folder", PASSED.into()).await?;
        ensure!(lab.peer.snapshots()?.len() == 1, "one snapshot: {:?}", lab.peer.snapshots()?);
        Ok(Self { guest, context, run })
    }

    /// Waits for the end of the run.
    pub(super) async fn ended(&self, lab: &VsphereLab) -> Result<Value> {
        lab.api.ended(&self.run, |_| ()).await
    }

    /// Stops the run, and waits for its end.
    pub(super) async fn cancelled(&self, lab: &VsphereLab) -> Result<Value> {
        lab.api.post(&format!("{}/cancel", self.run), &json!({})).await?.ok()?;
        self.ended(lab).await
    }

    /// Fails unless the run succeeds.
    pub(super) async fn succeeds(&self, lab: &VsphereLab) -> Result<Value> {
        let run = self.ended(lab).await?;
        ensure!(run.text("/status")? == "succeeded", "{run:#}");
        Ok(run)
    }

    /// Fails unless every backup of the run failed with this code, and nothing of it stays in the repository.
    pub(super) async fn fails(&self, lab: &VsphereLab, code: &str) -> Result<()> {
        let run = self.ended(lab).await?;
        failed(&run, code)?;
        lab.nothing_is_left().await?;
        let points = lab.api.all("/backups?status=succeeded").await?;
        ensure!(points.is_empty(), "no point: {points:#?}");
        Ok(())
    }

    /// A full backup that succeeds and is judged: what happened has no consequences.
    pub(super) async fn the_next_one_succeeds(&self, lab: &VsphereLab) -> Result<()> {
        lab.nothing_is_left().await?;
        lab.back_up(&self.guest, &self.context, "full").await.map(drop)
    }
}

/// Fails unless every backup of a run failed with this code, and said what to do.
pub(super) fn failed(run: &Value, code: &str) -> Result<()> {
    let backups = run.list("/backups")?;
    ensure!(!backups.is_empty(), "a run has backups: {run:#}");
    for backup in backups {
        ensure!(backup.text("/status")? == "failed", "{run:#}");
        ensure!(backup.text("/error/code")? == code, "expected {code}: {run:#}");
        ensure!(!backup.text("/error/detail")?.is_empty(), "{run:#}");
    }
    Ok(())
}

/// Plays a part on SQLite; of warnings and errors, only lines with `expected` may be logged.
pub(super) async fn play(
    account: Account,
    expected: &[&str],
    part: impl AsyncFnOnce(&mut VsphereLab) -> Result<()>,
) -> Result<()> {
    let whole = async |lab: &mut VsphereLab| {
        part(lab).await?;
        lab.logged_only(expected)
    };
    VsphereLab::play(DatabaseKind::Sqlite, account, whole).await
}
