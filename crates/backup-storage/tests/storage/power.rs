//! Power cuts at every step of backups, deletions and replica runs: an earlier point is never touched, and a
//! name that stands for something whole never stands for a part of it.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "each place looks at the few steps that concern it"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use hub_backup_storage::{HubStorage, HubStorageOptions};
use hub_block::trail::{Step, Trail, follow};
use hub_data_mover::Manifest;
use hub_domain::capacity::Capacity;
use hub_domain::ids::RepositoryId;
use hub_domain::replication::ReplicaFormat;
use hub_domain::repository::{Repository, RepositoryKind};
use hub_domain::time::Timestamp;
use hub_nbd::Exports;
use hub_ports::{BackupStorage, NoProgress, PointLocation, PrepareReplica, ReplicaStorage};
use hub_qcow2::{ImageReader, InsideDirectory, check_image};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::fixture::{DISK, Hub, VM, image_path, pattern, point_id, push, qemu_img, run};
use super::power_cut::PowerCut;
use super::seed::Seed;

const SMALL: usize = 3 * 65_536 + 1_536;
const GROWN: usize = SMALL + 65_536;
/// Random losses for each step.
const ROUNDS: usize = 3;

/// The files of a point, below the root, and what was in them when it was sealed.
type Files = Vec<(PathBuf, Vec<u8>)>;

/// The disk of each point, and its files.
type Points = BTreeMap<u128, (Vec<u8>, Files)>;

/// Everything that was done, and what it was to lead to.
struct Story {
    cut: PowerCut,
    points: Points,
    replica: PathBuf,
    _hub: Hub,
}

impl Story {
    async fn play() -> Result<Self> {
        let hub = Hub::start().await?;
        let root = hub.folder.path().to_owned();
        let trail = follow(&root);
        let mut points = BTreeMap::new();
        let mut disk = pattern(SMALL, 1);
        disk[65_536..131_072].fill(0);
        Self::back_up(&hub, &trail, &mut points, (1, &disk, None)).await?;
        disk[70_000..71_000].fill(9);
        disk[..65_536].fill(0);
        Self::back_up(&hub, &trail, &mut points, (2, &disk, Some(1))).await?;
        // One that ends in the middle.
        let target = hub.storage.prepare_image(&hub.order(9, SMALL, Some(2))?).await?;
        push(&pattern(SMALL, 9), &target).await?;
        hub.storage.abandon_image(&hub.repository, &image_path(9)).await?;
        disk.resize(GROWN, 0x33);
        Self::back_up(&hub, &trail, &mut points, (3, &disk, Some(2))).await?;
        trail.mark("deleting 3");
        hub.storage.delete_image(&hub.repository, &image_path(3)).await?;
        trail.mark("deleted 3");
        let replica = Self::replicate(&hub, &trail, disk).await?;
        let cut = PowerCut { steps: trail.steps(), root };
        Ok(Self { cut, points, replica, _hub: hub })
    }

    async fn back_up(
        hub: &Hub,
        trail: &Trail,
        points: &mut Points,
        (number, disk, parent): (u128, &[u8], Option<u128>),
    ) -> Result<()> {
        hub.back_up(number, disk, parent).await?;
        // From here on the catalogue may have its row.
        trail.mark(format!("sealed {number}"));
        let image = hub.file(&image_path(number));
        let files = [image.clone(), image.with_extension("manifest")].map(|path| {
            let bytes = std::fs::read(&path)?;
            Ok((path.strip_prefix(hub.folder.path())?.to_owned(), bytes))
        });
        let files = files.into_iter().collect::<Result<Vec<_>>>()?;
        points.insert(number, (disk.to_vec(), files));
        Ok(())
    }

    /// A replica that is written, brought up to date twice, and written anew.
    async fn replicate(hub: &Hub, trail: &Trail, mut disk: Vec<u8>) -> Result<PathBuf> {
        let mut path = PathBuf::new();
        for (round, incremental) in [(0, false), (1, true), (2, true), (3, false)] {
            disk[round * 65_536 + 100..][..3_000].fill(u8::try_from(round)? + 1);
            disk[131_072..140_000].fill(0);
            let order = PrepareReplica {
                resume: false,
                vm: VM,
                disk: DISK,
                capacity: Capacity::new(disk.len() as u64)?,
                format: ReplicaFormat::Qcow2,
                incremental,
            };
            trail.mark(if round == 3 { "rewriting" } else { "updating" });
            let target = hub.storage.prepare_replica(&order).await?;
            let root = push(&disk, &target).await?;
            hub.storage.seal_replica(&target, &root).await?;
            trail.mark("replicated");
            path = Path::new("replicas").join(&target.path);
        }
        Ok(path)
    }
}

/// A hub that starts after the cut.
struct Survivor {
    storage: HubStorage,
    repository: Repository,
    folder: tempfile::TempDir,
}

impl Survivor {
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        // Repositories and settings name directories that were there before anything happened.
        std::fs::create_dir(folder.path().join("repository"))?;
        let options = HubStorageOptions {
            nbd_advertise_host: "127.0.0.1".to_owned(),
            nbd_port: 1,
            replica_dir: folder.path().join("replicas"),
            restore_dir: folder.path().join("restores"),
        };
        let repository = Repository {
            id: RepositoryId::from_uuid(Uuid::from_u128(2)),
            name: "default".to_owned(),
            kind: RepositoryKind::Local,
            path: folder.path().join("repository").display().to_string(),
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
        self.storage.abandon_image(&self.repository, &image_path(number)).await?;
        ensure!(!image.exists() && !manifest.exists(), "{number} was not swept");
        Ok(())
    }

    /// A replica that counts as complete is what its manifest says; its image is sound at every moment.
    async fn judge_replica(&self, story: &Story, count: usize) -> Result<()> {
        let image = self.at(&story.replica);
        let mut manifest = image.clone().into_os_string();
        manifest.push(".manifest");
        let manifest = PathBuf::from(manifest);
        let marks: Vec<&str> = story.cut.marks(count).collect();
        let begun = marks.iter().filter(|it| **it == "replicated").count();
        let sure = marks.last() == Some(&"replicated") && begun > 0;
        ensure!(!sure || manifest.exists(), "a finished replica has no manifest");
        if begun > 0 && !marks.contains(&"rewriting") {
            let report = check_image(&image)?;
            ensure!(report.errors.is_empty(), "the replica is not sound: {report:?}");
        }
        if manifest.exists() {
            let manifest = Manifest::open(&manifest)?;
            manifest.check_table()?;
            let gate = InsideDirectory::new(self.folder.path());
            let content = read_all(&ImageReader::open_chain(&gate, &image)?).await?;
            let table = manifest.table();
            let found = content.chunks(65_536).map(hub_data_mover::Digest::of).collect::<Vec<_>>();
            let count = usize::try_from(table.block_count())?;
            ensure!(
                table.get_many(0, count)? == found,
                "a replica that counts as complete is mixed"
            );
        }
        Ok(())
    }

    fn judge_by_qemu(&self, story: &Story) -> Result<()> {
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
    use hub_block::BlockDevice;
    let len = u32::try_from(reader.size())?;
    Ok(reader.read_at(0, len).await?.to_vec())
}

/// Tries every step; returns how many states were tried, and what was lost.
async fn campaign(story: &Story, seed: &mut Seed, rounds: usize) -> Result<(usize, Vec<String>)> {
    let (mut tried, mut lost) = (0, Vec::new());
    let qemu = qemu_img()?;
    for count in 1..=story.cut.steps.len() {
        for round in 0..rounds {
            let survivor = Survivor::new()?;
            let cut = story.cut.rebuild(count, seed, survivor.folder.path());
            cut.context("the state cannot be built")?;
            let by_qemu =
                if qemu && tried % 40 == 0 { survivor.judge_by_qemu(story) } else { Ok(()) };
            let replica = survivor.judge_replica(story, count).await;
            let points = survivor.judge_points(story, count).await;
            if let Err(error) = by_qemu.and(replica).and(points) {
                let step = &story.cut.steps[count - 1].1;
                lost.push(format!("step {count} ({}), round {round}: {error:#}", name_of(step)));
            }
            tried += 1;
        }
    }
    Ok((tried, lost))
}

fn name_of(step: &Step) -> String {
    match step {
        Step::Wrote { file, offset, bytes } => {
            format!("{} bytes to {file} at {offset}", bytes.len())
        }
        other => format!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_p2_no_power_cut_loses_a_point_or_shows_half_a_one() -> Result<()> {
    let story = Story::play().await?;
    let mut seed = Seed::new();
    let (tried, lost) = campaign(&story, &mut seed, ROUNDS).await?;
    eprintln!(
        "power cuts: seed {}, {} steps, {tried} states, {} lost",
        seed.first(),
        story.cut.steps.len(),
        lost.len()
    );
    ensure!(lost.is_empty(), "seed {}: {lost:#?}", seed.first());
    ensure!(tried > 300, "only {tried} states");
    Ok(())
}

/// The campaign would see it if a sync were missing: without any sync of files, or of directories, it loses.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_sync_would_be_seen() -> Result<()> {
    for files in [true, false] {
        let mut story = Story::play().await?;
        story.cut.steps.retain(|(_, step)| match step {
            Step::Synced { .. } => !files,
            Step::DirectorySynced { .. } => files,
            _ => true,
        });
        let last = story.cut.steps.iter().rposition(|(_, step)| is_mark(step, "sealed 2"));
        story.cut.steps.truncate(last.context("a mark")? + 1);
        let (tried, lost) = campaign(&story, &mut Seed::new(), 1).await?;
        if lost.is_empty() {
            bail!("{tried} states, and nobody missed a sync");
        }
    }
    Ok(())
}

fn is_mark(step: &Step, wanted: &str) -> bool {
    matches!(step, Step::Marked { what } if what == wanted)
}
