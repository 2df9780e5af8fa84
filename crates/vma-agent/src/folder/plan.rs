//! Which layer of each disk is read, and its files, held open from here on.

use std::path::{Path, PathBuf};

use super::folder_vm::{FolderVm, Power};
use super::walk::is_locked;
use crate::source::{AskedDisk, SourceError};
use crate::vmdk::{Chain, Datastore, Directory, Located, VmdkDisk, VmdkError};
use crate::vmx::VirtualDisk;

/// An open disk: the chain from the layer that is read down to the base.
#[derive(Clone, Debug)]
pub(super) struct PlannedDisk {
    pub(super) key: String,
    pub(super) chain: Chain,
    /// The directory that the chain lies in.
    pub(super) directory: Directory,
    pub(super) device: VmdkDisk,
    /// Directories that must stay without a lock; none where the layer is frozen by a snapshot.
    pub(super) quiet: Vec<PathBuf>,
}

/// Plans all asked disks of a VM.
///
/// A VM that is off is read at the top of its chains.
/// One that runs is read below the top, which is the state of its newest snapshot, for all disks the same one.
pub(super) fn plan(
    stores: &[Datastore],
    vm: &FolderVm,
    asked: &[AskedDisk],
) -> Result<Vec<PlannedDisk>, SourceError> {
    asked.iter().map(|asked| plan_disk(stores, vm, asked)).collect()
}

fn plan_disk(
    stores: &[Datastore],
    vm: &FolderVm,
    asked: &AskedDisk,
) -> Result<PlannedDisk, SourceError> {
    let key = &asked.key;
    let disk = vm.vmx.disks.iter().find(|it| it.slot.disk_id() == *key).ok_or_else(|| {
        let key = key.chars().take(200).collect();
        SourceError::DiskNotFound { vm: vm.name.clone(), key }
    })?;
    let (Located { directory, .. }, chain) = disk_chain(stores, vm, disk)?;
    let beside = directory.path().to_owned();
    let locked = |at: &Path| {
        let file = at.display().to_string();
        is_locked(at).map_err(|it| SourceError::BadVm { vm: file, reason: it.to_string() })
    };
    let running =
        vm.power == Power::On || locked(&vm.home)? || (beside != vm.home && locked(&beside)?);
    let (chain, quiet) = if running {
        let frozen = chain.frozen().ok_or_else(|| SourceError::RunningWithoutSnapshot {
            vm: vm.name.clone(),
            key: key.clone(),
        })?;
        (frozen, Vec::new())
    } else {
        (chain, vec![vm.home.clone(), beside])
    };
    if chain.capacity() != asked.capacity_bytes {
        return Err(SourceError::CapacityMismatch {
            key: key.clone(),
            expected: asked.capacity_bytes,
            found: chain.capacity(),
        });
    }
    let device = VmdkDisk::open(&directory, &chain);
    let device = device.map_err(|it| SourceError::bad_disk(key, &disk.file_name, &it))?;
    Ok(PlannedDisk { key: key.clone(), chain, directory, device, quiet })
}

/// The whole chain of a disk, and the directory that it lies in.
pub(super) fn disk_chain(
    stores: &[Datastore],
    vm: &FolderVm,
    disk: &VirtualDisk,
) -> Result<(Located, Chain), SourceError> {
    let key = disk.slot.disk_id();
    let refuse = |error: VmdkError| SourceError::bad_disk(&key, &disk.file_name, &error);
    let located = Datastore::locate(stores, &vm.home, &disk.file_name).map_err(refuse)?;
    let chain = Chain::read(&located.directory, &located.name).map_err(refuse)?;
    Ok((located, chain))
}
