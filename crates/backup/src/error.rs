//! Why a backup cannot be started, run, cancelled or deleted.

use hub_domain::ids::{BackupJobId, BackupRunId, RepositoryId};
use hub_domain::preflight::Concern;
use hub_domain::reader_choice::NoReader;
use hub_domain::selector::DiskSelector;
use hub_ports::store::{FindVmError, VmCandidate};
use hub_ports::{Classify, ErrorClass, RetryConflicts, StorageError, StoreError};

/// Why no backup is started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartBackupError {
    /// The VM is not known, or its name fits several.
    #[error(transparent)]
    FindVm(#[from] FindVmError),
    /// The repository does not exist.
    #[error("no repository {0} exists")]
    RepositoryNotFound(RepositoryId),
    /// The VM has no present disk in the catalogue.
    #[error("VM disk information not available - run discovery first")]
    NoDisks,
    /// The VM has disks, but none that is meant.
    #[error("disk_id {disk} not found for VM {vm_name}")]
    DiskNotFound {
        /// What was asked for.
        disk: DiskSelector,
        /// The VM.
        vm_name: String,
    },
    /// No VMA reaches the VM.
    #[error("VM {vm_name} cannot be reached: {reason}")]
    NoVma {
        /// The VM.
        vm_name: String,
        /// Why none can be chosen.
        reason: NoReader,
    },
    /// The VM's source wants a login, and none is stored with the VM.
    #[error("the source of VM {vm_name} wants a login; add the VM again with a credential_id")]
    NoLogin {
        /// The VM.
        vm_name: String,
    },
    /// Something of the VM or the disk does not let it be copied.
    #[error("it cannot be backed up: {}", .0.sentence())]
    Blocked(Concern),
    /// Another backup of the VM is at work.
    #[error("backup run {0} of this VM is still at work; wait for it or cancel it")]
    AlreadyRunning(BackupRunId),
    /// The catalogue failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RetryConflicts for StartBackupError {
    fn is_conflict(&self) -> bool {
        match self {
            Self::Store(error) => error.is_conflict(),
            Self::FindVm(error) => error.is_conflict(),
            Self::RepositoryNotFound(_)
            | Self::NoDisks
            | Self::DiskNotFound { .. }
            | Self::NoVma { .. }
            | Self::NoLogin { .. }
            | Self::Blocked(_)
            | Self::AlreadyRunning(_) => false,
        }
    }
}

impl Classify for StartBackupError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::FindVm(error) => error.class(),
            Self::RepositoryNotFound(_) => ErrorClass::NotFound,
            Self::NoDisks | Self::DiskNotFound { .. } => ErrorClass::Invalid,
            Self::NoVma { .. }
            | Self::NoLogin { .. }
            | Self::Blocked(_)
            | Self::AlreadyRunning(_) => ErrorClass::Conflict,
            Self::Store(error) => error.class(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::FindVm(error) => error.code(),
            Self::RepositoryNotFound(_) => "repository/not-found",
            Self::NoDisks => "backup/no-disks",
            Self::DiskNotFound { .. } => "backup/disk-not-found",
            Self::NoVma { .. } => "vm/no-vma",
            Self::NoLogin { .. } => "discovery/credential-needed",
            Self::Blocked(concern) => concern.code(),
            Self::AlreadyRunning(_) => "backup/already-running",
            Self::Store(error) => error.code(),
        }
    }

    fn candidates(&self) -> &[VmCandidate] {
        if let Self::FindVm(error) = self { error.candidates() } else { &[] }
    }
}

/// Why a run was not run; how it went stands in its jobs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunBackupError {
    /// There is no such run.
    #[error("no backup run {0} exists")]
    NotFound(BackupRunId),
    /// Somebody runs it already.
    #[error("backup run {0} is at work already")]
    AtWork(BackupRunId),
    /// The catalogue failed for longer than the engine is patient; the next start of the hub ends the jobs.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Classify for RunBackupError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::NotFound(_) => ErrorClass::NotFound,
            Self::AtWork(_) => ErrorClass::Conflict,
            Self::Store(error) => error.class(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "backup/run-not-found",
            Self::AtWork(_) => "backup/already-running",
            Self::Store(error) => error.code(),
        }
    }
}

/// Why a run is not cancelled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CancelBackupError {
    /// There is no such run.
    #[error("no backup run {0} exists")]
    NotFound(BackupRunId),
    /// The catalogue failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RetryConflicts for CancelBackupError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_conflict())
    }
}

impl Classify for CancelBackupError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::NotFound(_) => ErrorClass::NotFound,
            Self::Store(error) => error.class(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "backup/run-not-found",
            Self::Store(error) => error.code(),
        }
    }
}

/// Why a backup is not deleted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeleteBackupError {
    /// There is no such backup.
    #[error("no backup {0} exists")]
    NotFound(BackupJobId),
    /// It is still at work.
    #[error("backup {0} is still at work; cancel it first")]
    Active(BackupJobId),
    /// Other points stand on it.
    #[error("{} backups stand on this one; delete them first", children.len())]
    HasChildren {
        /// Which.
        children: Vec<BackupJobId>,
    },
    /// It is being read.
    #[error("a restore or a verification of backup {0} is at work; wait for it")]
    InUse(BackupJobId),
    /// Its repository is not known any more.
    #[error("no repository {0} exists")]
    RepositoryNotFound(RepositoryId),
    /// Its files could not be removed; the deletion has begun, and the same request goes on with it.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The catalogue failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RetryConflicts for DeleteBackupError {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_conflict())
    }
}

impl Classify for DeleteBackupError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::NotFound(_) | Self::RepositoryNotFound(_) => ErrorClass::NotFound,
            Self::Active(_) | Self::HasChildren { .. } | Self::InUse(_) => ErrorClass::Conflict,
            Self::Storage(error) => error.class(),
            Self::Store(error) => error.class(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "backup/not-found",
            Self::Active(_) => "backup/active",
            Self::HasChildren { .. } => "backup/has-children",
            Self::InUse(_) => "backup/in-use",
            Self::RepositoryNotFound(_) => "repository/not-found",
            Self::Storage(error) => error.code(),
            Self::Store(error) => error.code(),
        }
    }

    fn children(&self) -> &[BackupJobId] {
        if let Self::HasChildren { children } = self { children } else { &[] }
    }
}
