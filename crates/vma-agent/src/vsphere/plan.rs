//! What a request means at the server, and whether it can be done; nothing is changed here.

use hub_vsphere::{BackingKind, Client, Disk, SnapshotNode, Vm};

use super::fault::of_call;
use super::ledger::snapshot_name;
use super::{Shared, listing};
use crate::source::{AskedDisk, OpenRequest, SourceError};

/// A VM whose asked disks can be read.
pub(super) struct Planned {
    pub(super) vm: Vm,
    /// Inventory path of its datacenter, where the account sees it.
    pub(super) datacenter: Option<String>,
    /// Whether snapshots of others are beneath ours.
    pub(super) on_snapshots: bool,
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
        let foreign = self.foreign_snapshot(&vm, &request.job_id);
        if let Some(snapshot) = foreign.as_ref().filter(|_| !self.reader.reads_chains()) {
            let snapshot = snapshot.clone();
            return Err(SourceError::HasSnapshots { vm: vm.name, snapshot });
        }
        self.logins.check_beside(client.login())?;
        for asked in &request.disks {
            self.check_disk(asked_disk(&vm, &vm.disks, asked)?)?;
        }
        let places = client.places_above(&vm).await.map_err(|error| of_call(&error))?;
        let datacenter = places.datacenter_path(&vm);
        self.reader.check(&vm, datacenter.as_deref())?;
        Ok(Planned { vm, datacenter, on_snapshots: foreign.is_some() })
    }

    /// A snapshot of somebody else, which makes deltas of the disks; our leftovers go before it matters.
    fn foreign_snapshot(&self, vm: &Vm, job_id: &str) -> Option<String> {
        let mut ours: Vec<_> = self.ledger.left_over().into_iter().map(|it| it.name).collect();
        ours.push(snapshot_name(job_id));
        let mut all = vm.snapshots.iter().flat_map(SnapshotNode::all);
        all.find(|it| !ours.contains(&it.name)).map(|it| it.name.clone())
    }

    /// Whether a disk can be read through a snapshot, by the reader that there is.
    pub(super) fn check_disk(&self, disk: &Disk) -> Result<(), SourceError> {
        let Some(reason) = unreadable(disk).or_else(|| self.reader.refuses(disk)) else {
            return Ok(());
        };
        Err(SourceError::BadDisk {
            key: listing::disk_id(disk),
            file: disk.backing.file_name.clone(),
            reason: reason.to_owned(),
            unsupported: true,
        })
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

/// Why a disk cannot be read through a snapshot at all.
fn unreadable(disk: &Disk) -> Option<&'static str> {
    let backing = &disk.backing;
    if backing.kind == BackingKind::RawPhysical {
        return Some(
            "it is a raw device that the VM speaks to directly, so that snapshots leave it out",
        );
    }
    if backing.is_independent() {
        return Some("it is independent, so that snapshots leave it out");
    }
    if backing.encrypted {
        return Some("it is encrypted, and its file holds nothing that can be restored");
    }
    let shared = backing.sharing.as_deref() == Some("sharingMultiWriter")
        || disk.controller.as_ref().is_some_and(hub_vsphere::Controller::is_shared);
    shared.then_some("it is shared with other VMs, so that it takes no snapshot")
}
