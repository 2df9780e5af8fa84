//! What must hold after every injection.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use hub_tests::api::Fields as _;
use hub_tests::judge::{Image, file_digest};
use hub_tests::tool;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::content::Content;
use crate::machine::Point;
use crate::world::World;

/// How long jobs may take to come to an end by themselves; generous, because machines are busy.
pub(crate) const ENDS_WITHIN: Duration = Duration::from_secs(180);

/// How often a job is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(30);

/// The lists of jobs.
const JOBS: [&str; 4] = ["/backups", "/replications", "/restores", "/verifications"];

impl World {
    /// Waits until every job has ended with a name, then compares what there is with what is known.
    pub(crate) async fn judge(&mut self) -> Result<()> {
        self.settle().await?;
        self.judge_points().await?;
        self.judge_restores().await?;
        self.judge_replicas()
    }

    /// Every job ends, and one that did not succeed says why.
    pub(crate) async fn settle(&self) -> Result<()> {
        let deadline = Instant::now() + ENDS_WITHIN;
        for list in JOBS {
            loop {
                let jobs = self.lab.api.all(list).await?;
                let mut open = Vec::new();
                for job in &jobs {
                    match job.text("/status")?.as_str() {
                        "succeeded" | "cancelled" => (),
                        "failed" | "interrupted" => {
                            let code = job.pointer("/error/code").and_then(Value::as_str);
                            let named = code.is_some_and(|code| !code.is_empty());
                            ensure!(named, "a job of {list} ended without a reason: {job:#}");
                        }
                        _ => open.push(job.to_string()),
                    }
                }
                if open.is_empty() {
                    break;
                }
                ensure!(Instant::now() < deadline, "jobs of {list} do not end: {open:#?}");
                sleep(LOOK_EVERY).await;
            }
        }
        Ok(())
    }

    /// Earlier points are bit-identical, new ones hold what their disk held, and there is no other file.
    async fn judge_points(&mut self) -> Result<()> {
        let listed = self.lab.api.all("/backups?status=succeeded").await?;
        let mut seen = BTreeSet::new();
        let (mut expected, mut leaving) = (BTreeSet::new(), BTreeSet::new());
        self.deleting.clear();
        // A chain is judged from its beginning, so that the first bad point is the one that is blamed.
        for backup in &listed {
            let id = backup.text("/backup_id")?;
            let image = self.root.join(backup.text("/repository_path")?);
            let files = [image.with_extension("manifest"), image.clone()];
            if backup.pointer("/deleting_since").is_some_and(Value::is_string) {
                // It is no point any more; what is left of its files goes when it is deleted again.
                ensure!(self.leaving.contains(&id), "nobody has asked to delete {id}");
                leaving.extend(files);
                self.deleting.insert(id, backup.text("/vm_context_id")?);
                continue;
            }
            expected.extend(files.clone());
            match self.points.get(&id) {
                Some(known) => known.unchanged(&id)?,
                None => {
                    let point = self.new_point(backup, &image, &files)?;
                    self.points.insert(id.clone(), point);
                }
            }
            seen.insert(id);
        }
        for id in self.points.keys() {
            let gone = !seen.contains(id);
            ensure!(
                !gone || self.leaving.contains(id),
                "the point {id} is gone from the catalogue"
            );
        }
        self.points.retain(|id, _| seen.contains(id));
        let found: BTreeSet<_> = files_below(&self.root)?.into_iter().collect();
        let orphans: Vec<_> =
            found.difference(&expected).filter(|file| !leaving.contains(*file)).collect();
        ensure!(orphans.is_empty(), "files that belong to no point: {orphans:#?}");
        let missing: Vec<_> = expected.difference(&found).collect();
        ensure!(missing.is_empty(), "files of points that are missing: {missing:#?}");
        Ok(())
    }

    fn new_point(&self, backup: &Value, image: &Path, files: &[PathBuf]) -> Result<Point> {
        let context = backup.text("/vm_context_id")?;
        let content = self.content(&context, backup.number("/disk_id")?)?;
        ensure!(backup.flag("/proof/agrees")?, "both ends agree: {backup:#}");
        Image::new(image, "qcow2").check()?;
        self.check_image(image, "qcow2", &content)
            .with_context(|| format!("a new point is wrong: {backup:#}"))?;
        let parent = backup.pointer("/parent_backup_id").and_then(Value::as_str).map(str::to_owned);
        Ok(Point { content, files: digests(files)?, parent, context })
    }

    /// Reads an image with a tool that is not ours and compares every block with the oracle.
    pub(crate) fn check_image(&self, image: &Path, format: &str, content: &Content) -> Result<()> {
        if format == "raw" {
            return content.check(image);
        }
        let place = tempfile::tempdir_in(self.lab.folder())?;
        let raw = place.path().join("disk.raw");
        let (from, to) = (image.display().to_string(), raw.display().to_string());
        tool::run("qemu-img", &["convert", "-f", format, "-O", "raw", &from, &to])?;
        content.check(&raw)
    }

    /// A file under the name of a restore is the whole point, and there is no other; judged files are removed.
    async fn judge_restores(&mut self) -> Result<()> {
        let directory = self.restores();
        let mut expected = BTreeSet::new();
        for restore in self.lab.api.all("/restores").await? {
            let named = directory.join(restore.text("/file_name")?);
            let format = restore.text("/format")?;
            if !named.exists() {
                continue;
            }
            // A hub that died after the files had their names leaves a whole restore that no job claims.
            ensure!(restore.text("/status")? != "failed", "a failed restore left {named:?}");
            expected.insert(named.clone());
            if format == "vmdk" {
                let stem =
                    named.file_stem().context("it has a name")?.to_string_lossy().into_owned();
                expected.insert(named.with_file_name(format!("{stem}-flat.vmdk")));
            }
            // The point that it was made from may have been deleted since.
            if let Some(point) = self.points.get(&restore.text("/backup_id")?) {
                self.check_image(&named, &format, &point.content)
                    .with_context(|| format!("a restore is wrong: {restore:#}"))?;
            }
        }
        for file in files_below(&directory)? {
            ensure!(expected.contains(&file), "a restore left {}", file.display());
            fs::remove_file(&file)?;
        }
        Ok(())
    }

    /// A replica whose manifest is there holds what its disk held when that was written.
    fn judge_replicas(&mut self) -> Result<()> {
        let files = files_below(&self.replica_dir())?;
        for manifest in files.iter().filter(|it| it.extension().is_some_and(|it| it == "manifest"))
        {
            let image = manifest.with_extension("");
            let digest = file_digest(manifest)?;
            let known = self.replicas.get(&image).filter(|(seen, _)| *seen == digest);
            let content = match known {
                Some((_, content)) => content.clone(),
                None => self.replicated(&image)?,
            };
            let format = image.extension().unwrap_or_default().to_string_lossy().into_owned();
            if format == "qcow2" {
                Image::new(&image, "qcow2").check()?;
            }
            self.check_image(&image, &format, &content).context("a replica is wrong")?;
            self.replicas.insert(image, (digest, content));
        }
        for file in &files {
            let partial = file.extension().is_some_and(|it| it == "partial");
            ensure!(!partial, "a replication left {}", file.display());
        }
        Ok(())
    }

    /// What the disk of a replica holds: its directory names the VM, and its file the row of the disk.
    fn replicated(&self, image: &Path) -> Result<Content> {
        let name = |path: Option<&OsStr>| path.unwrap_or_default().to_string_lossy().into_owned();
        let context = name(image.parent().and_then(Path::file_name));
        let stem = name(image.file_stem());
        let row = stem.strip_prefix("disk-").context("its name has the row of its disk")?;
        let machine = self.machines.iter().find(|it| it.context == context);
        let rows = &machine.context("a replica of a VM that nobody made")?.rows;
        let ordinal = rows.get(row).context("a replica of a disk that nobody made")?;
        self.content(&context, *ordinal)
    }
}

impl Point {
    /// Fails unless its files are what they were.
    fn unchanged(&self, id: &str) -> Result<()> {
        let now: Vec<_> = self.files.keys().cloned().collect();
        let now = digests(&now).with_context(|| format!("the earlier point {id}"))?;
        for (path, digest) in &self.files {
            if now.get(path) != Some(digest) {
                bail!("the earlier point {id} has changed: {}", path.display());
            }
        }
        Ok(())
    }
}

fn digests(files: &[PathBuf]) -> Result<BTreeMap<PathBuf, blake3::Hash>> {
    files.iter().map(|path| Ok((path.clone(), file_digest(path)?))).collect()
}

/// All files below a directory; none while it does not exist.
pub(crate) fn files_below(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut ahead = vec![directory.to_owned()];
    while let Some(directory) = ahead.pop() {
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            entries => entries.with_context(|| directory.display().to_string())?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                ahead.push(entry.path());
            } else {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}
