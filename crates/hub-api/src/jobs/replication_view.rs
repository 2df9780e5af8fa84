//! Replications as the API shows them, and what questions about them may narrow.

use chrono::{DateTime, Utc};
use hub_domain::job::JobStatus as Status;
use hub_domain::replication::{ReplicaDisk, ReplicationJob};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::replications::KIND;
use crate::answer::{bytes, percent};
use crate::backups::view::BytesView;
use crate::events::Followed;
use crate::page::{After, Limit, limit};
use crate::remarks::{CopiedByView, WarningView};
use crate::waiting::{Line, WaitingView};
use crate::words::{Fault, JobStatus, ReplicaFormat, ReplicationType};

/// Which replications.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ReplicationQuery {
    /// Only of the VM with this name or context_id.
    pub(crate) vm_name: Option<String>,
    /// Most items to answer.
    #[serde(default, deserialize_with = "limit")]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500, default = 100)]
    pub(crate) limit: Limit,
    /// Only items after the one with this id: the `next` of the page before.
    #[param(value_type = Option<String>)]
    pub(crate) after: Option<After>,
}

/// A replication of one VM.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Replication)]
pub(crate) struct ReplicationView {
    pub(crate) id: Uuid,
    vm_context_id: Uuid,
    vm_name: String,
    replication_type: ReplicationType,
    format: ReplicaFormat,
    /// What it may send, if it was told.
    max_bytes_per_second: Option<i64>,
    /// Whether the guest is to be quiesced, if it was told; null is as the VMA is set up.
    quiesce: Option<bool>,
    /// Whether the guest's file systems were quiesced for the copy; null where the source does not know, or takes no
    /// snapshot.
    quiesced: Option<bool>,
    /// Why they were not, though that was asked for.
    quiesce_reason: Option<String>,
    status: JobStatus,
    /// What it waits for, while it is queued behind others, or runs and its VMA waits for its source.
    waiting: Option<WaitingView>,
    progress_percent: u8,
    /// Folded over the disks.
    bytes: BytesView,
    /// By ordinal.
    disks: Vec<ReplicaDiskView>,
    /// Which attempt at the copy this is, counted from 1.
    attempt: u32,
    /// Why it is not the first.
    attempt_reason: Option<String>,
    /// The VMA that copied it, or copies it; null until it has begun.
    copied_by: Option<CopiedByView>,
    /// What somebody should know of it; nothing of it lets the job fail.
    warnings: Vec<WarningView>,
    error: Option<Fault>,
    created_at: DateTime<Utc>,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
}

/// One disk of a replication.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ReplicaDisk)]
pub(crate) struct ReplicaDiskView {
    /// The disk's row.
    vm_disk_id: i64,
    /// The disk's ordinal.
    disk_id: u32,
    /// The hypervisor's own id of the disk.
    disk_key: String,
    /// The replica image, relative to the replica directory; null until it is prepared.
    replica_path: Option<String>,
    /// The method really used.
    method: Option<String>,
    /// Why this method.
    method_reason: Option<String>,
    /// The way to the disk's bytes, where the source knows several, such as `vddk` or `https`.
    reader: Option<String>,
    /// Why this way.
    reader_reason: Option<String>,
    bytes: BytesView,
    /// Root digest that both ends agree on; null until the disk is complete.
    root: Option<String>,
}

impl ReplicationView {
    pub(crate) fn of(job: &ReplicationJob, vm_name: String, line: &Line) -> Self {
        let (status, counters) = (job.state.status(), job.bytes());
        Self {
            id: job.id.as_uuid(),
            vm_context_id: job.vm.as_uuid(),
            vm_name,
            replication_type: job.kind.into(),
            format: job.format.into(),
            max_bytes_per_second: job.rate.map(|it| bytes(it.bytes_per_second())),
            quiesce: job.quiesce,
            quiesced: job.quiescence.as_ref().map(|it| it.quiesced),
            quiesce_reason: job.quiescence.as_ref().and_then(|it| it.reason.clone()),
            status: status.into(),
            waiting: line.waiting(KIND, job.id.as_uuid(), status),
            progress_percent: percent(counters.done, counters.total, status == Status::Succeeded),
            bytes: BytesView::of(counters),
            disks: job.disks.iter().map(ReplicaDiskView::of).collect(),
            attempt: job.attempt.number,
            attempt_reason: job.attempt.reason.clone(),
            copied_by: job.remarks.copied_by.as_ref().map(CopiedByView::of),
            warnings: WarningView::all(&job.remarks.warnings),
            error: job.state.fault().map(Fault::from),
            created_at: job.created_at,
            started_at: job.state.started_at(),
            finished_at: job.state.finished_at(),
        }
    }
}

impl Followed for ReplicationView {
    fn has_ended(&self) -> bool {
        Status::from(self.status).is_terminal()
    }
}

impl ReplicaDiskView {
    fn of(disk: &ReplicaDisk) -> Self {
        Self {
            vm_disk_id: disk.disk.as_raw(),
            disk_id: disk.ordinal,
            disk_key: disk.key.as_str().to_owned(),
            replica_path: disk.path.clone(),
            method: disk.method.clone(),
            method_reason: disk.method_reason.clone(),
            reader: disk.read_by.as_ref().map(|it| it.reader.clone()),
            reader_reason: disk.read_by.as_ref().and_then(|it| it.reason.clone()),
            bytes: BytesView::of(disk.bytes),
            root: disk.root.clone(),
        }
    }
}
