//! A hub's storage with a running NBD server, and a disk that is pushed to it as a VMA would.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use hub_backup_storage::{HubStorage, HubStorageOptions};
use hub_block::{BlockDevice, MemoryDevice};
use hub_data_mover::{BlockSize, CopyOptions, CopyPlan, DigestTable, Progress, copy};
use hub_domain::backup::BackupType;
use hub_domain::capacity::Capacity;
use hub_domain::disk::DiskKey;
use hub_domain::ids::{BackupJobId, RepositoryId, VmContextId, VmDiskId};
use hub_domain::repository::{Repository, RepositoryKind};
use hub_domain::source::{NbdAddress, PreparedTarget};
use hub_domain::time::Timestamp;
use hub_nbd::{ClientOptions, Endpoint, Exports, NbdClient, Server, ServerOptions};
use hub_ports::{
    BackupStorage, ParentImage, PointIdentity, PointLocation, PrepareImage, SealImage, SealedImage,
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) const VM: VmContextId = VmContextId::from_uuid(Uuid::from_u128(1));
pub(crate) const DISK: VmDiskId = VmDiskId::from_raw(7);

/// Three clusters and an odd end.
pub(crate) const SIZE: usize = 3 * 65_536 + 1_536;

pub(crate) struct Hub {
    pub(crate) storage: Arc<HubStorage>,
    pub(crate) repository: Repository,
    pub(crate) folder: tempfile::TempDir,
    _server: JoinSet<()>,
}

impl Hub {
    /// A hub whose images are finished before their first checkpoint.
    pub(crate) async fn start() -> Result<Self> {
        Self::with_checkpoints(Duration::from_secs(3600)).await
    }

    pub(crate) async fn with_checkpoints(checkpoint_every: Duration) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let repository_dir = folder.path().join("repository");
        std::fs::create_dir(&repository_dir)?;
        let exports = Exports::new();
        let here: SocketAddr = "127.0.0.1:0".parse()?;
        let server = Server::bind(here, exports.clone(), ServerOptions::default()).await?;
        let options = HubStorageOptions {
            checkpoint_every,
            nbd_advertise_host: "127.0.0.1".to_owned(),
            nbd_tls: None,
            nbd_port: server.local_addr().port(),
            replica_dir: folder.path().join("replicas"),
            restore_dir: folder.path().join("restores"),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(server.run(CancellationToken::new()));
        Ok(Self {
            storage: Arc::new(HubStorage::new(options, exports)),
            repository: Repository {
                id: RepositoryId::from_uuid(Uuid::from_u128(2)),
                name: "default".to_owned(),
                kind: RepositoryKind::Local,
                path: repository_dir.display().to_string(),
                settings: Default::default(),
                created_at: Timestamp::UNIX_EPOCH,
            },
            folder,
            _server: tasks,
        })
    }

    pub(crate) fn file(&self, path: &str) -> PathBuf {
        Path::new(&self.repository.path).join(path)
    }

    pub(crate) fn order(
        &self,
        number: u128,
        size: usize,
        parent: Option<u128>,
    ) -> Result<PrepareImage> {
        let parent =
            parent.map(|number| ParentImage { point: point_id(number), path: image_path(number) });
        Ok(PrepareImage {
            resume: false,
            repository: self.repository.clone(),
            point: point_id(number),
            vm: VM,
            disk: DISK,
            capacity: Capacity::new(size as u64)?,
            parent,
        })
    }

    pub(crate) fn location(&self, number: u128) -> PointLocation {
        PointLocation {
            point: point_id(number),
            ordinal: 0,
            repository: self.repository.clone(),
            path: image_path(number),
        }
    }

    /// A whole backup of `disk` as point `number`: prepared, pushed and sealed.
    pub(crate) async fn back_up(
        &self,
        number: u128,
        disk: &[u8],
        parent: Option<u128>,
    ) -> Result<SealedImage> {
        let target = self.storage.prepare_image(&self.order(number, disk.len(), parent)?).await?;
        ensure!(target.parent.is_some() == parent.is_some(), "{:?}", target.no_parent_reason);
        let source_root = push(disk, &target).await?;
        Ok(self.storage.seal_image(&seal(number, target, source_root, parent)?).await?)
    }
}

pub(crate) fn point_id(number: u128) -> BackupJobId {
    BackupJobId::from_uuid(Uuid::from_u128(number))
}

pub(crate) fn image_path(number: u128) -> String {
    format!("{VM}/disk-{DISK}/{}.qcow2", point_id(number))
}

pub(crate) fn seal(
    number: u128,
    target: PreparedTarget,
    source_root: String,
    parent: Option<u128>,
) -> Result<SealImage> {
    let disk_key = DiskKey::new("disk-2000")?;
    let identity = PointIdentity {
        point: point_id(number),
        vm: VM,
        vm_name: "pgtest1".to_owned(),
        vmware_vm_id: "4205784a".to_owned(),
        vcenter_host: "vc.example.local".to_owned(),
        ordinal: 0,
        disk_key,
        backup_type: if parent.is_some() { BackupType::Incremental } else { BackupType::Full },
        method: "full".to_owned(),
        method_reason: None,
        change_id: None,
        parent: parent.map(point_id),
        created_at: Timestamp::UNIX_EPOCH,
    };
    Ok(SealImage { target, source_root, identity })
}

pub(crate) async fn dial(address: &NbdAddress) -> Result<NbdClient> {
    let endpoint = Endpoint::Tcp { host: address.host.clone(), port: address.port };
    Ok(NbdClient::connect(&endpoint, &address.export, ClientOptions::default()).await?)
}

/// Does what a VMA does, and returns the root of what it read.
pub(crate) async fn push(disk: &[u8], target: &PreparedTarget) -> Result<String> {
    let block_size = BlockSize::new(target.block_size)?;
    let table = Arc::new(DigestTable::temporary(disk.len() as u64, block_size)?);
    let mut plan = CopyPlan::Full;
    if let Some(parent) = &target.parent {
        let known = Arc::new(DigestTable::temporary(parent.capacity.bytes(), block_size)?);
        let served = dial(&parent.address).await?;
        known.load(&served).await?;
        ensure!(known.root()?.to_string() == parent.root, "the parent's table arrived damaged");
        table.copy_from(&known)?;
        served.close().await;
        plan = CopyPlan::ByDigest;
    }
    let client = Arc::new(dial(&target.address).await?);
    let source = Arc::new(MemoryDevice::new_read_only(disk.to_vec()));
    let sent = client.clone() as Arc<dyn BlockDevice>;
    let stop = CancellationToken::new();
    let options = CopyOptions::default();
    let outcome =
        copy(source, sent, plan, table, options, Arc::<Progress>::default(), stop).await?;
    Arc::into_inner(client).context("the client is still in use")?.close().await;
    Ok(outcome.root.to_string())
}

/// Bytes that differ by disk, block and generation, so that a stale block is told from a wrong one.
pub(crate) fn pattern(size: usize, generation: u8) -> Vec<u8> {
    (0..size)
        .map(|at| {
            let block = u8::try_from(at / 4096 % 251).unwrap_or_default();
            let place = u8::try_from(at % 241).unwrap_or_default();
            block.wrapping_mul(31).wrapping_add(place).wrapping_add(generation.wrapping_mul(97))
        })
        .collect()
}

#[expect(clippy::print_stderr, reason = "a skipped test says so")]
/// Whether `qemu-img` can be asked; without it the test says so and proves less.
pub(crate) fn qemu_img() -> Result<bool> {
    if Command::new("qemu-img").arg("--version").output().is_ok() {
        return Ok(true);
    }
    ensure!(!required(), "qemu-img is required here and is not installed");
    eprintln!("SKIPPED: qemu-img is not installed");
    Ok(false)
}

#[expect(clippy::disallowed_methods, reason = "the one switch of the test run")]
fn required() -> bool {
    std::env::var("HUB_TEST_REQUIRE").is_ok_and(|value| value == "1")
}

pub(crate) fn run(program: &str, args: &[&str]) -> Result<String> {
    let out = Command::new(program).args(args).output().with_context(|| program.to_owned())?;
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    if !out.status.success() {
        bail!("{program} {args:?}: {said}{}", String::from_utf8_lossy(&out.stderr));
    }
    Ok(said)
}

/// `qemu-img check` finds nothing, and the image reads as `disk` through its whole chain.
pub(crate) fn judge(image: &Path, format: &str, disk: &[u8]) -> Result<()> {
    if !qemu_img()? {
        return Ok(());
    }
    let image = image.to_str().context("path")?;
    let folder = tempfile::tempdir()?;
    let raw = folder.path().join("disk.raw");
    std::fs::write(&raw, disk)?;
    if format == "qcow2" {
        run("qemu-img", &["check", "-f", "qcow2", image])?;
    }
    run("qemu-img", &["compare", "-f", format, "-F", "raw", image, raw.to_str().context("path")?])?;
    Ok(())
}

/// Polls a future so many times and drops it; whether it was done by then.
pub(crate) async fn polled(times: usize, work: impl Future) -> bool {
    let mut work = std::pin::pin!(work);
    let mut left = times;
    std::future::poll_fn(|context| {
        left -= 1;
        match work.as_mut().poll(context) {
            Poll::Pending if left > 0 => Poll::Pending,
            last @ (Poll::Pending | Poll::Ready(_)) => Poll::Ready(last.is_ready()),
        }
    })
    .await
}
