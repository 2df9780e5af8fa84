//! A damaged file of the repository, and what may never happen with it: that its bytes are served as good ones.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use hub_tests::api::Fields as _;
use hub_tests::tool;
use serde_json::{Value, json};

use crate::machine::Point;
use crate::work::Work;
use crate::world::World;

/// A chain of one disk: the full and the incremental over it.
pub(crate) struct Chain {
    /// The ordinal of the disk.
    pub(crate) disk: u64,
    /// The id of the newest point.
    pub(crate) tip: String,
    /// The newest point.
    pub(crate) point: Point,
    /// Image of the full.
    pub(crate) base_image: PathBuf,
    /// Image of the incremental.
    pub(crate) tip_image: PathBuf,
}

/// What the hub made of damage.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    /// The answer of the verification.
    pub(crate) verdict: Value,
}

impl World {
    /// The chains of the first VM, a full and an incremental each.
    pub(crate) async fn chains(&mut self) -> Result<Vec<Chain>> {
        let context = self.machine(0)?.context.clone();
        let mut chains = Vec::new();
        for backup in self.lab.api.all("/backups?status=succeeded").await? {
            let Some(parent) = backup.pointer("/parent_backup_id").and_then(Value::as_str) else {
                continue;
            };
            let (tip, of) = (backup.text("/backup_id")?, backup.text("/vm_context_id")?);
            if of != context {
                continue;
            }
            let image = |id: &str| -> Result<PathBuf> {
                let files = &self.points.get(id).context("it was judged")?.files;
                let image = files.keys().find(|it| it.extension().is_some_and(|it| it == "qcow2"));
                Ok(image.context("a point has an image")?.clone())
            };
            chains.push(Chain {
                disk: backup.number("/disk_id")?,
                point: self.points.get(&tip).context("it was judged")?.clone(),
                base_image: image(parent)?,
                tip_image: image(&tip)?,
                tip,
            });
        }
        ensure!(!chains.is_empty(), "the VM has chains");
        Ok(chains)
    }

    /// Verifies, restores and exports a point that stands on something damaged.
    ///
    /// Verification finds it and blames this disk; a restore and an export fail, or are right to the last byte.
    pub(crate) async fn is_found(&self, chain: &Chain) -> Result<Finding> {
        let path = format!("/backups/{}/verify", chain.tip);
        let job = self.lab.api.start(&path, &json!({"scope": "chain"})).await?;
        let verdict = self.lab.api.ended(&job, |_| ()).await?;
        let good = verdict.get("good").and_then(Value::as_bool);
        ensure!(good == Some(false), "verification does not find it: {verdict:#}");
        let blamed = verdict.number("/first_bad/disk_id")?;
        ensure!(
            blamed == chain.disk,
            "it blames disk {blamed} and not {}: {verdict:#}",
            chain.disk
        );
        self.is_not_served(chain).await?;
        Ok(Finding { verdict })
    }

    /// A restore and an export fail, or are right to the last byte.
    pub(crate) async fn is_not_served(&self, chain: &Chain) -> Result<()> {
        let body = json!({"backup_id": chain.tip, "format": "raw", "file_name": "damaged.raw"});
        let job = self.lab.api.start("/restores", &body).await?;
        let job = self.lab.api.ended(&job, |_| ()).await?;
        let restored = self.restores().join("damaged.raw");
        if job.text("/status")? == "succeeded" {
            let right = chain.point.content.check(&restored);
            right.context("a restore of damaged files succeeded with wrong bytes")?;
            fs::remove_file(&restored)?;
        } else {
            job.text("/error/code")?;
            ensure!(!restored.exists(), "a failed restore left its file: {job:#}");
        }
        let offered = self.lab.api.post("/exports", &json!({"backup_id": chain.tip})).await?;
        if offered.status >= 300 {
            ensure!(!offered.code().is_empty(), "a refused export says why: {offered:?}");
            return Ok(());
        }
        let offered = offered.ok()?;
        let copy = self.lab.folder().join("exported.raw");
        let target = copy.display().to_string();
        let copied = tool::run("nbdcopy", &[offered.text("/nbd_uri")?.as_str(), &target]);
        self.lab.api.delete(&format!("/exports/{}", offered.text("/export_id")?)).await?.ok()?;
        if copied.is_ok() {
            let right = chain.point.content.check(&copy);
            right.context("an export of damaged files served wrong bytes")?;
        }
        if copy.exists() {
            fs::remove_file(&copy)?;
        }
        Ok(())
    }

    /// A VM that has lost its chain is backed up all the same.
    pub(crate) async fn goes_on(&mut self) -> Result<()> {
        self.must(Work::Incremental, 0).await
    }
}

/// Gives a file other bytes, under the name and in the place that it has.
pub(crate) fn overwrite(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = fs::File::options().write(true).truncate(true).open(path)?;
    file.write_all(bytes).with_context(|| path.display().to_string())
}
