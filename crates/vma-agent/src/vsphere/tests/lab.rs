//! A peer with one VM of two disks, and a source that reads it.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use hub_vma_api::{Credentials, DiscoverRequest, Vm};
use hub_vsphere::{ClientOptions, Endpoint, Login, Trust};
use hub_vsphere_peer::{DiskShape, PeerOptions, VmShape, VspherePeer};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::source::{AskedDisk, OpenRequest, Snapshot, Source as _};
use crate::vsphere::{VddkOptions, VsphereOptions, VsphereSource};

/// Bytes of each disk.
pub(super) const CAPACITY: u64 = 2 << 20;

/// Bytes that change tracking tells apart.
pub(super) const GRAIN: u64 = 65_536;

pub(super) struct Lab {
    pub(super) peer: VspherePeer,
    pub(super) source: VsphereSource,
    /// The VM's name.
    pub(super) vm: String,
    /// The VM's id on the wire.
    pub(super) id: String,
    pub(super) files: Vec<PathBuf>,
    pub(super) state: TempDir,
    /// VDDK, where it is set up.
    vddk: Option<VddkOptions>,
    /// Disks that are read from one host at a time.
    per_host: usize,
    /// How long a task may take.
    task: Duration,
}

/// Longer than a task of the peer takes on a machine of any speed.
const TASK: Duration = Duration::from_secs(120);

/// A VM of a lab beside its first one.
pub(super) struct Other {
    pub(super) vm: String,
    pub(super) id: String,
    pub(super) files: Vec<PathBuf>,
}

impl Lab {
    pub(super) async fn start() -> Result<Option<Self>> {
        Self::start_with(PeerOptions::default()).await
    }

    pub(super) async fn start_with(options: PeerOptions) -> Result<Option<Self>> {
        let Some(peer) = VspherePeer::start(options)? else { return Ok(None) };
        let vm = peer.vms()?.into_keys().next().context("no VM")?;
        let state = tempfile::tempdir()?;
        let source = source(&peer, &state, None, (4, TASK))?;
        let id = format!("5015f0e2-0000-4000-8000-{:012}", 7);
        let shape = VmShape {
            instance_uuid: Some(id.clone()),
            tracking_supported: Some(true),
            disks: Some(vec![disk(2000, 0), disk(2001, 1)]),
            ..named(&vm)
        };
        let files = peer.shape(&shape)?.files;
        Ok(Some(Self { peer, source, vm, id, files, state, vddk: None, per_host: 4, task: TASK }))
    }

    /// Both disks of the VM, for a job.
    pub(super) fn request(&self, job_id: &str) -> OpenRequest {
        self.request_of(&self.id, job_id)
    }

    pub(super) fn request_of(&self, id: &str, job_id: &str) -> OpenRequest {
        OpenRequest {
            job_id: job_id.to_owned(),
            vm_id: id.to_owned(),
            vcenter_uuid: None,
            credentials: Some(self.credentials()),
            disks: ["disk-2000", "disk-2001"].map(asked).to_vec(),
            quiesce: None,
        }
    }

    pub(super) fn credentials(&self) -> Credentials {
        Credentials {
            vcenter: self.peer.address().to_owned(),
            username: self.peer.user().to_owned(),
            password: self.peer.password().to_owned(),
        }
    }

    pub(super) async fn open(&self, job_id: &str) -> Result<Box<dyn Snapshot>> {
        Ok(self.source.open(&self.request(job_id)).await?)
    }

    /// Writes to the disk of the running VM.
    pub(super) fn write(&self, disk: usize, at: u64, bytes: &[u8]) -> Result<()> {
        let path = self.files.get(disk).context("no such disk")?;
        Ok(File::options().write(true).open(path)?.write_all_at(bytes, at)?)
    }

    /// Forgets the source and makes it anew, as a restart does.
    pub(super) fn restart(&mut self) -> Result<()> {
        let limits = (self.per_host, self.task);
        self.source = source(&self.peer, &self.state, self.vddk.clone(), limits)?;
        Ok(())
    }

    /// The same with VDDK.
    pub(super) fn read_through(&mut self, vddk: VddkOptions) -> Result<()> {
        self.vddk = Some(vddk);
        self.restart()
    }

    /// A second source that has no VDDK.
    pub(super) fn over_https(&self) -> Result<VsphereSource> {
        source(&self.peer, &self.state, None, (self.per_host, self.task))
    }

    /// The same with so many disks of one host at a time.
    pub(super) fn bounded(&mut self, per_host: usize) -> Result<()> {
        self.per_host = per_host;
        self.restart()
    }

    /// The same with little patience with tasks.
    pub(super) fn impatient(&mut self) -> Result<()> {
        self.task = Duration::from_millis(500);
        self.restart()
    }

    /// The same with sessions that are used as often as this.
    pub(super) fn kept_alive(&mut self, keep_alive: Duration) -> Result<()> {
        let options = VsphereOptions { keep_alive, ..options(&self.peer, &self.state)? };
        self.source = VsphereSource::new(options)?;
        Ok(())
    }

    /// The same with so many removals at one host at a time.
    pub(super) fn removing(&mut self, removals_per_host: usize) -> Result<()> {
        let options = VsphereOptions { removals_per_host, ..options(&self.peer, &self.state)? };
        self.source = VsphereSource::new(options)?;
        Ok(())
    }

    /// The same with so much patience with answers about changes.
    pub(super) fn hasty(&mut self, areas: Duration) -> Result<()> {
        let options = options(&self.peer, &self.state)?;
        let client = ClientOptions { areas, ..options.client };
        self.source = VsphereSource::new(VsphereOptions { client, ..options })?;
        Ok(())
    }

    /// Another VM, with disks like those of the first.
    pub(super) fn another(&self, vm: &str, number: u64) -> Result<Other> {
        let id = format!("5015f0e2-0000-4000-8000-{number:012}");
        let shape = VmShape {
            instance_uuid: Some(id.clone()),
            disks: Some(vec![disk(2000, 0), disk(2001, 1)]),
            ..named(vm)
        };
        Ok(Other { vm: vm.to_owned(), id, files: self.peer.shape(&shape)?.files })
    }

    /// The VM as discovery shows it.
    pub(super) async fn told(&self) -> Result<Vm> {
        self.told_of(&self.id).await
    }

    async fn told_of(&self, id: &str) -> Result<Vm> {
        let credentials = Some(self.credentials());
        let asked = DiscoverRequest { credentials, ..DiscoverRequest::default() };
        let told = self.source.inventory(&asked).await?;
        told.vms.into_iter().find(|it| it.id == id).context("no VM")
    }

    /// The datastore paths of a VM's disks.
    pub(super) async fn paths(&self, id: &str) -> Result<Vec<String>> {
        Ok(self.told_of(id).await?.disks.into_iter().map(|it| it.path).collect())
    }

    /// Waits until nothing is left at the peer and nothing is owed.
    pub(super) async fn nothing_is_left(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let live = self.peer.snapshots()?;
            let owed = self.owed()?;
            if live.is_empty() && owed == 0 {
                return Ok(());
            }
            anyhow::ensure!(Instant::now() < deadline, "left: {live:?}, owed: {owed}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Records on disk.
    pub(super) fn owed(&self) -> Result<usize> {
        let all = std::fs::read_dir(self.state.path().join("owed-snapshots"))?;
        let names = all.map(|it| Ok(it?.file_name())).collect::<Result<Vec<_>>>()?;
        Ok(names.iter().filter(|it| it.to_string_lossy().ends_with(".json")).count())
    }

    /// Makes the one record be of another place, which the VM of this one does not exist in.
    pub(super) fn record_is_of(&self, source: &str) -> Result<()> {
        let mut all = std::fs::read_dir(self.state.path().join("owed-snapshots"))?;
        let path = all.next().context("no record")??.path();
        let mut record: serde_json::Value = serde_json::from_slice(&std::fs::read(&path)?)?;
        for (field, value) in [("source", source), ("vm_id", "gone"), ("vm", "vm-gone")] {
            record[field] = value.into();
        }
        Ok(std::fs::write(&path, serde_json::to_vec(&record)?)?)
    }
}

/// A disk to open; whichever is behind its key.
pub(super) fn asked(key: &str) -> AskedDisk {
    let key = key.to_owned();
    AskedDisk { key, capacity_bytes: CAPACITY, backing_uuid: None, grown: false }
}

pub(super) fn named(vm: &str) -> VmShape {
    VmShape { vm: vm.to_owned(), ..VmShape::default() }
}

pub(super) fn disk(key: i32, unit: i32) -> DiskShape {
    DiskShape {
        key,
        unit,
        file: format!("disk-{unit}.vmdk"),
        capacity: CAPACITY,
        uuid: format!("6000C29{unit}-aaaa-bbbb-cccc-0123456789ab"),
        ..DiskShape::default()
    }
}

/// A raw device in place of the first disk.
pub(super) fn raw(compatibility: &str, mode: &str) -> DiskShape {
    DiskShape { rdm: compatibility.to_owned(), mode: mode.to_owned(), ..disk(2000, 0) }
}

pub(super) fn options(peer: &VspherePeer, state: &TempDir) -> Result<VsphereOptions> {
    Ok(VsphereOptions {
        endpoint: Endpoint::parse(peer.address())?,
        trust: Trust::Thumbprint(peer.thumbprint()),
        login: None,
        state_dir: state.path().to_owned(),
        enable_change_tracking: true,
        quiesce: true,
        reads_at_once: 4,
        readers_per_host: 4,
        removals_per_host: 4,
        test_within: Duration::from_secs(120),
        keep_alive: Duration::from_secs(600),
        vddk: None,
        client: ClientOptions {
            backoff: Duration::from_millis(5),
            task: TASK,
            ..ClientOptions::default()
        },
    })
}

fn source(
    peer: &VspherePeer,
    state: &TempDir,
    vddk: Option<VddkOptions>,
    (readers_per_host, task): (usize, Duration),
) -> Result<VsphereSource> {
    let options = options(peer, state)?;
    let client = ClientOptions { task, ..options.client };
    Ok(VsphereSource::new(VsphereOptions { vddk, readers_per_host, client, ..options })?)
}

/// The same with the peer's account in its configuration.
pub(super) fn with_account(peer: &VspherePeer, state: &TempDir) -> Result<VsphereSource> {
    let password = peer.password().to_owned().into();
    let login = Some(Login { username: peer.user().to_owned(), password });
    Ok(VsphereSource::new(VsphereOptions { login, ..options(peer, state)? })?)
}
