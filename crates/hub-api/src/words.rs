//! The words of requests and answers: one enum per vocabulary, so that the OpenAPI document lists them all (trap D27).

use hub_domain as domain;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

macro_rules! words { ($($(#[$doc:meta])* $name:ident = $of:path { $($word:ident),+ $(,)? })+) => { $(
    $(#[$doc])*
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
    #[serde(rename_all = "snake_case")]
    pub(crate) enum $name { $($word),+ }

    impl From<$of> for $name {
        fn from(word: $of) -> Self {
            match word { $(<$of>::$word => Self::$word),+ }
        }
    }

    impl From<$name> for $of {
        fn from(word: $name) -> Self {
            match word { $($name::$word => Self::$word),+ }
        }
    }
)+ } }

words! {
    /// Where a job stands; the last four do not change any more.
    JobStatus = domain::job::JobStatus {
        Queued, Running, Cancelling, Succeeded, Failed, Cancelled, Interrupted,
    }
    /// What a backup is.
    BackupType = domain::backup::BackupType { Full, Incremental }
    /// What a replication was asked to do.
    ReplicationType = domain::replication::ReplicationKind { Initial, Incremental }
    /// What a replica image is.
    ReplicaFormat = domain::replication::ReplicaFormat { Raw, Qcow2 }
    /// What a restored file becomes.
    RestoreFormat = domain::restore::RestoreFormat { Raw, Qcow2, Vmdk }
    /// How much is verified.
    VerificationScope = domain::restore::VerificationScope { Point, Chain }
    /// What a repository is.
    RepositoryKind = domain::repository::RepositoryKind { Local }
    /// Where a VM stands.
    ContextStatus = domain::vm::ContextStatus { Discovered, Replicating, ReadyForFailover }
    /// Whether the source still has a disk.
    DiskPresence = domain::disk::Presence { Present, Retired }
    /// How grave a concern is.
    ConcernSeverity = domain::preflight::Severity { Info, Warning, Error }
    /// What a concern makes of a run.
    ConcernEffect = domain::preflight::Effect { Blocked, FullRead, Warning }
    /// What adding did to a VM.
    AddOutcome = hub_discovery::Change { Added, Updated, Unchanged }
}

/// How the data of an image is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Compression {
    None,
    Zstd,
}

impl Compression {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Zstd => "zstd",
        }
    }
}

impl From<domain::compression::Compression> for Compression {
    fn from(kind: domain::compression::Compression) -> Self {
        match kind {
            domain::compression::Compression::None => Self::None,
            domain::compression::Compression::Zstd(_) => Self::Zstd,
        }
    }
}

/// Why a job ended badly.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Fault {
    /// Stable code, with a slash; `/problems/<code>` explains it.
    pub(crate) code: String,
    /// What happened, and what to do.
    pub(crate) detail: String,
}

impl From<&domain::fault::Fault> for Fault {
    fn from(fault: &domain::fault::Fault) -> Self {
        Self { code: fault.code.clone(), detail: fault.detail.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_the_api_are_those_of_the_catalogue() {
        fn word(value: impl Serialize) -> String {
            serde_json::to_value(value)
                .ok()
                .and_then(|it| it.as_str().map(ToOwned::to_owned))
                .unwrap_or_default()
        }
        for status in domain::job::JobStatus::ALL {
            assert_eq!(word(JobStatus::from(status)), status.word());
        }
        for status in domain::vm::ContextStatus::ALL {
            assert_eq!(word(ContextStatus::from(status)), status.word());
        }
        for format in [domain::restore::RestoreFormat::Raw, domain::restore::RestoreFormat::Qcow2] {
            assert_eq!(word(RestoreFormat::from(format)), format.word());
        }
        assert_eq!(word(ReplicaFormat::Qcow2), domain::replication::ReplicaFormat::Qcow2.word());
        assert_eq!(word(BackupType::Incremental), domain::backup::BackupType::Incremental.word());
    }
}
