//! A VM under management and its repository, as most faults want them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use hub_tests::api::Fields as _;
use hub_tests::datastore::{Content, DiskSpec, Subformat, VirtualMachine, VmSpec};
use hub_tests::judge::{Image, file_digest};
use hub_tests::lab::Lab;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// How often a condition is looked at.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How long a condition may take to come true; generous, because test machines are busy.
pub(super) const PATIENCE: Duration = Duration::from_secs(180);

/// What has to be written of an image before its copy counts as under way.
const UNDER_WAY: u64 = 8 << 20;

pub(super) const MIB: u64 = 1 << 20;

/// Bytes per second of a copy that is to be frozen: a large disk takes five seconds, in which a busy machine comes to
/// freeze it.
const WHILE_LOOKED_AT: u64 = 32 * MIB;

/// A VM under management, whose backups go to one repository.
pub(super) struct Protected {
    pub(super) vm: VirtualMachine,
    pub(super) context_id: String,
    /// The repository's id.
    pub(super) repository: String,
    /// The repository's directory.
    pub(super) root: PathBuf,
}

impl Protected {
    /// Makes a VM and puts it under management; its backups go to the hub's first repository.
    pub(super) async fn new(lab: &Lab, spec: &VmSpec) -> Result<Self> {
        let repositories = lab.api.all("/repositories").await?;
        let first = repositories.first().context("a new hub has a repository")?;
        let (id, root) = (first.text("/id")?, PathBuf::from(first.text("/path")?));
        Self::in_repository(lab, spec, id, root).await
    }

    /// The same with a repository of one's own.
    pub(super) async fn in_repository(
        lab: &Lab,
        spec: &VmSpec,
        repository: String,
        root: PathBuf,
    ) -> Result<Self> {
        let vm = lab.datastore.add_vm(spec)?;
        let context = lab.add(&[&spec.name]).await?.pop().context("one VM was added")?;
        Ok(Self { vm, context_id: context.text("/context_id")?, repository, root })
    }

    /// The request for a backup of all disks.
    pub(super) fn request(&self, backup_type: &str) -> Value {
        json!({
            "vm_context_id": self.context_id,
            "backup_type": backup_type,
            "repository_id": self.repository,
        })
    }

    /// Starts a backup of all disks and answers its path, without waiting for it.
    pub(super) async fn start(&self, lab: &Lab, backup_type: &str) -> Result<String> {
        lab.api.start("/backups", &self.request(backup_type)).await
    }

    /// Backs all disks up, and judges every image by the newest state of its disk.
    pub(super) async fn back_up(&self, lab: &Lab, backup_type: &str) -> Result<Vec<Value>> {
        let run = lab.api.run("/backups", &self.request(backup_type)).await?;
        let backups = run.list("/backups")?;
        ensure!(backups.len() == self.vm.disks().len(), "one backup per disk: {run:#}");
        for (backup, disk) in backups.iter().zip(self.vm.disks()) {
            self.judge(backup, Image::new(&disk.top(), "vmdk"))?;
        }
        Ok(backups)
    }

    /// Fails unless the image of a point is sound and equal to its source, by tools that are not ours.
    pub(super) fn judge(&self, backup: &Value, source: Image<'_>) -> Result<()> {
        ensure!(backup.flag("/proof/agrees")?, "both ends agree: {backup:#}");
        let path = self.image(backup)?;
        let image = Image::new(&path, "qcow2");
        image.check()?;
        let size = image.virtual_size()?;
        ensure!(size == backup.number("/capacity_bytes")?, "{size} bytes: {backup:#}");
        source.compare(image)
    }

    /// The image of a backup.
    pub(super) fn image(&self, backup: &Value) -> Result<PathBuf> {
        Ok(self.root.join(backup.text("/repository_path")?))
    }

    /// Every file of the repository with its digest.
    pub(super) fn files(&self) -> Result<BTreeMap<PathBuf, blake3::Hash>> {
        let mut digests = BTreeMap::new();
        for path in files_below(&self.root)? {
            let digest = file_digest(&path)?;
            digests.insert(path, digest);
        }
        Ok(digests)
    }

    /// Every file of the repository by its name.
    pub(super) fn names(&self) -> Result<BTreeSet<PathBuf>> {
        Ok(files_below(&self.root)?.into_iter().collect())
    }

    /// Fails unless the repository holds exactly these files, bit by bit.
    pub(super) fn unchanged_since(&self, before: &BTreeMap<PathBuf, blake3::Hash>) -> Result<()> {
        let now = self.files()?;
        let names = |files: &BTreeMap<PathBuf, _>| files.keys().cloned().collect::<Vec<_>>();
        ensure!(names(&now) == names(before), "had {:#?}, has {:#?}", names(before), names(&now));
        ensure!(&now == before, "a file has other bytes than before: {now:#?} {before:#?}");
        Ok(())
    }

    /// Waits until a part of an image is written, which is when a copy is in its middle.
    pub(super) async fn is_mid_copy(&self) -> Result<()> {
        is_written_below(&self.root, ".qcow2.partial").await
    }

    /// Starts a backup and freezes the VMA in the middle of its copy; answers the run's path.
    pub(super) async fn freeze_mid_copy(&self, lab: &Lab, backup_type: &str) -> Result<String> {
        let mut request = self.request(backup_type);
        request["max_bytes_per_second"] = json!(WHILE_LOOKED_AT);
        let run = lab.api.start("/backups", &request).await?;
        self.is_mid_copy().await?;
        lab.vma.program.signal("STOP")?;
        let status = lab.api.get(&run).await?.ok()?.text("/status")?;
        ensure!(status == "running", "the copy was {status} before the VMA froze");
        Ok(run)
    }

    /// Verifies a point and all that it stands on, which must be good.
    pub(super) async fn verify(&self, lab: &Lab, backup: &Value) -> Result<()> {
        let path = format!("/backups/{}/verify", backup.text("/backup_id")?);
        let verified = lab.api.run(&path, &json!({"scope": "chain"})).await?;
        ensure!(verified.flag("/good")?, "the chain is good: {verified:#}");
        Ok(())
    }
}

/// The ends of the backups of a run, each as `status code`.
pub(super) fn ends(run: &Value) -> Result<Vec<String>> {
    let end = |backup: &Value| {
        let code = backup.pointer("/error/code").and_then(Value::as_str).unwrap_or_default();
        Ok(format!("{} {code}", backup.text("/status")?).trim_end().to_owned())
    };
    run.list("/backups")?.iter().map(end).collect()
}

/// Fails unless every backup of a run failed with this code, and said what to do.
pub(super) fn failed_with(run: &Value, code: &str) -> Result<()> {
    let expected = format!("failed {code}");
    ensure!(ends(run)?.iter().all(|end| *end == expected), "expected `{expected}`: {run:#}");
    ensure!(!run.list("/backups")?.is_empty(), "a run has backups: {run:#}");
    for backup in run.list("/backups")? {
        ensure!(!backup.text("/error/detail")?.is_empty(), "it says what to do: {backup:#}");
        ensure!(backup.is_null_at("/proof"), "it proves nothing: {backup:#}");
    }
    Ok(())
}

/// Waits until a file with this end of its name is written in part.
pub(super) async fn is_written_below(directory: &Path, suffix: &str) -> Result<()> {
    let written = || -> Result<u64> {
        let mut files = files_below(directory)?;
        files.retain(|path| path.display().to_string().ends_with(suffix));
        // A file may go between being listed and being looked at.
        let sizes = files.iter().filter_map(|it| fs::metadata(it).ok()).map(|it| it.blocks() * 512);
        Ok(sizes.max().unwrap_or(0))
    };
    becomes_true("a file is half written", || Ok(written()? >= UNDER_WAY)).await
}

/// Waits for a condition; an error says which one did not come true.
pub(super) async fn becomes_true(
    what: &str,
    mut is_true: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_true()? {
        if Instant::now() >= deadline {
            bail!("it did not come true that {what}");
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// All files below a directory, in order; none while it does not exist.
pub(super) fn files_below(directory: &Path) -> Result<Vec<PathBuf>> {
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

/// A small disk with data at both ends.
pub(super) fn small_disk(seed: u64) -> DiskSpec {
    let capacity = 8 * MIB;
    let areas = vec![0..MIB, capacity - 70_144..capacity];
    disk(capacity, Subformat::MonolithicSparse, seed, areas)
}

/// A disk full of noise, whose copy takes long enough to be interrupted.
pub(super) fn large_disk(seed: u64) -> DiskSpec {
    let capacity = 160 * MIB;
    let areas = vec![0..capacity / 2, capacity / 2..capacity];
    disk(capacity, Subformat::MonolithicFlat, seed, areas)
}

pub(super) fn disk(
    capacity: u64,
    subformat: Subformat,
    seed: u64,
    areas: Vec<std::ops::Range<u64>>,
) -> DiskSpec {
    DiskSpec { capacity, subformat, content: Content::Noise { seed, areas } }
}
