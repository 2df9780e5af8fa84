//! Repositories and replicas as engines see them: images that are prepared, sealed, opened and deleted.

use async_trait::async_trait;
use hub_domain::backup::BackupType;
use hub_domain::capacity::Capacity;
use hub_domain::disk::DiskKey;
use hub_domain::fault::Fault;
use hub_domain::ids::{BackupJobId, VmContextId, VmDiskId};
use hub_domain::replication::ReplicaFormat;
use hub_domain::repository::Repository;
use hub_domain::restore::{PointVerdict, RestoreFormat};
use hub_domain::source::{NbdAddress, ParentTable, PreparedTarget};
use hub_domain::time::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::{Classify, ErrorClass, ProgressSink, told};

/// Images of restore points.
///
/// **Durable**: when [`seal_image`](Self::seal_image) has returned, image and manifest survive a power cut; before, nothing
/// of them can be taken for a restore point. Futures may be dropped; what they leave is removed by
/// [`abandon_image`](Self::abandon_image), which may be called any number of times.
#[async_trait]
pub trait BackupStorage: Send + Sync {
    /// Really tries a repository: creates, syncs and removes a file, and asks for the space left.
    async fn probe(&self, repository: &Repository) -> Result<RepositoryProbe, StorageError>;

    /// Creates an image and opens it for writing under an unguessable export name.
    async fn prepare_image(&self, order: &PrepareImage) -> Result<PreparedTarget, StorageError>;

    /// Ends writing, compares both ends' digests, and makes image and manifest durable under their names.
    ///
    /// [`StorageError::ProofMismatch`] leaves the image unsealed; abandon it.
    async fn seal_image(&self, order: &SealImage) -> Result<SealedImage, StorageError>;

    /// Closes the export and removes whatever exists of an image that never became a restore point.
    async fn abandon_image(&self, repository: &Repository, path: &str) -> Result<(), StorageError>;

    /// Closes an image that never became a restore point, and leaves what a later attempt can go on with; an image that
    /// is not open, or that nobody could go on with, is [abandoned](Self::abandon_image).
    async fn leave_image(&self, repository: &Repository, path: &str) -> Result<(), StorageError> {
        self.abandon_image(repository, path).await
    }

    /// Removes image and manifest of a restore point, durably; one that is gone already is no error.
    async fn delete_image(&self, repository: &Repository, path: &str) -> Result<(), StorageError>;

    /// Opens a read-only NBD export of a point, through its chain.
    async fn export_point(&self, point: &PointLocation) -> Result<ExportedPoint, StorageError>;

    /// Opens a read-only NBD export of the digests that the manifest of a point keeps of it.
    async fn export_digests(&self, point: &PointLocation) -> Result<ParentTable, StorageError>;

    /// Ends an export made by [`export_point`](Self::export_point) or [`export_digests`](Self::export_digests); an
    /// unknown name is no error.
    async fn close_export(&self, export: &str) -> Result<(), StorageError>;

    /// Reads a point through its chain and compares every block with its manifest. Whether the point is suspect is not
    /// known here.
    async fn verify_point(
        &self,
        point: &PointLocation,
        progress: &dyn ProgressSink,
        cancel: &CancellationToken,
    ) -> Result<PointVerdict, StorageError>;

    /// Writes a point to a file below the restore directory, checking every block against the manifest on the way.
    async fn restore_point(
        &self,
        point: &PointLocation,
        output: &RestoreOutput,
        progress: &dyn ProgressSink,
        cancel: &CancellationToken,
    ) -> Result<RestoredFile, StorageError>;

    /// Removes what an unfinished restore left; a finished file is never touched.
    async fn abandon_restore(&self, output: &RestoreOutput) -> Result<(), StorageError>;
}

/// Replica images: written in place, brought up to date run by run.
#[async_trait]
pub trait ReplicaStorage: Send + Sync {
    /// Creates or opens the replica of a disk and opens it for writing under an unguessable export name.
    ///
    /// From here on the replica counts as incomplete until it is sealed, so that a broken run is followed by a full one.
    async fn prepare_replica(&self, order: &PrepareReplica)
    -> Result<PreparedTarget, StorageError>;

    /// Ends writing, compares both ends' digests and marks the replica complete, durably; returns the agreed root.
    async fn seal_replica(
        &self,
        target: &PreparedTarget,
        source_root: &str,
    ) -> Result<String, StorageError>;

    /// Closes the export of a replica whose run did not succeed; the image stays, marked incomplete.
    async fn release_replica(&self, target: &PreparedTarget) -> Result<(), StorageError>;
}

/// What a repository can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepositoryProbe {
    /// Bytes free for this hub.
    pub free_bytes: u64,
    /// Bytes of the file system.
    pub total_bytes: u64,
}

/// Asks for an image to be written.
#[derive(Clone, Debug)]
pub struct PrepareImage {
    /// Where.
    pub repository: Repository,
    /// The point it will become.
    pub point: BackupJobId,
    /// Its VM.
    pub vm: VmContextId,
    /// Its disk.
    pub disk: VmDiskId,
    /// The disk's capacity now; an overlay gets this one, whatever its parent had (trap C22).
    pub capacity: Capacity,
    /// What it stands on.
    pub parent: Option<ParentImage>,
    /// Whether something may be there of an earlier attempt at the same point.
    ///
    /// What can be proven of it is kept, and [`PreparedTarget::kept_bytes`] and its table tell of it; everything else is
    /// removed, and the image begins anew. Without this, an image that is there already is an error.
    pub resume: bool,
}

impl PrepareImage {
    /// Where the image will lie, relative to the repository.
    ///
    /// It is known before the image exists and stored first, so that whatever dies in between leaves nothing that nobody
    /// knows of. It consists of ids only: names of VMs may hold anything (trap C23).
    pub fn path(&self) -> String {
        format!("{}/disk-{}/{}.qcow2", self.vm, self.disk, self.point)
    }
}

/// The image that an incremental stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentImage {
    /// The parent point.
    pub point: BackupJobId,
    /// Its image, relative to the repository.
    pub path: String,
}

/// Ends the writing of an image.
#[derive(Clone, Debug)]
pub struct SealImage {
    /// What [`BackupStorage::prepare_image`] returned.
    pub target: PreparedTarget,
    /// Root digest of what the VMA read, hexadecimal.
    pub source_root: String,
    /// What the manifest says about the point.
    pub identity: PointIdentity,
}

/// What a manifest says about its point, so that the repository alone can rebuild the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PointIdentity {
    /// The point.
    pub point: BackupJobId,
    /// Its VM.
    pub vm: VmContextId,
    /// The VM's name.
    pub vm_name: String,
    /// The source's id of the VM.
    pub vmware_vm_id: String,
    /// The source.
    pub vcenter_host: String,
    /// The disk's ordinal.
    pub ordinal: u32,
    /// The hypervisor's id of the disk.
    pub disk_key: DiskKey,
    /// What the point is.
    pub backup_type: BackupType,
    /// How the blocks were found.
    pub method: String,
    /// Why so.
    pub method_reason: Option<String>,
    /// The source's mark for the next run.
    pub change_id: Option<String>,
    /// The point it stands on.
    pub parent: Option<BackupJobId>,
    /// When it was taken.
    pub created_at: Timestamp,
}

/// A sealed image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedImage {
    /// Root digest of what was stored, hexadecimal; equals the VMA's.
    pub stored_root: String,
    /// Bytes that image and manifest take.
    pub stored_bytes: u64,
}

/// Where a restore point lies.
#[derive(Clone, Debug)]
pub struct PointLocation {
    /// The point.
    pub point: BackupJobId,
    /// Its disk's ordinal.
    pub ordinal: u32,
    /// Its repository.
    pub repository: Repository,
    /// Its image, relative to the repository.
    pub path: String,
}

/// A point that can be read over NBD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportedPoint {
    /// Where; read-only, several connections.
    pub address: NbdAddress,
    /// Its size in bytes.
    pub capacity: u64,
}

/// Where a restore goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreOutput {
    /// What the file becomes.
    pub format: RestoreFormat,
    /// A plain file name below the restore directory; it must not exist yet.
    pub file_name: String,
}

/// A restored file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredFile {
    /// Its path on the hub.
    pub path: String,
    /// Bytes of the disk written.
    pub bytes: u64,
}

/// What a repository may answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// No space is left.
    #[error("no space left in {place}; free some or choose another repository")]
    Full {
        /// Which place.
        place: String,
    },
    /// The directory is not there, or not writable.
    #[error("{place} cannot be used: {detail}")]
    Unusable {
        /// Which place.
        place: String,
        /// Why.
        detail: String,
    },
    /// A file that must be there is not.
    #[error("{path} is missing; put it back from a copy of the repository")]
    Missing {
        /// Which file.
        path: String,
    },
    /// The file that an image stands on is not there.
    #[error(
        "{image} stands on {path}, which is missing; put that file back from a copy of the \
         repository, or restore a point that does not need it"
    )]
    MissingParent {
        /// The image.
        image: String,
        /// The file that it names.
        path: String,
    },
    /// A name that exists already.
    #[error(
        "{path} exists already and is not overwritten; choose another name, or move it away and start again"
    )]
    Exists {
        /// Which file.
        path: String,
    },
    /// A name that leaves its directory, or is none.
    #[error("{name} is not a plain file name")]
    InvalidName {
        /// Which name.
        name: String,
    },
    /// Bytes are not what their digests or the format say.
    #[error("{path} is damaged at offset {offset}: {detail}")]
    Damaged {
        /// Which file or disk.
        path: String,
        /// Where.
        offset: u64,
        /// What was found.
        detail: String,
    },
    /// The two ends do not agree on what was copied.
    #[error(
        "the VMA read {source_root} but the hub stored {stored_root}; nothing of this copy is kept"
    )]
    ProofMismatch {
        /// Root digest of what the VMA read.
        source_root: String,
        /// Root digest of what the hub stored.
        stored_root: String,
    },
    /// No such target is open.
    #[error("the target is not open any more")]
    UnknownTarget,
    /// It was asked to stop.
    #[error("stopped as asked")]
    Cancelled,
    /// The operating system refused.
    #[error("input/output error at {path}")]
    Io {
        /// Which file.
        path: String,
        /// What it said.
        #[source]
        source: std::io::Error,
    },
}

impl StorageError {
    /// The fault that a job stores for this error, with its causes in one sentence.
    pub fn to_fault(&self) -> Fault {
        Fault::new(self.code(), told(self))
    }
}

impl Classify for StorageError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Full { .. } => ErrorClass::Full,
            Self::InvalidName { .. } => ErrorClass::Invalid,
            Self::Unusable { .. } | Self::Exists { .. } | Self::Cancelled | Self::UnknownTarget => {
                ErrorClass::Conflict
            }
            Self::Missing { .. }
            | Self::MissingParent { .. }
            | Self::Damaged { .. }
            | Self::ProofMismatch { .. } => ErrorClass::Conflict,
            Self::Io { .. } => ErrorClass::Internal,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Full { .. } => "repository/full",
            Self::Unusable { .. } => "repository/unusable",
            Self::Missing { .. } | Self::MissingParent { .. } => "repository/missing-file",
            Self::Exists { .. } => "repository/exists",
            Self::InvalidName { .. } => "repository/invalid-name",
            Self::Damaged { .. } => "repository/damaged",
            Self::ProofMismatch { .. } => "backup/proof-mismatch",
            Self::UnknownTarget => "repository/unknown-target",
            Self::Cancelled => "job/cancelled",
            Self::Io { .. } => "repository/io",
        }
    }
}

/// Asks for the replica of a disk to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrepareReplica {
    /// Its VM.
    pub vm: VmContextId,
    /// Its disk.
    pub disk: VmDiskId,
    /// The disk's capacity now.
    pub capacity: Capacity,
    /// What the replica is.
    pub format: ReplicaFormat,
    /// Whether an existing complete replica may be brought up to date; else it is written anew.
    pub incremental: bool,
    /// Whether this process may have it open already, from an earlier attempt of the same job; what that has brought is
    /// kept, and told by [`PreparedTarget::kept_bytes`].
    pub resume: bool,
}
