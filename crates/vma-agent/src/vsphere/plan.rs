//! What a request means at the server, and whether it can be done; nothing is changed here.

use hub_vsphere::{BackingKind, Client, DatastoreFile, Disk, Vm};

use super::fault::of_call;
use super::ledger::snapshot_name;
use super::{Shared, listing};
use crate::source::{AskedDisk, OpenRequest, SourceError};

/// A VM whose asked disks can be read.
pub(super) struct Planned {
    pub(super) vm: Vm,
    /// The file of each asked disk, in the order asked.
    pub(super) files: Vec<DatastoreFile>,
}

impl Shared {
    /// Finds the VM and its disks, or says why they cannot be read.
    pub(super) async fn plan(
        &self,
        client: &Client,
        request: &OpenRequest,
    ) -> Result<Planned, SourceError> {
        let vm = self.find(client, &request.vm_id).await?;
        if vm.template {
            let reason = "it is a template, which takes no snapshot; convert it to a VM first";
            return Err(SourceError::BadVm { vm: vm.name, reason: reason.to_owned() });
        }
        self.check_snapshots(&vm, &request.job_id)?;
        let places = client.places_above(&vm).await.map_err(|error| of_call(&error))?;
        let datacenter = places.datacenter_path(&vm).ok_or_else(|| SourceError::BadVm {
            vm: vm.name.clone(),
            reason: "the account does not see the datacenter that it lies in".to_owned(),
        })?;
        let files = request.disks.iter().map(|asked| {
            let disk = asked_disk(&vm, &vm.disks, asked)?;
            file(disk, &datacenter)
        });
        let files = files.collect::<Result<_, _>>()?;
        Ok(Planned { vm, files })
    }

    /// Snapshots of others make deltas of the disks, which cannot be read over HTTPS; our leftovers go before that.
    fn check_snapshots(&self, vm: &Vm, job_id: &str) -> Result<(), SourceError> {
        let mut ours: Vec<_> = self.ledger.left_over().into_iter().map(|it| it.name).collect();
        ours.push(snapshot_name(job_id));
        let all = vm.snapshots.iter().flat_map(hub_vsphere::SnapshotNode::all);
        match all.map(|it| &it.name).find(|name| !ours.contains(name)) {
            None => Ok(()),
            Some(name) => {
                Err(SourceError::HasSnapshots { vm: vm.name.clone(), snapshot: name.clone() })
            }
        }
    }
}

/// The disk that a request names, if it has the capacity that its target was made for.
pub(super) fn asked_disk<'d>(
    vm: &Vm,
    disks: &'d [Disk],
    asked: &AskedDisk,
) -> Result<&'d Disk, SourceError> {
    let disk = disks.iter().find(|it| listing::disk_id(it) == asked.key);
    let disk = disk.ok_or_else(|| SourceError::DiskNotFound {
        vm: vm.name.clone(),
        key: asked.key.chars().take(200).collect(),
    })?;
    if disk.capacity_bytes == asked.capacity_bytes {
        return Ok(disk);
    }
    Err(SourceError::CapacityMismatch {
        key: asked.key.clone(),
        expected: asked.capacity_bytes,
        found: disk.capacity_bytes,
    })
}

/// The file that holds a disk's bytes, where there is one.
pub(super) fn file(disk: &Disk, datacenter: &str) -> Result<DatastoreFile, SourceError> {
    let refuse = |reason: &str| SourceError::BadDisk {
        key: listing::disk_id(disk),
        file: disk.backing.file_name.clone(),
        reason: reason.to_owned(),
        unsupported: true,
    };
    if let Some(reason) = unreadable(disk) {
        return Err(refuse(reason));
    }
    DatastoreFile::flat_of(datacenter, &disk.backing.file_name)
        .ok_or_else(|| refuse("its file has no name that can be asked for"))
}

/// Why a disk cannot be read through a snapshot and over HTTPS.
fn unreadable(disk: &Disk) -> Option<&'static str> {
    let backing = &disk.backing;
    match &backing.kind {
        BackingKind::Flat => {}
        BackingKind::RawPhysical | BackingKind::RawVirtual => {
            return Some("it is a raw device, which is no file");
        }
        BackingKind::Sparse | BackingKind::SeSparse | BackingKind::Other(_) => {
            return Some("its file is not of a flat format");
        }
    }
    if backing.is_independent() {
        return Some("it is independent, so that snapshots leave it out");
    }
    if backing.encrypted {
        return Some("it is encrypted, and its file holds nothing that can be restored");
    }
    let shared = backing.sharing.as_deref() == Some("sharingMultiWriter")
        || disk.controller.as_ref().is_some_and(hub_vsphere::Controller::is_shared);
    if shared {
        return Some("it is shared with other VMs, so that it takes no snapshot");
    }
    if backing.parent.is_some() {
        return Some("it stands on a snapshot, and a delta alone cannot be read over HTTPS");
    }
    None
}
