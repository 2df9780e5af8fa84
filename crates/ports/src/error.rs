//! Errors know their class; only the edge knows HTTP.

use std::error::Error;

use hub_domain::ids::BackupJobId;

use crate::store::VmCandidate;

/// What kind of failure an error is, for the one edge that answers users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// The request makes no sense; sending it again changes nothing.
    Invalid,
    /// What it names does not exist.
    NotFound,
    /// It contradicts what is stored or running.
    Conflict,
    /// The caller is not known.
    Unauthorized,
    /// Something that the hub needs is not there now; sending it again may help.
    Unavailable,
    /// Another system answered with a failure.
    Upstream,
    /// The place where bytes go is full.
    Full,
    /// Nothing that a user could act on; the detail stays in the log.
    Internal,
}

/// An error that says of itself what the edge needs.
pub trait Classify: Error + Send + Sync + 'static {
    /// Its class.
    fn class(&self) -> ErrorClass;

    /// Its stable code, with a slash; each has a page under `docs/problems`.
    fn code(&self) -> &'static str;

    /// The VMs that a name fits, where it fits several.
    fn candidates(&self) -> &[VmCandidate] {
        &[]
    }

    /// The restore points that stand in the way.
    fn children(&self) -> &[BackupJobId] {
        &[]
    }

    /// Whether the same request may succeed later without any change.
    fn is_transient(&self) -> bool {
        matches!(self.class(), ErrorClass::Unavailable)
    }
}

/// An error with all its causes in one sentence, for a log line or a job's record.
pub fn told(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// What the catalogue may answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another unit of work was first, or a row is not as it was read; the whole unit may be tried again.
    #[error("the catalogue was changed by somebody else at the same time")]
    Conflict,
    /// A row that a statement needs does not exist (any more).
    #[error("{0} does not exist in the catalogue")]
    Missing(&'static str),
    /// A row breaks a rule of the schema: a name that is taken, or something that is still in use.
    #[error("the catalogue refuses: {0}")]
    Refused(&'static str),
    /// The database does not answer.
    #[error("the catalogue's database is not available")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
    /// A row that this version cannot read.
    #[error("the catalogue holds a row that makes no sense: {0}")]
    Corrupt(String),
    /// The database answered with an error that should not happen.
    #[error("the catalogue's database failed")]
    Internal(#[source] Box<dyn Error + Send + Sync>),
}

impl Classify for StoreError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Conflict | Self::Refused(_) => ErrorClass::Conflict,
            Self::Missing(_) => ErrorClass::NotFound,
            Self::Unavailable(_) => ErrorClass::Unavailable,
            Self::Corrupt(_) | Self::Internal(_) => ErrorClass::Internal,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Conflict => "store/conflict",
            Self::Refused(_) => "store/refused",
            Self::Missing(_) => "store/missing",
            Self::Unavailable(_) => "store/unavailable",
            Self::Corrupt(_) => "store/corrupt",
            Self::Internal(_) => "store/internal",
        }
    }

    fn is_transient(&self) -> bool {
        matches!(self, Self::Conflict | Self::Unavailable(_))
    }
}
