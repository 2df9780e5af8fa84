//! Why a replication cannot be started, run, cancelled or deleted.

use hub_domain::ids::ReplicationJobId;
use hub_domain::preflight::Concern;
use hub_ports::store::{FindVmError, VmCandidate};
use hub_ports::{Classify, ErrorClass, RetryConflicts, SourceError, StoreError};

/// Why no replication is started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartReplicationError {
    /// The VM is not known, or its name fits several.
    #[error(transparent)]
    FindVm(#[from] FindVmError),
    /// The VM has no disk, neither in the catalogue nor at its source.
    #[error("VM {vm_name} has no disks, and its source shows none")]
    NoDisks {
        /// The VM.
        vm_name: String,
    },
    /// No VMA reaches the VM.
    #[error("VM {vm_name} cannot be reached: {reason}")]
    NoVma {
        /// The VM.
        vm_name: String,
        /// Why.
        reason: String,
    },
    /// Its source does not have the VM any more.
    #[error("the source has no VM {vm_name} any more")]
    VmGone {
        /// The VM.
        vm_name: String,
    },
    /// Something of the VM or a disk does not let it be copied.
    #[error("it cannot be replicated: {}", .0.sentence())]
    Blocked(Concern),
    /// Another replication of the VM is at work.
    #[error("replication {0} of this VM is still at work; wait for it or cancel it")]
    AlreadyRunning(ReplicationJobId),
    /// The VMA failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The catalogue failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RetryConflicts for StartReplicationError {
    fn is_conflict(&self) -> bool {
        match self {
            Self::Store(error) => error.is_conflict(),
            Self::FindVm(error) => error.is_conflict(),
            Self::NoDisks { .. }
            | Self::NoVma { .. }
            | Self::VmGone { .. }
            | Self::Blocked(_)
            | Self::AlreadyRunning(_)
            | Self::Source(_) => false,
        }
    }
}

impl Classify for StartReplicationError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::FindVm(error) => error.class(),
            Self::NoDisks { .. }
            | Self::NoVma { .. }
            | Self::VmGone { .. }
            | Self::Blocked(_)
            | Self::AlreadyRunning(_) => ErrorClass::Conflict,
            Self::Source(error) => error.class(),
            Self::Store(error) => error.class(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::FindVm(error) => error.code(),
            Self::NoDisks { .. } => "replication/no-disks",
            Self::NoVma { .. } => "vm/no-vma",
            Self::VmGone { .. } => "discovery/vm-gone",
            Self::Blocked(concern) => concern.code(),
            Self::AlreadyRunning(_) => "replication/already-running",
            Self::Source(error) => error.code(),
            Self::Store(error) => error.code(),
        }
    }

    fn candidates(&self) -> &[VmCandidate] {
        if let Self::FindVm(error) = self { error.candidates() } else { &[] }
    }
}

/// Why a job was not run; how it went stands in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunReplicationError {
    /// There is no such job.
    #[error("no replication {0} exists")]
    NotFound(ReplicationJobId),
    /// Somebody runs it already.
    #[error("replication {0} is at work already")]
    AtWork(ReplicationJobId),
    /// The catalogue failed for longer than the engine is patient; the next start of the hub ends the job.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Classify for RunReplicationError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::NotFound(_) => ErrorClass::NotFound,
            Self::AtWork(_) => ErrorClass::Conflict,
            Self::Store(error) => error.class(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "replication/not-found",
            Self::AtWork(_) => "replication/already-running",
            Self::Store(error) => error.code(),
        }
    }
}

/// Why a job is not cancelled or not deleted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeReplicationError {
    /// There is no such job.
    #[error("no replication {0} exists")]
    NotFound(ReplicationJobId),
    /// It is still at work.
    #[error("replication {0} is still at work; cancel it first")]
    Active(ReplicationJobId),
    /// The catalogue failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RetryConflicts for ChangeReplicationError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_conflict())
    }
}

impl Classify for ChangeReplicationError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::NotFound(_) => ErrorClass::NotFound,
            Self::Active(_) => ErrorClass::Conflict,
            Self::Store(error) => error.class(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "replication/not-found",
            Self::Active(_) => "replication/active",
            Self::Store(error) => error.code(),
        }
    }
}
