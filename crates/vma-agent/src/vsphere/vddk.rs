//! Disks of a snapshot read through VMware's VDDK, which nbdkit loads in a process of its own.
//!
//! VDDK is not part of this program and may not be passed on: whoever runs the VMA unpacks it beside it.

mod complaint;
mod disk;
mod nbdkit;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hub_block::BlockDevice;
use hub_nbd::{ClientOptions, ConnectError, NbdClient};
use hub_vsphere::{Disk, Vm};
use tokio::time::Instant;

use super::host_budget::Place;
use super::reader::{DiskReader, FrozenDisk};
use super::session::Logins;
use super::{Tasks, listing};
use crate::source::{ReadBy, SourceError};
use disk::VddkDisk;
use nbdkit::Nbdkit;

/// Versions of the library that the plugin looks for.
const LIBRARIES: [&str; 3] = ["libvixDiskLib.so.8", "libvixDiskLib.so.7", "libvixDiskLib.so.6"];

/// Requests under way on the one connection to a disk.
const IN_FLIGHT: usize = 8;

/// How VDDK is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VddkOptions {
    /// Where VDDK was unpacked: the directory that holds `lib64`.
    pub libdir: PathBuf,
    /// The program.
    pub nbdkit: PathBuf,
    /// The plugin's file, where nbdkit does not find it by its name.
    pub plugin: Option<PathBuf>,
    /// SHA-1 of the server's certificate, twenty pairs of digits with colons: VDDK knows no better one.
    pub thumbprint: String,
    /// Ways to the data in the order of preference (`nbdssl:nbd`); VDDK's own choice unless given.
    pub transports: Option<String>,
    /// `none`, `zlib`, `fastlz` or `skipz`; none unless given.
    pub compression: Option<String>,
    /// How often a read that failed is tried again on a new connection, after 2, 4, 8, … seconds.
    pub retries: u32,
    /// How long it may take until a disk is open.
    pub start: Duration,
    /// How long one read may take, VDDK's own attempts included.
    pub read: Duration,
}

impl VddkOptions {
    /// What is set up where only the library and the thumbprint are told.
    pub fn new(libdir: PathBuf, thumbprint: String) -> Self {
        Self {
            libdir,
            nbdkit: PathBuf::from("nbdkit"),
            plugin: None,
            thumbprint,
            transports: None,
            compression: None,
            retries: 4,
            start: Duration::from_secs(120),
            read: Duration::from_secs(300),
        }
    }
}

/// Reads disks through VDDK.
pub(super) struct VddkReader {
    options: VddkOptions,
    tasks: Arc<Tasks>,
    logins: Arc<Logins>,
}

impl VddkReader {
    pub(super) fn new(options: VddkOptions, tasks: Arc<Tasks>, logins: Arc<Logins>) -> Self {
        Self { options, tasks, logins }
    }
}

impl VddkReader {
    /// Connects, which opens the disk at the server; one connection here is one there.
    async fn connect(
        &self,
        process: &Nbdkit,
        deadline: Instant,
    ) -> Result<NbdClient, ConnectError> {
        loop {
            let client = ClientOptions {
                connections: 1,
                in_flight: IN_FLIGHT,
                connect_timeout: deadline.saturating_duration_since(Instant::now()),
                io_timeout: self.options.read,
                ..ClientOptions::default()
            };
            match NbdClient::connect(&process.endpoint(), "", client).await {
                // The socket is there a moment before somebody listens on it.
                Err(ConnectError::Dial { .. })
                    if process.has_ended().is_none() && Instant::now() < deadline =>
                {
                    tokio::time::sleep(nbdkit::LOOK).await;
                }
                connected => return connected,
            }
        }
    }
}

#[async_trait]
impl DiskReader for VddkReader {
    fn read_by(&self) -> ReadBy {
        ReadBy { name: "vddk", reason: "VDDK is set up" }
    }

    fn reads_chains(&self) -> bool {
        true
    }

    fn check(&self, _: &Vm, _: Option<&str>) -> Result<(), SourceError> {
        let libraries = self.options.libdir.join("lib64");
        if !LIBRARIES.iter().any(|it| libraries.join(it).is_file()) {
            let text = format!(
                "there is no VDDK of version 6.5 to 8 in `{}`; unpack it there, or correct source.vddk.libdir, see docs/vsphere.md",
                libraries.display()
            );
            return Err(SourceError::VddkUnusable(text));
        }
        match self.options.plugin.as_deref().filter(|it| !Path::is_file(it)) {
            None => Ok(()),
            Some(plugin) => Err(SourceError::VddkUnusable(format!(
                "there is no plugin of nbdkit at `{}`; correct source.vddk.plugin, see docs/vsphere.md",
                plugin.display()
            ))),
        }
    }

    /// VDDK reads every kind of file, and resolves chains.
    fn refuses(&self, disk: &Disk, _: Option<&str>) -> Option<&'static str> {
        let named = disk.backing.file_name.starts_with('[');
        (!named).then_some("its file has no name that can be asked for")
    }

    async fn open(
        &self,
        frozen: &FrozenDisk,
        place: Place,
    ) -> Result<Arc<dyn BlockDevice>, SourceError> {
        let key = listing::disk_id(&frozen.disk);
        // Another disk may have been refused since the job was planned, or may be at this moment.
        let login = frozen.client.login();
        let turn = self.logins.turn_beside(login, &frozen.vm.value).await?;
        let deadline = Instant::now() + self.options.start;
        let (options, tasks) = (&self.options, &self.tasks);
        let process = Nbdkit::start(options, frozen, place, tasks, &self.logins, deadline).await?;
        let connected = self.connect(&process, deadline).await;
        process.forget_password();
        let client = match connected {
            Ok(client) => client,
            Err(error) => {
                let reason = process.complaint(&error.to_string()).await;
                // Where nobody answers, or the process ends of itself, VDDK has not come as far as the server.
                let ends = matches!(error, ConnectError::Broken { .. });
                let before = matches!(error, ConnectError::Dial { .. })
                    || (ends && process.ends_soon().await);
                return Err(if before && !process.is_refused() {
                    SourceError::VddkUnusable(reason)
                } else {
                    SourceError::VddkFailed { key, reason }
                });
            }
        };
        self.logins.is_accepted_beside(login);
        drop(turn);
        let (expected, found) = (frozen.disk.capacity_bytes, client.size());
        if found != expected {
            return Err(SourceError::CapacityMismatch { key, expected, found });
        }
        Ok(Arc::new(VddkDisk::new(client, process, self.tasks.clone())))
    }
}
