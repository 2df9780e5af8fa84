//! A hub that starts after the cut, and what it may find.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use hub_backup_storage::{HubStorage, HubStorageOptions};
use hub_block::BlockDevice;
use hub_data_mover::{Digest, Manifest};
use hub_domain::ids::RepositoryId;
use hub_domain::replication::ReplicaFormat;
use hub_domain::repository::{Repository, RepositoryKind};
use hub_domain::time::Timestamp;
use hub_nbd::Exports;
use hub_ports::{BackupStorage, NoProgress, PointLocation};
use hub_qcow2::{ImageReader, InsideDirectory, OpenError, check_image};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::super::fixture::{image_path, point_id, run};
use super::story::{Files, Story};

/// A hub that starts after the cut.
pub(super) struct Survivor {
    storage: HubStorage,
    repository: Repository,
    pub(super) folder: tempfile::TempDir,
}

impl Survivor {
    pub(super) fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        // Repositories and settings name directories that were there before anything happened.
        std::fs::create_dir(folder.path().join("repository"))?;
        let options = HubStorageOptions {
            checkpoint_every: std::time::Duration::from_secs(3600),
            nbd_advertise_host: "127.0.0.1".to_owned(),
            nbd_port: 1,
            nbd_tls: None,
            replica_dir: folder.path().join("replicas"),
            restore_dir: folder.path().join("restores"),
        };
        let repository = Repository {
            id: RepositoryId::from_uuid(Uuid::from_u128(2)),
            name: "default".to_owned(),
            kind: RepositoryKind::Local,
            path: folder.path().join("repository").display().to_string(),
            settings: Default::default(),
            created_at: Timestamp::UNIX_EPOCH,
        };
        Ok(Self { storage: HubStorage::new(options, Exports::new()), repository, folder })
    }

    fn at(&self, relative: &Path) -> PathBuf {
        self.folder.path().join(relative)
    }

    /// What the files of a point say, through its chain.
    fn content(&self, number: u128) -> Result<ImageReader> {
        let root = Path::new(&self.repository.path);
        Ok(ImageReader::open_chain(&InsideDirectory::new(root), &root.join(image_path(number)))?)
    }

    /// Everything that was promised about the points, given what the catalogue may know.
    async fn judge_points(&self, story: &Story, count: usize) -> Result<()> {
        let marked: Vec<&str> = story.cut.marks(count).collect();
        for (number, (disk, files)) in &story.points {
            let has = |what: &str| marked.contains(&format!("{what} {number}").as_str());
            if has("deleted") {
                ensure!(files.iter().all(|it| !self.at(&it.0).exists()), "{number} came back");
            } else if has("sealed") && !has("deleting") {
                for (path, bytes) in files {
                    let found = std::fs::read(self.at(path)).context("a file of a sealed point")?;
                    ensure!(found == *bytes, "{} is not what it was", path.display());
                }
                self.require_good(*number).await?;
            } else if !has("deleting") {
                self.judge_unsealed(*number, disk, files).await?;
            }
        }
        Ok(())
    }

    async fn require_good(&self, number: u128) -> Result<()> {
        let location = PointLocation {
            point: point_id(number),
            ordinal: 0,
            repository: self.repository.clone(),
            path: image_path(number),
        };
        let stop = CancellationToken::new();
        let verdict = self.storage.verify_point(&location, &NoProgress, &stop).await?;
        ensure!(verdict.is_good(), "{verdict:?}");
        Ok(())
    }

    /// Nobody promised this point; but what has its name is whole, and the next start sweeps it.
    async fn judge_unsealed(&self, number: u128, disk: &[u8], files: &Files) -> Result<()> {
        let [image, manifest] = [0, 1].map(|it| self.at(&files[it].0));
        if image.exists() {
            let report = check_image(&image)?;
            ensure!(report.is_clean(), "image {number} has its name: {report:?}");
            ensure!(read_all(&self.content(number)?).await? == disk, "image {number} is mixed");
        }
        if manifest.exists() {
            Manifest::open(&manifest)?.check_table()?;
        }
        if image.exists() && manifest.exists() {
            self.require_good(number).await?;
        }
        self.judge_partial(&image, &manifest, disk).await?;
        self.storage.abandon_image(&self.repository, &image_path(number)).await?;
        ensure!(!image.exists() && !manifest.exists(), "{number} was not swept");
        Ok(())
    }

    /// Under its partial name, too, a file is no image and no manifest, or a whole one.
    async fn judge_partial(&self, image: &Path, manifest: &Path, disk: &[u8]) -> Result<()> {
        let partial = |path: &Path| {
            let mut name = path.to_owned().into_os_string();
            name.push(".partial");
            PathBuf::from(name)
        };
        let (image, manifest) = (partial(image), partial(manifest));
        match check_image(&image) {
            _ if !image.exists() => (),
            Err(OpenError::NotQcow2(_)) => (),
            Err(error) => return Err(error).context("an unfinished image passes for one"),
            Ok(report) => {
                ensure!(report.is_clean(), "an unfinished image passes for one: {report:?}");
                let gate = InsideDirectory::new(&self.repository.path);
                let found = read_all(&ImageReader::open_chain(&gate, &image)?).await?;
                ensure!(found == disk, "an unfinished image passes for the disk");
            }
        }
        if let Ok(manifest) = Manifest::open(&manifest) {
            manifest.check_table().context("an unsealed manifest passes for one")?;
        }
        Ok(())
    }

    /// A replica that counts as complete is what its manifest says; a qcow2 one is sound at every moment.
    async fn judge_replicas(&self, story: &Story, count: usize) -> Result<()> {
        let marks: Vec<&str> = story.cut.marks(count).collect();
        for (format, path) in &story.replicas {
            let image = self.at(path);
            let mut manifest = image.clone().into_os_string();
            manifest.push(".manifest");
            let manifest = PathBuf::from(manifest);
            let word = format.word();
            let at = |what: &str| marks.iter().rposition(|it| *it == format!("{what} {word}"));
            let begun = at("updating").max(at("rewriting"));
            if at("replicated") > begun {
                ensure!(manifest.exists() && image.exists(), "a finished replica is gone");
            }
            let sound = *format == ReplicaFormat::Qcow2 && at("rewriting").is_none();
            if sound && at("replicated").is_some() {
                let report = check_image(&image)?;
                ensure!(report.errors.is_empty(), "the replica is not sound: {report:?}");
            }
            // Of a first run that was cut, the manifest may have its name when the image has none: no replica.
            if manifest.exists() && image.exists() {
                self.require_proven(&image, *format, &manifest).await?;
            }
        }
        Ok(())
    }

    async fn require_proven(
        &self,
        image: &Path,
        format: ReplicaFormat,
        manifest: &Path,
    ) -> Result<()> {
        let manifest = Manifest::open(manifest)?;
        manifest.check_table()?;
        let content = match format {
            ReplicaFormat::Raw => std::fs::read(image)?,
            ReplicaFormat::Qcow2 => {
                let gate = InsideDirectory::new(self.folder.path());
                read_all(&ImageReader::open_chain(&gate, image)?).await?
            }
        };
        let table = manifest.table();
        let found = content.chunks(65_536).map(Digest::of).collect::<Vec<_>>();
        let blocks = usize::try_from(table.block_count())?;
        ensure!(table.get_many(0, blocks)? == found, "a replica that counts as complete is mixed");
        Ok(())
    }

    /// A file of a restore that has its name holds the disk, whether the job ended or not.
    async fn judge_restores(&self, story: &Story, count: usize) -> Result<()> {
        let marks: Vec<&str> = story.cut.marks(count).collect();
        let disk = &story.points.get(&2).context("the point")?.0;
        let at = |name: &str| self.at(Path::new("restores")).join(name);
        for (name, bytes) in [("restored.raw", "raw"), ("restored-flat.vmdk", "vmdk")] {
            let path = at(name);
            let sure = marks.contains(&format!("restored {bytes}").as_str());
            ensure!(!sure || path.exists(), "{name} is gone");
            ensure!(!path.exists() || std::fs::read(&path)? == *disk, "{name} is not the disk");
        }
        ensure!(!at("restored.vmdk").exists() || at("restored-flat.vmdk").exists(), "no bytes");
        let image = at("restored.qcow2");
        if image.exists() {
            let gate = InsideDirectory::new(self.folder.path());
            let found = read_all(&ImageReader::open_chain(&gate, &image)?).await?;
            ensure!(check_image(&image)?.is_clean() && found == *disk, "it is not the disk");
        }
        ensure!(!marks.contains(&"restored qcow2") || image.exists(), "the restore is gone");
        Ok(())
    }

    /// Everything that was promised, given what is known when the power goes.
    pub(super) async fn judge(&self, story: &Story, count: usize) -> Result<()> {
        self.judge_replicas(story, count).await?;
        self.judge_restores(story, count).await?;
        self.judge_points(story, count).await
    }

    pub(super) fn judge_by_qemu(&self, story: &Story) -> Result<()> {
        for (_, files) in story.points.values() {
            let image = self.at(&files[0].0);
            if image.exists() {
                run("qemu-img", &["check", "-q", "-f", "qcow2", image.to_str().context("text")?])?;
            }
        }
        Ok(())
    }
}

async fn read_all(reader: &ImageReader) -> Result<Vec<u8>> {
    let len = u32::try_from(reader.size())?;
    Ok(reader.read_at(0, len).await?.to_vec())
}
