//! Why a source refuses, with a stable code for programs and a sentence for people.

use std::error::Error;

use crate::vmdk::VmdkError;

/// A refusal of a source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The id belongs to no VM here.
    #[error("no VM with id `{0}` is in this source; run discovery again")]
    VmNotFound(String),
    /// Two VMs have the id, so neither can be meant safely.
    #[error(
        "the id `{id}` belongs to both `{first}` and `{second}`; give one of them another uuid.bios"
    )]
    VmAmbiguous {
        /// The id.
        id: String,
        /// Where one lies.
        first: String,
        /// Where the other lies.
        second: String,
    },
    /// The VM has no such disk.
    #[error("VM `{vm}` has no disk `{key}`; run discovery again")]
    DiskNotFound {
        /// The VM's name.
        vm: String,
        /// The asked key.
        key: String,
    },
    /// The VM's own file cannot be read.
    #[error("the description of VM `{vm}` cannot be used: {reason}")]
    BadVm {
        /// Its path.
        vm: String,
        /// What is wrong.
        reason: String,
    },
    /// The VM writes to its disks.
    #[error(
        "VM `{vm}` is running and disk `{key}` has no snapshot to read from; take a snapshot or power the VM off"
    )]
    RunningWithoutSnapshot {
        /// The VM's name.
        vm: String,
        /// The disk.
        key: String,
    },
    /// The disk does not have the size that its target was made for.
    #[error(
        "disk `{key}` has {found} bytes, {expected} were expected; run discovery again, so that the target gets the right size"
    )]
    CapacityMismatch {
        /// The disk.
        key: String,
        /// What was asked.
        expected: u64,
        /// What it has.
        found: u64,
    },
    /// The disk is damaged, incomplete or points where it must not.
    #[error("disk `{key}` cannot be read: `{file}`: {reason}")]
    BadDisk {
        /// The disk.
        key: String,
        /// Its file.
        file: String,
        /// What is wrong.
        reason: String,
        /// Whether it is of a kind that is never read.
        unsupported: bool,
    },
    /// A file of the disk changed while it was read.
    #[error(
        "disk `{key}` changed while it was read, so the copy is not of one instant; keep the VM powered off or take a snapshot, then run again"
    )]
    ChangedWhileReading {
        /// The disk.
        key: String,
    },
    /// The process has as many files open as it may.
    #[error(
        "disk `{key}` cannot be read: {reason}; raise the limit of open files of the VMA's service, or copy fewer disks at a time"
    )]
    TooManyFiles {
        /// The disk.
        key: String,
        /// Which file was one too many.
        reason: String,
    },
    /// A datastore cannot be reached.
    #[error("datastore `{path}` cannot be read: {reason}; mount it or correct the configuration")]
    Unavailable {
        /// Its directory.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// A defect of this program.
    #[error("the source failed unexpectedly: {0}")]
    Internal(String),
}

/// What kind of refusal it is; the edge makes a status of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultClass {
    /// Something named does not exist.
    NotFound,
    /// The state of the thing forbids it.
    Conflict,
    /// It cannot be done with this thing, ever.
    Unsupported,
    /// It may work later.
    Unavailable,
    /// A defect.
    Internal,
}

impl SourceError {
    /// A disk that was refused before it was opened.
    pub fn bad_disk(key: &str, file: &str, error: &VmdkError) -> Self {
        if matches!(error, VmdkError::Changed(_)) {
            return Self::ChangedWhileReading { key: key.to_owned() };
        }
        if matches!(error, VmdkError::TooManyFiles(_)) {
            return Self::TooManyFiles { key: key.to_owned(), reason: error.to_string() };
        }
        let cause = error.source().map(|it| format!(": {it}")).unwrap_or_default();
        Self::BadDisk {
            key: key.to_owned(),
            file: file.to_owned(),
            reason: format!("{error}{cause}"),
            unsupported: error.is_unsupported(),
        }
    }

    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::VmNotFound(_) => "source/vm-not-found",
            Self::VmAmbiguous { .. } => "source/vm-ambiguous",
            Self::DiskNotFound { .. } => "source/disk-not-found",
            Self::BadVm { .. } => "source/vm-unreadable",
            Self::RunningWithoutSnapshot { .. } => "source/vm-running-without-snapshot",
            Self::CapacityMismatch { .. } => "source/capacity-mismatch",
            Self::BadDisk { unsupported: true, .. } => "source/disk-unsupported",
            Self::BadDisk { .. } => "source/disk-unreadable",
            Self::ChangedWhileReading { .. } => "source/changed-while-reading",
            Self::TooManyFiles { .. } => "source/too-many-files",
            Self::Unavailable { .. } => "source/unavailable",
            Self::Internal(_) => "internal",
        }
    }

    /// The kind of refusal.
    pub const fn class(&self) -> FaultClass {
        match self {
            Self::VmNotFound(_) | Self::DiskNotFound { .. } => FaultClass::NotFound,
            Self::BadDisk { unsupported: true, .. } => FaultClass::Unsupported,
            Self::VmAmbiguous { .. }
            | Self::BadVm { .. }
            | Self::RunningWithoutSnapshot { .. }
            | Self::CapacityMismatch { .. }
            | Self::BadDisk { .. }
            | Self::ChangedWhileReading { .. } => FaultClass::Conflict,
            Self::TooManyFiles { .. } | Self::Unavailable { .. } => FaultClass::Unavailable,
            Self::Internal(_) => FaultClass::Internal,
        }
    }
}
