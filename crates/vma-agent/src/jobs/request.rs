//! What a copy request must satisfy before anything is done for it.

use std::collections::HashSet;

use hub_data_mover::{BlockSize, Digest};
use hub_vma_api::{CopyDisk, CopyMethod, CopyRates, CopyRequest, NbdTarget, ParentManifest};

use crate::source::{AskedDisk, OpenRequest};

/// The most disks of a VM: four controllers of 64 and some.
const MAX_DISKS: usize = 512;

/// The longest id of a job.
const MAX_JOB_ID: usize = 128;

/// The largest disk, 1 PiB: the bound of everything that is derived from a capacity.
const MAX_CAPACITY: u64 = 1 << 50;

/// The lowest limit in bytes per second: one block of 64 KiB.
const MIN_RATE: u64 = 64 * 1024;

/// A request that contradicts itself, with a stable code.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct InvalidRequest {
    /// The stable code (`copy/duplicate-target`).
    pub code: &'static str,
    detail: String,
}

/// A request that was checked.
#[derive(Clone, Debug)]
pub(super) struct ValidRequest {
    request: CopyRequest,
    fingerprint: blake3::Hash,
}

impl ValidRequest {
    pub(super) fn new(request: CopyRequest) -> Result<Self, InvalidRequest> {
        check(&request)?;
        // Credentials may change between two attempts of the same job, and no trace of them is kept; rates may, too.
        let bare =
            CopyRequest { credentials: None, rates: CopyRates::default(), ..request.clone() };
        let bytes = serde_json::to_vec(&bare)
            .map_err(|error| invalid("copy/invalid-request", error.to_string()))?;
        Ok(Self { request, fingerprint: blake3::hash(&bytes) })
    }

    pub(super) fn job_id(&self) -> &str {
        &self.request.job_id
    }

    pub(super) fn vm_id(&self) -> &str {
        &self.request.vm_id
    }

    pub(super) fn disks(&self) -> &[CopyDisk] {
        &self.request.disks
    }

    /// Everything on the hub that the job would connect to.
    pub(super) fn targets(&self) -> impl Iterator<Item = &NbdTarget> {
        let disks = self.request.disks.iter();
        disks.flat_map(|it| std::iter::once(&it.target).chain(digests(it).map(|it| &it.target)))
    }

    pub(super) fn rates(&self) -> CopyRates {
        self.request.rates
    }

    /// Tells two requests with one job id apart.
    pub(super) fn fingerprint(&self) -> blake3::Hash {
        self.fingerprint
    }

    /// What the source is asked for.
    pub(super) fn to_open(&self) -> OpenRequest {
        let asked = |it: &CopyDisk| AskedDisk {
            key: it.key.clone(),
            capacity_bytes: it.capacity_bytes,
            backing_uuid: it.backing_uuid.clone(),
            grown: it
                .parent
                .as_ref()
                .is_some_and(|parent| parent.capacity_bytes != it.capacity_bytes),
        };
        OpenRequest {
            job_id: self.request.job_id.clone(),
            vm_id: self.request.vm_id.clone(),
            vcenter_uuid: self.request.vcenter_uuid.clone(),
            credentials: self.request.credentials.clone(),
            disks: self.request.disks.iter().map(asked).collect(),
            quiesce: self.request.quiesce,
        }
    }
}

fn check(request: &CopyRequest) -> Result<(), InvalidRequest> {
    let id = &request.job_id;
    let id_is_plain = (1..=MAX_JOB_ID).contains(&id.len())
        && id.bytes().all(|it| it.is_ascii_alphanumeric() || b"-_.".contains(&it));
    if !id_is_plain {
        let detail = "a job id has 1 to 128 letters, digits, `-`, `_` or `.`";
        return Err(invalid("copy/invalid-job-id", detail));
    }
    if request.disks.is_empty() || request.disks.len() > MAX_DISKS {
        let detail = format!("name between 1 and {MAX_DISKS} disks");
        return Err(invalid("copy/invalid-disk-count", detail));
    }
    let CopyRates { job, vma, .. } = request.rates;
    if [job, vma].into_iter().flatten().any(|rate| rate < MIN_RATE) {
        let detail = format!("a limit is at least {MIN_RATE} bytes per second");
        return Err(invalid("copy/invalid-limit", detail));
    }
    let mut keys = HashSet::new();
    let mut targets = HashSet::new();
    for disk in &request.disks {
        if !keys.insert(&disk.key) {
            let detail = format!("disk `{}` is named twice", shown(&disk.key));
            return Err(invalid("copy/duplicate-disk", detail));
        }
        // Trap D8: two disks written to one target destroy each other.
        let target = &disk.target;
        if !targets.insert((&target.host, target.port, &target.export)) {
            let detail = format!(
                "disk `{}` has the target of another disk; give each disk a target of its own",
                shown(&disk.key)
            );
            return Err(invalid("copy/duplicate-target", detail));
        }
        check_disk(disk)?;
    }
    Ok(())
}

fn check_disk(disk: &CopyDisk) -> Result<(), InvalidRequest> {
    let key = shown(&disk.key);
    if disk.capacity_bytes == 0 || disk.capacity_bytes > MAX_CAPACITY {
        let detail =
            format!("disk `{key}` needs its capacity in bytes, more than 0; run discovery");
        return Err(invalid("copy/invalid-capacity", detail));
    }
    if let Err(error) = BlockSize::new(disk.block_size) {
        return Err(invalid("copy/invalid-block-size", format!("disk `{key}`: {error}")));
    }
    if disk.target.host.is_empty() || disk.target.port == 0 || disk.target.export.is_empty() {
        let detail = format!("the target of disk `{key}` needs a host, a port and an export name");
        return Err(invalid("copy/invalid-target", detail));
    }
    if disk.parent.is_none() && disk.method != CopyMethod::Full {
        let detail = format!("disk `{key}`: only a full copy can do without the parent's digests");
        return Err(invalid("copy/parent-required", detail));
    }
    digests(disk).try_for_each(|it| check_digests(disk, it))
}

/// The tables that a disk is compared with.
fn digests(disk: &CopyDisk) -> impl Iterator<Item = &ParentManifest> {
    disk.parent.iter().chain(disk.chain_audit.iter().map(|it| &it.point))
}

fn check_digests(disk: &CopyDisk, parent: &ParentManifest) -> Result<(), InvalidRequest> {
    let key = shown(&disk.key);
    if parent.block_size != disk.block_size {
        let detail = format!("disk `{key}`: the parent has another block size; start a full copy");
        return Err(invalid("copy/parent-block-size", detail));
    }
    if parent.capacity_bytes == 0 || parent.capacity_bytes > disk.capacity_bytes {
        let detail = format!("disk `{key}` is smaller than its parent; start a full copy");
        return Err(invalid("copy/parent-larger", detail));
    }
    if parent.root.parse::<Digest>().is_err() {
        let detail = format!("disk `{key}`: the parent's root is not a digest");
        return Err(invalid("copy/invalid-parent-root", detail));
    }
    Ok(())
}

fn invalid(code: &'static str, detail: impl Into<String>) -> InvalidRequest {
    InvalidRequest { code, detail: detail.into() }
}

/// The beginning of a name from the wire.
fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}
