//! The story that is cut: backups, an abandoned one, a deletion, replicas and restores.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use hub_block::trail::{Trail, follow};
use hub_domain::capacity::Capacity;
use hub_domain::replication::ReplicaFormat;
use hub_domain::restore::RestoreFormat;
use hub_ports::{BackupStorage, NoProgress, PrepareReplica, ReplicaStorage, RestoreOutput};
use tokio_util::sync::CancellationToken;

use super::super::fixture::{DISK, Hub, VM, image_path, pattern, push, seal};
use super::super::power_cut::PowerCut;

const SMALL: usize = 3 * 65_536 + 1_536;
const GROWN: usize = SMALL + 65_536;

/// The files of a point, below the root, and what was in them when it was sealed.
pub(super) type Files = Vec<(PathBuf, Vec<u8>)>;

/// The disk of each point, and its files.
pub(super) type Points = BTreeMap<u128, (Vec<u8>, Files)>;

/// Everything that was done, and what it was to lead to.
pub(super) struct Story {
    pub(super) cut: PowerCut,
    pub(super) points: Points,
    /// The images of the replicas, below the root.
    pub(super) replicas: Vec<(ReplicaFormat, PathBuf)>,
    _hub: Hub,
}

impl Story {
    pub(super) async fn play() -> Result<Self> {
        let hub = Hub::start().await?;
        let root = hub.folder.path().to_owned();
        let trail = follow(&root);
        let mut points = BTreeMap::new();
        let mut disk = pattern(SMALL, 1);
        disk[65_536..131_072].fill(0);
        hub.back_up(1, &disk, None).await?;
        Self::sealed(&hub, &trail, &mut points, (1, &disk))?;
        disk[70_000..71_000].fill(9);
        disk[..65_536].fill(0);
        hub.back_up(2, &disk, Some(1)).await?;
        Self::sealed(&hub, &trail, &mut points, (2, &disk))?;
        // One that ends in the middle.
        let target = hub.storage.prepare_image(&hub.order(9, SMALL, Some(2))?).await?;
        push(&pattern(SMALL, 9), &target).await?;
        hub.storage.abandon_image(&hub.repository, &image_path(9)).await?;
        disk.resize(GROWN, 0x33);
        Self::back_up_at_the_second_attempt(&hub, &disk).await?;
        Self::sealed(&hub, &trail, &mut points, (3, &disk))?;
        trail.mark("deleting 3");
        hub.storage.delete_image(&hub.repository, &image_path(3)).await?;
        trail.mark("deleted 3");
        let mut replicas = Vec::new();
        for format in [ReplicaFormat::Qcow2, ReplicaFormat::Raw] {
            replicas.push((format, Self::replicate(&hub, &trail, format, disk.clone()).await?));
        }
        for format in [RestoreFormat::Raw, RestoreFormat::Qcow2, RestoreFormat::Vmdk] {
            let file_name = format!("restored.{}", format.word());
            let output = RestoreOutput { format, file_name };
            let (location, stop) = (hub.location(2), CancellationToken::new());
            hub.storage.restore_point(&location, &output, &NoProgress, &stop).await?;
            trail.mark(format!("restored {}", format.word()));
        }
        let cut = PowerCut { steps: trail.steps(), root };
        Ok(Self { cut, points, replicas, _hub: hub })
    }

    /// The first attempt brings blocks of another instant, and is gone on with.
    async fn back_up_at_the_second_attempt(hub: &Hub, disk: &[u8]) -> Result<()> {
        let mut order = hub.order(3, disk.len(), Some(2))?;
        let first = hub.storage.prepare_image(&order).await?;
        push(&pattern(disk.len(), 8), &first).await?;
        order.resume = true;
        let target = hub.storage.prepare_image(&order).await?;
        let root = push(disk, &target).await?;
        hub.storage.seal_image(&seal(3, target, root, Some(2))?).await?;
        Ok(())
    }

    fn sealed(
        hub: &Hub,
        trail: &Trail,
        points: &mut Points,
        (number, disk): (u128, &[u8]),
    ) -> Result<()> {
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
    async fn replicate(
        hub: &Hub,
        trail: &Trail,
        format: ReplicaFormat,
        mut disk: Vec<u8>,
    ) -> Result<PathBuf> {
        let mut path = PathBuf::new();
        // The cluster that the first update writes to is a hole before, so that its tables change.
        disk[3 * 65_536..4 * 65_536].fill(0);
        for (round, incremental) in [(0, false), (1, true), (2, true), (3, false)] {
            let cluster = [0, 3, 1, 2][round];
            disk[cluster * 65_536 + 100..][..3_000].fill(u8::try_from(round)? + 1);
            disk[131_072..140_000].fill(0);
            let order = PrepareReplica {
                resume: false,
                vm: VM,
                disk: DISK,
                capacity: Capacity::new(disk.len() as u64)?,
                format,
                incremental,
            };
            let word = format.word();
            trail.mark(format!("{} {word}", if round == 3 { "rewriting" } else { "updating" }));
            let target = hub.storage.prepare_replica(&order).await?;
            let root = push(&disk, &target).await?;
            hub.storage.seal_replica(&target, &root).await?;
            trail.mark(format!("replicated {word}"));
            path = Path::new("replicas").join(&target.path);
        }
        Ok(path)
    }
}
