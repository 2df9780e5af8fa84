//! Why something could not be started; what goes wrong later is told by the job.

use hub_domain::ids::{BackupJobId, ExportId};
use hub_domain::job::JobStatus;
use hub_ports::{Classify, ErrorClass, RetryConflicts, StorageError, StoreError};

/// Why a restore point cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PointError {
    /// No such backup.
    #[error("no backup {0} exists")]
    NotFound(BackupJobId),
    /// A backup that is no restore point.
    #[error("backup {id} is {status}; only a completed one can be read")]
    NotCompleted {
        /// The backup.
        id: BackupJobId,
        /// Where it stands.
        status: &'static str,
    },
    /// Its repository is not in the catalogue any more.
    #[error("the repository of backup {0} is not in the catalogue any more")]
    RepositoryGone(BackupJobId),
    /// A point that it stands on is missing.
    #[error("the chain of backup {0} is incomplete in the catalogue")]
    ChainIncomplete(BackupJobId),
    /// The catalogue failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Classify for PointError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::NotFound(_) => ErrorClass::NotFound,
            Self::NotCompleted { .. } | Self::RepositoryGone(_) | Self::ChainIncomplete(_) => {
                ErrorClass::Conflict
            }
            Self::Store(error) => error.class(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "backup/not-found",
            Self::NotCompleted { .. } => "backup/not-completed",
            Self::RepositoryGone(_) => "repository/not-found",
            Self::ChainIncomplete(_) => "backup/chain-incomplete",
            Self::Store(error) => error.code(),
        }
    }
}

/// Why a verification was not started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartVerificationError {
    /// The point cannot be read.
    #[error(transparent)]
    Point(#[from] PointError),
    /// The catalogue failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RetryConflicts for StartVerificationError {
    fn is_conflict(&self) -> bool {
        match self {
            Self::Point(PointError::Store(error)) | Self::Store(error) => error.is_conflict(),
            Self::Point(_) => false,
        }
    }
}

impl Classify for StartVerificationError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Point(error) => error.class(),
            Self::Store(error) => error.class(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Point(error) => error.code(),
            Self::Store(error) => error.code(),
        }
    }
}

/// Why a restore was not started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartRestoreError {
    /// The point cannot be read.
    #[error(transparent)]
    Point(#[from] PointError),
    /// The name is no plain file name.
    #[error("{0:?} is not a plain file name; restores go below the hub's restore directory")]
    FileName(String),
    /// Another restore writes to the name.
    #[error("another restore writes to {0:?} now; give another file_name")]
    FileInUse(String),
    /// The catalogue failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RetryConflicts for StartRestoreError {
    fn is_conflict(&self) -> bool {
        match self {
            Self::Point(PointError::Store(error)) | Self::Store(error) => error.is_conflict(),
            Self::Point(_) | Self::FileName(_) | Self::FileInUse(_) => false,
        }
    }
}

impl Classify for StartRestoreError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Point(error) => error.class(),
            Self::FileName(_) => ErrorClass::Invalid,
            Self::FileInUse(_) => ErrorClass::Conflict,
            Self::Store(error) => error.class(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Point(error) => error.code(),
            Self::FileName(_) => "restore/file-name",
            Self::FileInUse(_) => "restore/file-in-use",
            Self::Store(error) => error.code(),
        }
    }
}

/// Why a job was not cancelled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CancelError {
    /// No such job.
    #[error("no such job exists")]
    NotFound,
    /// It has ended already.
    #[error("the job is {} already", .0.word())]
    Ended(JobStatus),
    /// The catalogue failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RetryConflicts for CancelError {
    fn is_conflict(&self) -> bool {
        match self {
            Self::Store(error) => error.is_conflict(),
            Self::NotFound | Self::Ended(_) => false,
        }
    }
}

impl Classify for CancelError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::NotFound => ErrorClass::NotFound,
            Self::Ended(_) => ErrorClass::Conflict,
            Self::Store(error) => error.class(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "job/not-found",
            Self::Ended(_) => "job/ended",
            Self::Store(error) => error.code(),
        }
    }
}

/// Why an export was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenExportError {
    /// The point cannot be read.
    #[error(transparent)]
    Point(#[from] PointError),
    /// It would live longer than exports may, or not at all.
    #[error("an export lives 1 to {max_seconds} seconds")]
    Lifetime {
        /// The longest time.
        max_seconds: u64,
    },
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The catalogue failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A point is being read through an export, and cannot be deleted.
#[derive(Debug, thiserror::Error)]
#[error("backup {point} is read through {}; close it first", named(exports))]
pub struct PointExported {
    /// The point.
    pub point: BackupJobId,
    /// Which exports; none while the only one is being opened.
    pub exports: Vec<ExportId>,
}

fn named(exports: &[ExportId]) -> String {
    if exports.is_empty() {
        return "an export that is being opened".to_owned();
    }
    let ids: Vec<_> = exports.iter().map(ExportId::to_string).collect();
    format!("export {}", ids.join(", "))
}

impl Classify for PointExported {
    fn class(&self) -> ErrorClass {
        ErrorClass::Conflict
    }

    fn code(&self) -> &'static str {
        "backup/exported"
    }
}

impl Classify for OpenExportError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Point(error) => error.class(),
            Self::Lifetime { .. } => ErrorClass::Invalid,
            Self::Storage(error) => error.class(),
            Self::Store(error) => error.class(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Point(error) => error.code(),
            Self::Lifetime { .. } => "export/lifetime",
            Self::Storage(error) => error.code(),
            Self::Store(error) => error.code(),
        }
    }
}
