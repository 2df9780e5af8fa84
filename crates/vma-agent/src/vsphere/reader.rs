//! The ways to the bytes of a snapshot's disk, and which one is taken.

use std::sync::Arc;

use async_trait::async_trait;
use hub_block::BlockDevice;
use hub_vsphere::{Client, Disk, MoRef, Vm};

use super::Tasks;
use super::datastore_disk::DatastoreReader;
use super::host_budget::Place;
use super::session::Logins;
use super::vddk::{VddkOptions, VddkReader};
use crate::source::{ReadBy, SourceError};

/// One way to the bytes of disks.
///
/// Cancellation: dropping an opening, or what was opened, ends whatever was begun for it.
#[async_trait]
pub(super) trait DiskReader: Send + Sync {
    /// Its name, and why it is the one that is taken.
    fn read_by(&self) -> ReadBy;

    /// Whether it reads a disk that stands on snapshots of others.
    fn reads_chains(&self) -> bool;

    /// Whether it could begin with a VM at all; asked before a snapshot is taken.
    fn check(&self, vm: &Vm, datacenter: Option<&str>) -> Result<(), SourceError>;

    /// Why it cannot read a disk, on a datastore of this kind, beyond what forbids any reading.
    fn refuses(&self, disk: &Disk, datastore_type: Option<&str>) -> Option<&'static str>;

    /// Opens a disk of a snapshot; it has the size that the server told of it, and keeps its place at the host until
    /// nothing of it is left there.
    async fn open(
        &self,
        frozen: &FrozenDisk,
        place: Place,
    ) -> Result<Arc<dyn BlockDevice>, SourceError>;
}

/// A disk of a snapshot, and how to get at it.
#[derive(Clone)]
pub(super) struct FrozenDisk {
    pub(super) client: Arc<Client>,
    /// Inventory path of the datacenter, where the account sees it.
    pub(super) datacenter: Option<String>,
    pub(super) vm: MoRef,
    pub(super) snapshot: MoRef,
    pub(super) disk: Disk,
}

/// VDDK where it is set up, HTTPS else.
pub(super) fn choose(
    vddk: Option<&VddkOptions>,
    reads_at_once: usize,
    tasks: &Arc<Tasks>,
    logins: &Arc<Logins>,
) -> Arc<dyn DiskReader> {
    match vddk {
        Some(options) => Arc::new(VddkReader::new(options.clone(), tasks.clone(), logins.clone())),
        None => Arc::new(DatastoreReader::new(reads_at_once)),
    }
}
