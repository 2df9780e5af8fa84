//! What a request means at the server, and whether it can be done; nothing is changed here.

use hub_vma_api::is_name_of_a_job;
use hub_vsphere::{BackingKind, Client, Disk, Places, SnapshotNode, Vm};

use super::fault::of_call;
use super::ledger::snapshot_name;
use super::{Shared, listing};
use crate::source::{AskedDisk, OpenRequest, SourceError};

/// A VM whose asked disks can be read.
pub(super) struct Planned {
    pub(super) vm: Vm,
    /// Inventory path of its datacenter, where the account sees it.
    pub(super) datacenter: Option<String>,
    /// What is around the VM, the datastores of its disks too.
    pub(super) places: Places,
    /// A snapshot of another job of ours.
    pub(super) of_another_job: Option<String>,
    /// Whether snapshots are beneath ours, whoever took them.
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
        let (ours, foreign) = others(&vm, &request.job_id);
        if let Some(snapshot) = foreign.clone().filter(|_| !self.reader.reads_chains()) {
            return Err(SourceError::HasSnapshots { vm: vm.name, snapshot });
        }
        self.logins.check_beside(client.login(), &vm.moref.value)?;
        let places = client.places_above(&vm).await.map_err(|error| of_call(&error))?;
        for asked in &request.disks {
            self.check_disk(asked_disk(&vm, &vm.disks, asked)?, &places)?;
        }
        let datacenter = places.datacenter_path(&vm);
        self.reader.check(&vm, datacenter.as_deref())?;
        let on_snapshots = ours.is_some() || foreign.is_some();
        Ok(Planned { vm, datacenter, places, of_another_job: ours, on_snapshots })
    }

    /// Refuses a VM that has a snapshot of another job when the turn of this one has come: a leftover that cannot be
    /// removed, or that somebody else is to remove.
    pub(super) fn check_leftover(&self, planned: &Planned) -> Result<(), SourceError> {
        let Some(snapshot) = planned.of_another_job.clone().filter(|_| !self.reader.reads_chains())
        else {
            return Ok(());
        };
        Err(SourceError::LeftoverSnapshot { vm: planned.vm.name.clone(), snapshot })
    }

    /// Whether a disk can be read through a snapshot, by the reader that there is.
    pub(super) fn check_disk(&self, disk: &Disk, places: &Places) -> Result<(), SourceError> {
        let refused = || self.reader.refuses(disk, datastore_type(places, disk));
        let Some(reason) = unreadable(disk).or_else(refused) else { return Ok(()) };
        Err(SourceError::BadDisk {
            key: listing::disk_id(disk),
            file: disk.backing.file_name.clone(),
            reason: reason.to_owned(),
            unsupported: true,
        })
    }
}

/// The first snapshots of a VM that are not of this job: one of another job of ours, and one of somebody else.
///
/// Ours are told by their names, so that neither a job that is at work nor what a lost state directory knew of is taken
/// for somebody else's.
fn others(vm: &Vm, job_id: &str) -> (Option<String>, Option<String>) {
    let of_this_job = snapshot_name(job_id);
    let all: Vec<_> = vm.snapshots.iter().flat_map(SnapshotNode::all).collect();
    let first = |ours: bool| {
        let mut all = all.iter().filter(|it| it.name != of_this_job);
        all.find(|it| is_name_of_a_job(&it.name) == ours).map(|it| it.name.clone())
    };
    (first(true), first(false))
}

/// The disk that a request names, if it is the one that is meant and has the capacity that its target was made for.
///
/// Trap D8: a key is whose it is now, and an exchanged disk of equal size would be read as the one before it. Disks
/// keep their id beneath snapshots and in other datastores; where one end does not know it, nothing is compared.
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
    if let (Some(meant), Some(found)) = (plain(&asked.backing_uuid), plain(&disk.backing.uuid))
        && meant != found
    {
        let shown = |text: &str| text.chars().take(100).collect();
        return Err(SourceError::OtherDisk {
            key: shown(&asked.key),
            expected: shown(&meant),
            found: shown(&found),
        });
    }
    if disk.capacity_bytes == asked.capacity_bytes {
        return Ok(disk);
    }
    Err(SourceError::CapacityMismatch {
        key: asked.key.clone(),
        expected: asked.capacity_bytes,
        found: disk.capacity_bytes,
    })
}

/// The id of a disk as it is compared: two spellings are one id, and an empty one is none.
fn plain(uuid: &Option<String>) -> Option<String> {
    let uuid = uuid.as_deref().map(str::trim).filter(|it| !it.is_empty());
    uuid.map(str::to_ascii_lowercase)
}

/// The kind of the datastore that a disk lies on, where the account sees it.
pub(super) fn datastore_type<'p>(places: &'p Places, disk: &Disk) -> Option<&'p str> {
    disk.backing.datastore.as_ref().and_then(|it| places.datastore_type(it))
}

/// Why a disk cannot be read through a snapshot at all.
pub(super) fn unreadable(disk: &Disk) -> Option<&'static str> {
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
