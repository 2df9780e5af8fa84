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
        "the id `{id}` belongs to both `{first}` and `{second}`; give the one that is a copy an id of its own"
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
    /// The VM cannot be read, or not as it is.
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
    /// Another disk has the key by now.
    #[error(
        "another disk is at `{key}` than the one that is meant: its id is {found}, and {expected} was expected; run discovery again, which gives it a chain of its own"
    )]
    OtherDisk {
        /// The key.
        key: String,
        /// The id of the disk that was asked for.
        expected: String,
        /// The id of the disk that is there.
        found: String,
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
    /// A file of the disk, or its snapshot, changed while it was read.
    #[error(
        "disk `{key}` changed while it was read, so the copy is not of one instant; keep its snapshot, or the VM powered off, until the job has ended, then run again"
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
    /// Neither the request nor the configuration has an account.
    #[error(
        "this source wants a login, and the request brings none; name a credential, or configure an account on the VMA"
    )]
    CredentialsMissing,
    /// A login for a server that this VMA does not read.
    #[error(
        "this VMA reads `{known}`, and the login is for `{asked}`; use the VMA of that endpoint, or correct the credential"
    )]
    OtherEndpoint {
        /// The configured one.
        known: String,
        /// The one of the request.
        asked: String,
    },
    /// The configured endpoint leads to another vCenter or host than the one that is meant.
    #[error("{0}")]
    OtherVcenter(String),
    /// The account is refused.
    #[error("{0}")]
    LoginRefused(String),
    /// No answer from the vCenter or host.
    #[error("{0}")]
    EndpointUnreachable(String),
    /// The vCenter or host did not prove who it is.
    #[error("{0}")]
    EndpointUntrusted(String),
    /// The account lacks a privilege.
    #[error("{0}")]
    NotPermitted(String),
    /// The vCenter or host refused a call.
    #[error("{0}")]
    CallFailed(String),
    /// A snapshot of somebody else is there.
    #[error(
        "VM `{vm}` has the snapshot `{snapshot}`, which makes deltas of its disks, and those cannot be read over HTTPS; remove it, or set VDDK up, which reads them, then run again"
    )]
    HasSnapshots {
        /// The VM's name.
        vm: String,
        /// The snapshot's name.
        snapshot: String,
    },
    /// A snapshot of another job of ours is there, and nobody here can remove it at this moment.
    #[error(
        "VM `{vm}` has the snapshot `{snapshot}` of another job, which makes deltas of its disks, and those cannot be read over HTTPS; it is removed by the VMA that took it, or with what is owed: run again when it is gone"
    )]
    LeftoverSnapshot {
        /// The VM's name.
        vm: String,
        /// The snapshot's name.
        snapshot: String,
    },
    /// VDDK cannot be used as it is set up.
    #[error("{0}")]
    VddkUnusable(String),
    /// VDDK could not open a disk.
    #[error("disk `{key}` cannot be opened: {reason}")]
    VddkFailed {
        /// The disk.
        key: String,
        /// What it said, and what to do.
        reason: String,
    },
    /// The job that a snapshot belongs to still runs.
    #[error("job `{0}` still runs here and holds its snapshot; cancel it first")]
    SnapshotInUse(String),
    /// The VM of a snapshot that is owed is not there, so neither is the proof that the snapshot is gone.
    #[error(
        "VM `{vm}` is not in the inventory, so nobody can see whether the snapshot `{snapshot}` is still among its files; register the VM again and the snapshot is removed, or strike the record off when the VM was deleted for good"
    )]
    SnapshotVmMissing {
        /// The VM's id.
        vm: String,
        /// The snapshot's name.
        snapshot: String,
    },
    /// What is owed cannot be written down, so nothing is taken.
    #[error("{0}; make room in the VMA's state directory and check its rights")]
    StateUnwritable(String),
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
            Self::OtherDisk { .. } => "source/other-disk",
            Self::BadDisk { unsupported: true, .. } => "source/disk-unsupported",
            Self::BadDisk { .. } => "source/disk-unreadable",
            Self::ChangedWhileReading { .. } => "source/changed-while-reading",
            Self::TooManyFiles { .. } => "source/too-many-files",
            Self::Unavailable { .. } => "source/unavailable",
            Self::CredentialsMissing => "source/credentials-missing",
            Self::OtherEndpoint { .. } => "source/other-endpoint",
            Self::OtherVcenter(_) => "source/other-vcenter",
            Self::LoginRefused(_) => "source/login-refused",
            Self::EndpointUnreachable(_) => "source/endpoint-unreachable",
            Self::EndpointUntrusted(_) => "source/endpoint-untrusted",
            Self::NotPermitted(_) => "source/not-permitted",
            Self::CallFailed(_) => "source/call-failed",
            Self::HasSnapshots { .. } => "source/vm-has-snapshots",
            Self::LeftoverSnapshot { .. } => "source/leftover-snapshot",
            Self::VddkUnusable(_) => "source/vddk-unusable",
            Self::VddkFailed { .. } => "source/vddk-failed",
            Self::SnapshotInUse(_) => "source/snapshot-in-use",
            Self::SnapshotVmMissing { .. } => "source/snapshot-vm-missing",
            Self::StateUnwritable(_) => "source/state-unwritable",
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
            | Self::OtherDisk { .. }
            | Self::BadDisk { .. }
            | Self::ChangedWhileReading { .. }
            | Self::CredentialsMissing
            | Self::OtherEndpoint { .. }
            | Self::OtherVcenter(_)
            | Self::LoginRefused(_)
            | Self::EndpointUntrusted(_)
            | Self::NotPermitted(_)
            | Self::CallFailed(_)
            | Self::HasSnapshots { .. }
            | Self::LeftoverSnapshot { .. }
            | Self::VddkUnusable(_)
            | Self::SnapshotVmMissing { .. }
            | Self::SnapshotInUse(_) => FaultClass::Conflict,
            Self::TooManyFiles { .. }
            | Self::EndpointUnreachable(_)
            | Self::StateUnwritable(_)
            | Self::VddkFailed { .. }
            | Self::Unavailable { .. } => FaultClass::Unavailable,
            Self::Internal(_) => FaultClass::Internal,
        }
    }
}
