//! What questions about backups may narrow.

use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use crate::page::{After, Limit, limit};
use crate::words::JobStatus;

/// Which backups.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct BackupQuery {
    /// Only of the VM with this name or context_id, which may be gone by now.
    pub(crate) vm_name: Option<String>,
    /// Only of this VM.
    pub(crate) vm_context_id: Option<Uuid>,
    /// Only of the disk with this ordinal, or, with a VM, with this id of the hypervisor.
    pub(crate) disk_id: Option<String>,
    /// Only in this repository.
    pub(crate) repository_id: Option<Uuid>,
    /// Only with this status.
    #[param(inline)]
    pub(crate) status: Option<JobStatus>,
    /// Most items to answer.
    #[serde(default, deserialize_with = "limit")]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500, default = 100)]
    pub(crate) limit: Limit,
    /// Only items after the one with this id: the `next` of the page before.
    #[param(value_type = Option<String>)]
    pub(crate) after: Option<After>,
}

/// Which disk's chains.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ChainQuery {
    /// The VM's name, or its context_id.
    pub(crate) vm_name: Option<String>,
    /// The VM's context_id.
    pub(crate) vm_context_id: Option<String>,
    /// The disk's ordinal, or its id at the hypervisor; disk 0 unless given.
    pub(crate) disk_id: Option<String>,
    /// Only the chain in this repository.
    pub(crate) repository_id: Option<Uuid>,
}
