//! Backup runs and backup jobs: one instant of a VM, one job per disk.

use crate::attempt::Attempt;
use crate::audit::{AuditRuns, Audited, Suspicion};
use crate::capacity::Capacity;
use crate::chain::ChainKey;
use crate::compression::Compression;
use crate::disk::DiskKey;
use crate::ids::{BackupJobId, BackupRunId, PolicyId, RepositoryId, VmContextId, VmDiskId};
use crate::job::{JobState, JobStatus, fold_status};
use crate::limits::ByteRate;
use crate::remarks::Remarks;
use crate::source::{CopyBytes, CopyMethod, Quiescence, ReadBy};
use crate::time::Timestamp;

/// One protection of one VM at one instant; its status is folded over its jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupRun {
    /// Ours.
    pub id: BackupRunId,
    /// The VM; the run outlives the VM context.
    pub vm: VmContextId,
    /// The VM's name when the run began.
    pub vm_name: String,
    /// Where its images go.
    pub repository: RepositoryId,
    /// The policy that asked for it, if one did.
    pub policy: Option<PolicyId>,
    /// What was asked for.
    pub backup_type: BackupType,
    /// Words of the user's own.
    pub tags: Vec<String>,
    /// What it may send, if it was told.
    pub rate: Option<ByteRate>,
    /// How closely its sources are audited, if it was told; else as the hub does.
    pub audit_runs: Option<AuditRuns>,
    /// Whether the guest is to be quiesced for the snapshot, if it was told; else as the VMA is set up.
    pub quiesce: Option<bool>,
    /// Who copied it, and what somebody should know of it.
    pub remarks: Remarks,
    /// When it was asked for.
    pub created_at: Timestamp,
}

/// The status of a run.
pub fn run_status(jobs: &[BackupJob]) -> JobStatus {
    fold_status(jobs.iter().map(|job| job.state.status()))
}

/// One disk within a run; once succeeded, it is a restore point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupJob {
    /// Ours; also the id of the restore point.
    pub id: BackupJobId,
    /// Its run.
    pub run: BackupRunId,
    /// The VM; the point outlives the VM context.
    pub vm: VmContextId,
    /// The VM's name when the job began.
    pub vm_name: String,
    /// The disk's ordinal: the `disk_id` of the catalogue and the API.
    pub ordinal: u32,
    /// The disk row, while it exists.
    pub disk: Option<VmDiskId>,
    /// The hypervisor's id of the disk.
    pub disk_key: DiskKey,
    /// Where the image lies.
    pub repository: RepositoryId,
    /// The policy that asked for it, if one did.
    pub policy: Option<PolicyId>,
    /// What it is: an incremental always has a parent, a full never.
    pub backup_type: BackupType,
    /// The disk's capacity at that instant.
    pub capacity: Capacity,
    /// The image, relative to the repository; set once it is prepared.
    pub path: Option<String>,
    /// The point it stands on.
    pub parent: Option<BackupJobId>,
    /// The source's mark for the next changed-since copy.
    pub change_id: Option<String>,
    /// How the blocks were found: see [`CopyMethod::word`](crate::source::CopyMethod::word).
    pub method: String,
    /// Why it is a full where an incremental was asked for, and why this method.
    pub method_reason: Option<String>,
    /// Whether the guest was at rest at that instant; `None` where the source does not know, or takes no snapshot.
    pub quiescence: Option<Quiescence>,
    /// The way to the disk's bytes, where the source knows several.
    pub read_by: Option<ReadBy>,
    /// What was audited of the source's word about changes.
    pub audited: Audited,
    /// Why the chain that it stands in is suspect, if it is; the same for all points of the chain.
    pub suspicion: Option<Suspicion>,
    /// How its image is stored, as its repository said when the job began.
    pub compression: Compression,
    /// Proof at both ends; set when succeeded.
    pub proof: Option<Proof>,
    /// Counters of the copy.
    pub bytes: CopyBytes,
    /// Bytes that image and manifest take in the repository; set when succeeded.
    pub stored_bytes: u64,
    /// Where it stands.
    pub state: JobState,
    /// Which attempt at its copy it is at.
    pub attempt: Attempt,
    /// Since when it is being deleted: from then on it is no restore point any more.
    pub deleting_since: Option<Timestamp>,
    /// Counts changes; a write names the version it has read.
    pub version: i64,
    /// When it was asked for.
    pub created_at: Timestamp,
}

impl BackupJob {
    /// Whether it can be restored from and stood upon: completed, and not on its way out (traps C4, D45).
    pub fn is_restore_point(&self) -> bool {
        self.state.status() == JobStatus::Succeeded
            && self.deleting_since.is_none()
            && self.path.is_some()
    }

    /// Whether changes may be missing in it: it relied on a source that was caught leaving some out. A point for which
    /// everything was read holds what the source held, whatever its chain is.
    pub fn is_suspect(&self) -> bool {
        self.suspicion.is_some() && self.method == CopyMethod::CHANGED_SINCE
    }

    /// The chain that it belongs to, or would.
    pub fn chain_key(&self) -> ChainKey {
        ChainKey { vm: self.vm, ordinal: self.ordinal, repository: self.repository }
    }
}

/// Root digests of one disk at one instant, found independently at both ends, hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Of what the VMA read from the source.
    pub source_root: String,
    /// Of what the hub stored.
    pub stored_root: String,
}

impl Proof {
    /// Whether both ends saw the same bytes.
    pub fn agrees(&self) -> bool {
        self.source_root == self.stored_root
    }
}

/// What a backup is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BackupType {
    /// Stands alone.
    Full,
    /// Stands on its parent.
    Incremental,
}

impl BackupType {
    /// The word for it in the catalogue and on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Incremental => "incremental",
        }
    }

    /// The type of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Full, Self::Incremental].into_iter().find(|it| it.word() == word)
    }
}
