//! What the hub asks of the source behind a VMA beside discovery and copies: who it is, and to clean up.

use serde::{Deserialize, Serialize};

use crate::{Credentials, Fault};

/// The answer of `POST /api/v1/credentials/test`, whose body is [`Credentials`]: the VMA has logged in with them, and
/// out again. A login that is refused, or an endpoint that cannot be reached, is a problem instead.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialsTest {
    /// Whether the source wants credentials at all; a datastore folder does not, and looks at none.
    pub wanted: bool,
    /// Who let them in; absent where none are wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<SourceAbout>,
}

/// Who a vCenter or an ESXi host says it is (`ServiceContent.about`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceAbout {
    /// Full name of the product (`VMware vCenter Server 8.0.2 build-22617221`).
    pub product: String,
    /// Version (`8.0.2`).
    #[serde(default)]
    pub version: String,
    /// Build (`22617221`).
    #[serde(default)]
    pub build: String,
    /// `VirtualCenter` or `HostAgent`.
    #[serde(default)]
    pub api_type: String,
    /// Its own id, the one of [`Vcenter::instance_uuid`](crate::Vcenter::instance_uuid); an ESXi host has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_uuid: Option<String>,
}

/// The body of `POST /api/v1/snapshots/cleanup`: remove what a job that is over has left on a VM.
///
/// Idempotent. Only snapshots that carry the job's name are ever removed; a job that still runs at this VMA is
/// [`CleanupOutcome::Failed`] and keeps its snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleanupRequest {
    /// The hub's id of the job that took the snapshot.
    pub job_id: String,
    /// Of which VM ([`Vm::id`](crate::Vm::id)).
    pub vm_id: String,
    /// Which vCenter or host the VM is of: [`Vcenter::instance_uuid`](crate::Vcenter::instance_uuid), or its
    /// [`host`](crate::Vcenter::host) where it has none. At another one the snapshot would be taken for gone, or one
    /// of a copy of it be removed, so that is [`CleanupOutcome::Failed`] with `source/other-vcenter`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// How to log in, for a source that wants it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,
}

/// The answer to a [`CleanupRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleanupReport {
    /// How it ended.
    pub outcome: CleanupOutcome,
    /// Why it failed, and what to do; given with [`CleanupOutcome::Failed`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Fault>,
}

/// How a clean-up ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CleanupOutcome {
    /// A snapshot of the job was there and is gone.
    Removed,
    /// There is none of the job: nothing is owed.
    None,
    /// It may still be there; the hub asks again. A VM that is not in the inventory is no proof: it keeps its snapshots
    /// among its files, and brings them along when it is registered again.
    Failed,
}

/// The answer of `GET /api/v1/snapshots/owed`: what this VMA has on record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwedSnapshots {
    /// One entry per job.
    pub items: Vec<OwedSnapshot>,
}

/// A snapshot that exists, or may.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwedSnapshot {
    /// The hub's id of the job that took it.
    pub job_id: String,
    /// Which vCenter or host has it.
    pub source: String,
    /// Of which VM ([`Vm::id`](crate::Vm::id)).
    pub vm_id: String,
    /// What it is called there.
    pub name: String,
    /// Whether the job is at work, and holds it.
    pub at_work: bool,
}

/// The body of `POST /api/v1/snapshots/strike-off`: forget what a job that is over owes.
///
/// Idempotent. Nothing is asked of the source or changed there: it is for a VM that was deleted for good, which cannot
/// be told from one that is not registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StrikeOffRequest {
    /// The hub's id of the job.
    pub job_id: String,
}

/// The answer to a [`StrikeOffRequest`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StrikeOffReport {
    /// Whether there was a record.
    pub struck_off: bool,
}
