//! Replication jobs: every disk of a VM copied to a replica that stays current.

use crate::attempt::Attempt;
use crate::disk::DiskKey;
use crate::ids::{ReplicationJobId, VmContextId, VmDiskId};
use crate::job::JobState;
use crate::limits::ByteRate;
use crate::remarks::Remarks;
use crate::source::{CopyBytes, Quiescence, ReadBy};
use crate::time::Timestamp;

/// One replication of one VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicationJob {
    /// Ours.
    pub id: ReplicationJobId,
    /// Its VM.
    pub vm: VmContextId,
    /// What was asked for.
    pub kind: ReplicationKind,
    /// What the replica images are.
    pub format: ReplicaFormat,
    /// What it may send, if it was told.
    pub rate: Option<ByteRate>,
    /// Whether the guest is to be quiesced for the snapshot, if it was told; else as the VMA is set up.
    pub quiesce: Option<bool>,
    /// Whether it was, for the replicas that there are; `None` where the source does not know, or takes no snapshot.
    pub quiescence: Option<Quiescence>,
    /// Where it stands.
    pub state: JobState,
    /// Which attempt at its copy it is at.
    pub attempt: Attempt,
    /// Who copied it, and what somebody should know of it.
    pub remarks: Remarks,
    /// One entry per disk, by ordinal.
    pub disks: Vec<ReplicaDisk>,
    /// Counts changes; a write names the version it has read.
    pub version: i64,
    /// When it was asked for.
    pub created_at: Timestamp,
}

impl ReplicationJob {
    /// Counters of the whole, folded over the disks.
    pub fn bytes(&self) -> CopyBytes {
        CopyBytes::sum(self.disks.iter().map(|disk| disk.bytes))
    }
}

/// One disk of a replication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaDisk {
    /// The disk row.
    pub disk: VmDiskId,
    /// Its ordinal.
    pub ordinal: u32,
    /// The hypervisor's id.
    pub key: DiskKey,
    /// The replica image, relative to the replica directory; set once it is prepared.
    pub path: Option<String>,
    /// The method really used.
    pub method: Option<String>,
    /// Why this method.
    pub method_reason: Option<String>,
    /// The way to the disk's bytes, where the source knows several.
    pub read_by: Option<ReadBy>,
    /// Counters.
    pub bytes: CopyBytes,
    /// Root digest that both ends agree on, hexadecimal; set when the disk is complete.
    pub root: Option<String>,
}

/// What a replication was asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReplicationKind {
    /// Copy everything.
    Initial,
    /// Bring an existing replica up to date; a disk without one is copied in full, and says so.
    Incremental,
}

impl ReplicationKind {
    /// The word for it in the catalogue and on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::Incremental => "incremental",
        }
    }

    /// The kind of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Initial, Self::Incremental].into_iter().find(|kind| kind.word() == word)
    }
}

/// What a replica image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReplicaFormat {
    /// The disk's bytes, as they are.
    Raw,
    /// A qcow2 image without a backing file.
    Qcow2,
}

impl ReplicaFormat {
    /// The word for it in the catalogue and on the wire; also the file's extension.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }

    /// The format of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Raw, Self::Qcow2].into_iter().find(|format| format.word() == word)
    }
}
