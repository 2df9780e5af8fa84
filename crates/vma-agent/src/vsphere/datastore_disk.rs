//! Disks of a snapshot read by ranges of their files over HTTPS.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use hub_block::{BlockDevice, BlockError, Extent, ExtentKind, check_range};
use hub_vsphere::{BackingKind, Client, DatastoreFile, Disk, Vm, VsphereError};
use tokio::sync::Semaphore;

use super::fault::{of_call, of_read};
use super::host_budget::Place;
use super::listing;
use super::reader::{DiskReader, FrozenDisk};
use crate::source::{ReadBy, SourceError};

/// What a file that the snapshot names, and the server does not serve, may be, and what to do.
const NOT_SERVED: &str = "it lies on a vSAN or a vVol, another program holds its lock, or this vCenter does not serve such files: look for a backup that is at work on the VM, or read it through VDDK (docs/vsphere.md)";

/// Reads flat files of a datastore.
pub(super) struct DatastoreReader {
    /// What all jobs together may ask the hosts for at a time.
    reads: Arc<Semaphore>,
}

impl DatastoreReader {
    pub(super) fn new(reads_at_once: usize) -> Self {
        Self { reads: Arc::new(Semaphore::new(reads_at_once.max(1))) }
    }
}

#[async_trait]
impl DiskReader for DatastoreReader {
    fn read_by(&self) -> ReadBy {
        ReadBy { name: "https", reason: "no VDDK is set up, and the file of the disk is flat" }
    }

    fn reads_chains(&self) -> bool {
        false
    }

    fn check(&self, vm: &Vm, datacenter: Option<&str>) -> Result<(), SourceError> {
        if datacenter.is_some() {
            return Ok(());
        }
        let reason = "the account does not see the datacenter that it lies in".to_owned();
        Err(SourceError::BadVm { vm: vm.name.clone(), reason })
    }

    fn refuses(&self, disk: &Disk, datastore_type: Option<&str>) -> Option<&'static str> {
        match &disk.backing.kind {
            BackingKind::Flat => {}
            BackingKind::RawVirtual | BackingKind::RawPhysical => {
                return Some("it is a raw device, which is no file");
            }
            BackingKind::Sparse | BackingKind::SeSparse | BackingKind::Other(_) => {
                return Some("its file is not of a flat format, which only VDDK reads");
            }
        }
        if disk.backing.parent.is_some() {
            return Some("it stands on a snapshot, and a delta alone cannot be read over HTTPS");
        }
        match datastore_type.unwrap_or_default().to_ascii_lowercase().as_str() {
            "vsan" => return Some("it lies on a vSAN, whose objects only VDDK reads"),
            "vvol" => return Some("it lies on a vVol, which only VDDK reads"),
            _ => (),
        }
        let named = DatastoreFile::flat_of("", &disk.backing.file_name).is_some();
        (!named).then_some("its file has no name that can be asked for")
    }

    async fn open(
        &self,
        frozen: &FrozenDisk,
        place: Place,
    ) -> Result<Arc<dyn BlockDevice>, SourceError> {
        let FrozenDisk { client, datacenter, disk, .. } = frozen;
        let refused = |reason: String, unsupported: bool| SourceError::BadDisk {
            key: listing::disk_id(disk),
            file: disk.backing.file_name.clone(),
            reason,
            unsupported,
        };
        let bad = |reason: String| refused(reason, false);
        let datacenter = datacenter.as_deref().unwrap_or_default();
        let file = DatastoreFile::flat_of(datacenter, &disk.backing.file_name);
        let file = file.ok_or_else(|| bad("its file cannot be named".to_owned()))?;
        let size = client.file_size(&file).await.map_err(|error| {
            if matches!(error, VsphereError::FileRefused { .. }) {
                return refused(format!("{error}; {NOT_SERVED}"), true);
            }
            of_call(&error)
        })?;
        if size != disk.capacity_bytes {
            let (path, capacity) = (&file.path, disk.capacity_bytes);
            return Err(bad(format!("`{path}` has {size} bytes, and the disk {capacity}")));
        }
        let reads = self.reads.clone();
        Ok(Arc::new(DatastoreDisk { client: client.clone(), file, size, reads, _place: place }))
    }
}

/// The frozen file of a disk; the server says nothing about holes, so all of it is data.
struct DatastoreDisk {
    client: Arc<Client>,
    file: DatastoreFile,
    size: u64,
    reads: Arc<Semaphore>,
    _place: Place,
}

#[async_trait]
impl BlockDevice for DatastoreDisk {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_only(&self) -> bool {
        true
    }

    async fn read_at(&self, offset: u64, len: u32) -> Result<Bytes, BlockError> {
        check_range(offset, u64::from(len), self.size)?;
        let turn = self.reads.acquire().await;
        let _turn =
            turn.map_err(|_| BlockError::Disconnected("the source is closed".to_owned()))?;
        let read = self.client.read_file(&self.file, offset, len).await;
        read.map_err(|error| of_read(&error, offset))
    }

    async fn write_at(&self, _: u64, _: Bytes) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }

    async fn write_zeroes(&self, _: u64, _: u64) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }

    async fn extents(&self, offset: u64, len: u64) -> Result<Vec<Extent>, BlockError> {
        check_range(offset, len, self.size)?;
        let all = Extent { offset, len, kind: ExtentKind::Data };
        Ok(if len == 0 { Vec::new() } else { vec![all] })
    }

    async fn flush(&self) -> Result<(), BlockError> {
        Ok(())
    }
}
