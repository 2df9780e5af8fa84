//! A VM of the vCenter, whose disks are files that a test writes to as the guest would.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use hub_vsphere_peer::{DiskShape, VmShape, VspherePeer};
use serde_json::Value;

use crate::api::Fields as _;
use crate::judge::Image;

/// The key of the first disk; the others follow.
const FIRST_KEY: i32 = 2000;

/// A VM with its backing files.
#[derive(Debug)]
pub struct Guest {
    name: String,
    disks: Vec<PathBuf>,
}

impl Guest {
    /// Makes the first VM of the vCenter one of this name, with thin disks of these capacities in bytes.
    pub fn make(peer: &VspherePeer, name: &str, capacities: &[u64]) -> Result<Self> {
        let vm = peer.vms()?.into_keys().next().context("a vCenter has VMs")?;
        let disks = (0..).zip(capacities).map(|(unit, capacity)| DiskShape {
            key: FIRST_KEY + unit,
            unit,
            file: format!("{name}-{unit}.vmdk"),
            capacity: *capacity,
            uuid: format!("6000C29{unit:x}-1111-2222-3333-0123456789ab"),
            thin: true,
            ..DiskShape::default()
        });
        let shape = VmShape {
            vm,
            name: Some(name.to_owned()),
            tracking_supported: Some(true),
            disks: Some(disks.collect()),
            ..VmShape::default()
        };
        Ok(Self { name: name.to_owned(), disks: peer.shape(&shape)?.files })
    }

    /// Its name when it was made.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The vCenter's key of a disk.
    pub(super) fn key(disk: usize) -> Result<i32> {
        Ok(FIRST_KEY + i32::try_from(disk)?)
    }

    /// The files with the bytes of its disks.
    pub fn disks(&self) -> &[PathBuf] {
        &self.disks
    }

    /// Puts an image of the same size in place of a disk's bytes.
    pub fn put(&self, disk: usize, image: &Path) -> Result<()> {
        let path = self.disks.get(disk).context("there is no such disk")?;
        let (new, old) = (image.metadata()?.len(), path.metadata()?.len());
        ensure!(new == old, "an image of {new} bytes for a disk of {old}");
        Ok(std::fs::rename(image, path)?)
    }

    /// Writes to a disk.
    pub fn write(&self, disk: usize, at: u64, bytes: &[u8]) -> Result<()> {
        let path = self.disks.get(disk).context("there is no such disk")?;
        Ok(File::options().write(true).open(path)?.write_all_at(bytes, at)?)
    }
}

/// Fails unless the image of a point is sound, as large as the disk and equal to its file, by tools that are not ours.
pub fn judge(repository: &Path, backup: &Value, file: &Path) -> Result<()> {
    ensure!(backup.flag("/proof/agrees")?, "both ends agree: {backup:#}");
    let path = repository.join(backup.text("/repository_path")?);
    let image = Image::new(&path, "qcow2");
    image.check()?;
    let size = image.virtual_size()?;
    ensure!(size == backup.number("/capacity_bytes")?, "{size} bytes: {backup:#}");
    Image::new(file, "raw").compare(image)
}
