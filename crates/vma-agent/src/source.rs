//! What a VMA reads from, as the jobs and the API see it.

mod error;

pub use error::{FaultClass, SourceError};

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use hub_block::BlockDevice;
use hub_vma_api::{
    CleanupOutcome, CleanupReport, CleanupRequest, Credentials, CredentialsTest, DiscoverRequest,
    Inventory, Lie, OwedSnapshot, SnapshotReport,
};

/// A place with VMs: a datastore folder, or a vSphere endpoint.
///
/// Concurrency: all methods may be called at the same time.
/// Cancellation: dropping a future ends what it began; what cannot end by dropping alone
/// (a snapshot at the hypervisor) an implementation records before it makes it.
#[async_trait]
pub trait Source: Send + Sync {
    /// The word for it on the wire: `folder` or `vsphere`.
    fn kind(&self) -> &'static str;

    /// The vCenter or host that is read, where it is one.
    fn host(&self) -> Option<String> {
        None
    }

    /// Lists the VMs with their disks; a VM that cannot be listed becomes a warning, not an error.
    async fn inventory(&self, request: &DiscoverRequest) -> Result<Inventory, SourceError>;

    /// Says what [`open`](Self::open) would refuse, without opening anything.
    async fn check(&self, request: &OpenRequest) -> Result<(), SourceError>;

    /// Opens all asked disks of a VM at one instant, for reading.
    async fn open(&self, request: &OpenRequest) -> Result<Box<dyn Snapshot>, SourceError>;

    /// Whether [`open`](Self::open) takes a snapshot at the hypervisor, which has to be removed again.
    fn takes_snapshots(&self) -> bool {
        false
    }

    /// Whether a snapshot of a job is at the hypervisor, or may be or come to be there.
    fn owes(&self, _job_id: &str) -> bool {
        false
    }

    /// The snapshots that are on record as owed.
    fn owed(&self) -> Vec<OwedSnapshot> {
        Vec::new()
    }

    /// Strikes a snapshot off the record and touches nothing at the hypervisor; whether it was on record.
    async fn strike_off(&self, _job_id: &str) -> Result<bool, SourceError> {
        Ok(false)
    }

    /// What an opening, or a reader, of a job waits for, in a sentence.
    fn waits_for(&self, _job_id: &str) -> Option<String> {
        None
    }

    /// Logs in and out again; a source that wants no credentials looks at none.
    async fn test(&self, _credentials: &Credentials) -> Result<CredentialsTest, SourceError> {
        Ok(CredentialsTest { wanted: false, about: None })
    }

    /// Removes the snapshot of a job that is over; a source that takes none has none.
    async fn clean_up(&self, _request: &CleanupRequest) -> Result<CleanupReport, SourceError> {
        Ok(CleanupReport { outcome: CleanupOutcome::None, error: None })
    }
}

/// Which disks of which VM to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenRequest {
    /// The job: also the name of a snapshot, where one is taken.
    pub job_id: String,
    /// The source's own id of the VM.
    pub vm_id: String,
    /// The id of the vCenter that the VM is of, where the caller knows it; any other is refused.
    pub vcenter_uuid: Option<String>,
    /// How to log in, for a source that wants it; the others ignore it.
    pub credentials: Option<Credentials>,
    /// The disks in the order wanted.
    pub disks: Vec<AskedDisk>,
    /// Whether the guest is brought to rest for a snapshot; as the source is set up where nothing is said.
    pub quiesce: Option<bool>,
}

/// A disk to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedDisk {
    /// The hypervisor's id (`disk-2000`).
    pub key: String,
    /// The capacity that the caller expects; any other is refused.
    pub capacity_bytes: u64,
    /// The id of the disk that the caller means, where it knows one; a source that tells another one refuses.
    pub backing_uuid: Option<String>,
    /// Whether the parent of its copy has another capacity.
    pub grown: bool,
}

impl OpenRequest {
    /// The disks that have another capacity than the parents of their copies.
    pub fn grown(&self) -> BTreeSet<String> {
        self.disks.iter().filter(|it| it.grown).map(|it| it.key.clone()).collect()
    }
}

/// A change that a source has left out.
#[derive(Clone, Debug)]
pub struct Caught {
    /// What was found, in a sentence.
    pub why: String,
    /// The mark since which the source had been asked what has changed.
    pub change_id: String,
    /// What was found.
    pub lie: Lie,
}

/// Disks held open at one instant; dropping it ends what it holds, [`close`](Self::close) does so and waits.
#[async_trait]
pub trait Snapshot: Send + Sync {
    /// The disks in the order asked.
    fn disks(&self) -> &[OpenDisk];

    /// Opens the bytes of a disk, read-only; what is opened ends when the device is dropped.
    ///
    /// Waits while as many disks are read as may be read at a time.
    async fn reader(&self, disk: usize) -> Result<Arc<dyn BlockDevice>, SourceError>;

    /// What has changed on a disk since an earlier opening reported `change_id`.
    async fn changed_since(&self, disk: usize, change_id: &str) -> Changed;

    /// What this source says of the changes of a disk was found to be wrong, and is not to be believed by a later opening
    /// either; for a source that can remember it.
    async fn distrust(&self, _disk: usize, _caught: &Caught) {}

    /// What [`distrust`](Self::distrust) was told of a disk and a mark, in this opening or an earlier one: whoever asked
    /// then may never have heard of it.
    fn caught(&self, _disk: usize, _change_id: &str) -> Option<Lie> {
        None
    }

    /// Whether what was read is still what was opened; an error makes the copy worthless.
    async fn check_unchanged(&self, disk: usize) -> Result<(), SourceError>;

    /// What is told of the snapshot at the hypervisor, where one was taken.
    fn report(&self) -> Option<SnapshotReport> {
        None
    }

    /// Gives everything back and waits until it is gone.
    async fn close(self: Box<Self>) -> Result<(), SourceError>;
}

/// One disk of a [`Snapshot`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenDisk {
    /// The hypervisor's id.
    pub key: String,
    /// The mark for a later [`Snapshot::changed_since`].
    pub change_id: Option<String>,
    /// Why there is no mark, where the source knows: a later run reads everything then.
    pub no_mark: Option<String>,
    /// The way to its bytes, where the source knows several.
    pub read_by: Option<ReadBy>,
}

/// A way to the bytes of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadBy {
    /// The word for it on the wire: `vddk` or `https`.
    pub name: &'static str,
    /// Why it was chosen.
    pub reason: &'static str,
}

/// What a source knows about changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// These byte ranges may differ, nothing else does; in order, without overlaps, perhaps none.
    Areas(Vec<Range<u64>>),
    /// It cannot be said, and why; the disk has to be read.
    Unknown(String),
}
