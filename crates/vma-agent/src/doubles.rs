//! A source in memory and a hub that only has NBD targets, for the tests of jobs and API.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use async_trait::async_trait;
use bytes::Bytes;
use hub_block::{BlockDevice, BlockError, Extent, MemoryDevice};
use hub_data_mover::{BlockSize, DigestTable};
use hub_nbd::{Export, ExportHandle, Exports, Server, ServerOptions, ServerSecurity};
use hub_vma_api::{
    CleanupOutcome, CleanupReport, CleanupRequest, CopyDisk, CopyMethod, CopyRates, CopyReport,
    CopyRequest, DiscoverRequest, Inventory, NbdTarget, ParentManifest, Vcenter,
};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::jobs::Jobs;
use crate::source::{AskedDisk, Changed, OpenDisk, OpenRequest, Snapshot, Source, SourceError};

/// Bytes per digest in tests.
pub(crate) const BLOCK: u32 = 65_536;

/// A VM named `vm` whose disks are in memory.
#[derive(Default)]
pub(crate) struct MemorySource {
    pub(crate) disks: HashMap<String, Arc<dyn BlockDevice>>,
    pub(crate) changed: Option<Changed>,
    pub(crate) spoiled: bool,
    pub(crate) panics: bool,
    pub(crate) opened: Arc<AtomicUsize>,
    pub(crate) open: Arc<AtomicUsize>,
    /// Where an order is held that is being checked.
    pub(crate) checking: Option<Arc<Stop>>,
    /// Where a clean-up is held.
    pub(crate) cleaning: Option<Arc<Stop>>,
}

/// A place where calls are held until they may go on.
pub(crate) struct Stop {
    reached: Semaphore,
    go: Semaphore,
}

impl Stop {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { reached: Semaphore::new(0), go: Semaphore::new(0) })
    }

    /// Waits until a call is held.
    pub(crate) async fn is_reached(&self) -> Result<()> {
        self.reached.acquire().await?.forget();
        Ok(())
    }

    /// Lets one call go on.
    pub(crate) fn go_on(&self) {
        self.go.add_permits(1);
    }

    async fn pass(stop: Option<&Arc<Self>>) -> Result<(), SourceError> {
        let Some(stop) = stop else { return Ok(()) };
        stop.reached.add_permits(1);
        let gone = stop.go.acquire().await;
        gone.map_err(|_| SourceError::Internal("closed".to_owned())).map(|it| it.forget())
    }
}

struct MemorySnapshot {
    disks: Vec<OpenDisk>,
    devices: Vec<Arc<dyn BlockDevice>>,
    changed: Option<Changed>,
    spoiled: bool,
    open: Arc<AtomicUsize>,
}

impl MemorySource {
    pub(crate) fn with(disks: Vec<(&str, Arc<dyn BlockDevice>)>) -> Self {
        let disks = disks.into_iter().map(|(key, device)| (key.to_owned(), device)).collect();
        Self { disks, ..Self::default() }
    }
}

#[async_trait]
impl Source for MemorySource {
    fn kind(&self) -> &'static str {
        "folder"
    }

    async fn inventory(&self, _: &DiscoverRequest) -> Result<Inventory, SourceError> {
        let vcenter = Vcenter { host: "memory".to_owned(), ..Vcenter::default() };
        Ok(Inventory { vcenter, vms: Vec::new(), warnings: Vec::new() })
    }

    async fn clean_up(&self, _: &CleanupRequest) -> Result<CleanupReport, SourceError> {
        Stop::pass(self.cleaning.as_ref()).await?;
        Ok(CleanupReport { outcome: CleanupOutcome::None, error: None })
    }

    async fn check(&self, request: &OpenRequest) -> Result<(), SourceError> {
        Stop::pass(self.checking.as_ref()).await?;
        if request.vm_id != "vm" {
            return Err(SourceError::VmNotFound(request.vm_id.clone()));
        }
        let missing = request.disks.iter().find(|it| !self.disks.contains_key(&it.key));
        let refuse = |key: &str| SourceError::DiskNotFound { vm: "vm".into(), key: key.into() };
        missing.map_or(Ok(()), |it| Err(refuse(&it.key)))
    }

    async fn open(&self, request: &OpenRequest) -> Result<Box<dyn Snapshot>, SourceError> {
        assert!(!self.panics, "told to panic");
        self.opened.fetch_add(1, Ordering::SeqCst);
        self.open.fetch_add(1, Ordering::SeqCst);
        let disk = |it: &AskedDisk| OpenDisk {
            key: it.key.clone(),
            change_id: Some("mark-2".to_owned()),
            no_mark: None,
            read_by: None,
        };
        let devices = request.disks.iter().filter_map(|it| self.disks.get(&it.key).cloned());
        Ok(Box::new(MemorySnapshot {
            disks: request.disks.iter().map(disk).collect(),
            devices: devices.collect(),
            changed: self.changed.clone(),
            spoiled: self.spoiled,
            open: self.open.clone(),
        }))
    }
}

#[async_trait]
impl Snapshot for MemorySnapshot {
    fn disks(&self) -> &[OpenDisk] {
        &self.disks
    }

    async fn reader(&self, disk: usize) -> Result<Arc<dyn BlockDevice>, SourceError> {
        let device = self.devices.get(disk).cloned();
        device.ok_or_else(|| SourceError::Internal("there is no such disk".to_owned()))
    }

    async fn changed_since(&self, _: usize, _: &str) -> Changed {
        self.changed.clone().unwrap_or(Changed::Unknown("nobody knows".to_owned()))
    }

    async fn check_unchanged(&self, disk: usize) -> Result<(), SourceError> {
        let key = self.disks.get(disk).map(|it| it.key.clone()).unwrap_or_default();
        if self.spoiled { Err(SourceError::ChangedWhileReading { key }) } else { Ok(()) }
    }

    async fn close(self: Box<Self>) -> Result<(), SourceError> {
        Ok(())
    }
}

impl Drop for MemorySnapshot {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A disk that gives out as many reads as the gate has permits.
pub(crate) struct GatedDevice {
    pub(crate) inner: Arc<dyn BlockDevice>,
    pub(crate) gate: Arc<Semaphore>,
}

#[async_trait]
impl BlockDevice for GatedDevice {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn read_only(&self) -> bool {
        true
    }

    async fn read_at(&self, offset: u64, len: u32) -> Result<Bytes, BlockError> {
        let permit = self.gate.acquire().await.map_err(|_| BlockError::ReadOnly)?;
        permit.forget();
        self.inner.read_at(offset, len).await
    }

    async fn write_at(&self, _: u64, _: Bytes) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }

    async fn write_zeroes(&self, _: u64, _: u64) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }

    async fn extents(&self, offset: u64, len: u64) -> Result<Vec<Extent>, BlockError> {
        self.inner.extents(offset, len).await
    }

    async fn flush(&self) -> Result<(), BlockError> {
        Ok(())
    }
}

/// NBD targets on a port, as a hub has them.
pub(crate) struct Hub {
    exports: Exports,
    address: SocketAddr,
    security: ServerSecurity,
    handles: HashMap<String, ExportHandle>,
    stop: CancellationToken,
    server: JoinSet<()>,
}

impl Hub {
    pub(crate) async fn start() -> Result<Self> {
        Self::secured(ServerSecurity::Plain).await
    }

    pub(crate) async fn secured(security: ServerSecurity) -> Result<Self> {
        let exports = Exports::new();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = Server::bind(any, exports.clone(), ServerOptions::default()).await?;
        let address = server.local_addr();
        let (mut tasks, stop) = (JoinSet::new(), CancellationToken::new());
        tasks.spawn(server.secured(security.clone()).run(stop.clone()));
        Ok(Self { exports, address, security, handles: HashMap::new(), stop, server: tasks })
    }

    /// Cuts all connections; the exports stay what they were, and their port is there again.
    pub(crate) async fn cut(&mut self) -> Result<()> {
        self.stop.cancel();
        while self.server.join_next().await.is_some() {}
        let server = Server::bind(self.address, self.exports.clone(), ServerOptions::default());
        self.stop = CancellationToken::new();
        let server = server.await?.secured(self.security.clone());
        self.server.spawn(server.run(self.stop.clone()));
        Ok(())
    }

    pub(crate) fn offer(&mut self, name: &str, device: Arc<dyn BlockDevice>) -> Result<NbdTarget> {
        let export = Export { device, description: String::new(), max_connections: 4 };
        self.handles.insert(name.to_owned(), self.exports.add(name.to_owned(), export)?);
        Ok(self.target(name))
    }

    pub(crate) fn target(&self, name: &str) -> NbdTarget {
        let (host, port) = (self.address.ip().to_string(), self.address.port());
        NbdTarget { host, port, export: name.to_owned(), tls: None }
    }

    pub(crate) fn sessions(&self, name: &str) -> usize {
        self.handles.get(name).map_or(0, ExportHandle::sessions)
    }

    /// Ends an export and its sessions.
    pub(crate) fn withdraw(&mut self, name: &str) {
        self.handles.remove(name);
    }

    /// Offers the digests of some content as a parent's.
    pub(crate) async fn parent(&mut self, content: &[u8]) -> Result<ParentManifest> {
        let table = Arc::new(table_of(content).await?);
        let (root, capacity_bytes) = (table.root()?.to_string(), content.len() as u64);
        let target = self.offer("parent-manifest", table.as_device())?;
        Ok(ParentManifest { target, block_size: BLOCK, capacity_bytes, root })
    }
}

/// The digest table of some content.
pub(crate) async fn table_of(content: &[u8]) -> Result<DigestTable> {
    let table = DigestTable::temporary(content.len() as u64, BlockSize::new(BLOCK)?)?;
    for (block, bytes) in (0..).zip(content.chunks(BLOCK as usize)) {
        table.set(block, hub_data_mover::Digest::of(bytes))?;
    }
    Ok(table)
}

/// A device in memory.
pub(crate) fn memory(bytes: Vec<u8>) -> Arc<MemoryDevice> {
    Arc::new(MemoryDevice::new(bytes))
}

/// A full copy of one disk.
pub(crate) fn full_disk(key: &str, capacity: usize, target: NbdTarget) -> CopyDisk {
    CopyDisk {
        key: key.to_owned(),
        capacity_bytes: capacity as u64,
        backing_uuid: None,
        target,
        method: CopyMethod::Full,
        block_size: BLOCK,
        parent: None,
        audit: None,
        chain_audit: None,
    }
}

/// A request for the VM of a [`MemorySource`].
pub(crate) fn copying(job_id: &str, disks: Vec<CopyDisk>) -> CopyRequest {
    CopyRequest {
        job_id: job_id.to_owned(),
        vm_id: "vm".to_owned(),
        vcenter_uuid: None,
        credentials: None,
        disks,
        quiesce: None,
        rates: CopyRates::default(),
    }
}

/// Waits until a condition holds, and says which one did not.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) -> Result<()> {
    let polling = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    // Only a bug reaches it, on a machine of any speed.
    let limit = Duration::from_secs(120);
    tokio::time::timeout(limit, polling).await.with_context(|| format!("never: {what}"))
}

/// The report of a job that has ended.
pub(crate) async fn ended(jobs: &Jobs, job_id: &str) -> Result<CopyReport> {
    let report = || jobs.report(job_id);
    until("the job ends", || report().is_some_and(|it| it.state.is_terminal())).await?;
    report().context("the report is gone")
}
