//! Backups and runs as the API shows them.

use chrono::{DateTime, Utc};
use hub_domain::backup::{BackupJob, BackupRun, Proof, run_status};
use hub_domain::chain::audit_runs_in_chain;
use hub_domain::job::JobStatus as Status;
use hub_domain::source::CopyBytes;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::audit::{AuditView, SuspicionView};
use super::runs::KIND;
use crate::answer::{bytes, percent};
use crate::events::Followed;
use crate::remarks::{CopiedByView, WarningView};
use crate::waiting::{Line, WaitingView};
use crate::words::{BackupType, Compression, Fault, JobStatus};

/// One protection of one VM at one instant: one backup per disk.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BackupRun)]
pub(crate) struct RunView {
    pub(crate) run_id: Uuid,
    vm_context_id: Uuid,
    vm_name: String,
    repository_id: Uuid,
    /// As the request said; it decides nothing.
    policy_id: Option<Uuid>,
    /// What was asked for; each backup says what it became.
    backup_type: BackupType,
    tags: Vec<String>,
    /// What it may send, if it was told.
    max_bytes_per_second: Option<i64>,
    /// Within how many runs the audit gets around a disk, if it was told; 63 where more were asked for, since no chain
    /// has more incrementals.
    audit_runs: Option<u32>,
    /// Whether the guest is to be quiesced, if it was told; null is as the VMA is set up.
    quiesce: Option<bool>,
    /// Folded over the backups: succeeded only when all have.
    status: JobStatus,
    /// What it waits for, while it is queued behind others, or runs and its VMA waits for its source.
    waiting: Option<WaitingView>,
    /// The VMA that copied it, or copies it; null until it has begun.
    copied_by: Option<CopiedByView>,
    /// What somebody should know of it; nothing of it lets the run fail.
    warnings: Vec<WarningView>,
    created_at: DateTime<Utc>,
    bytes: BytesView,
    /// By ordinal.
    backups: Vec<BackupView>,
}

/// One disk within a run; a restore point once it has succeeded.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Backup)]
pub(crate) struct BackupView {
    backup_id: Uuid,
    run_id: Uuid,
    vm_context_id: Uuid,
    vm_name: String,
    /// The disk's ordinal.
    disk_id: u32,
    /// The hypervisor's own id of the disk.
    disk_key: String,
    /// The disk's row, while it exists.
    vm_disk_id: Option<i64>,
    repository_id: Uuid,
    /// As the request said; it decides nothing.
    policy_id: Option<Uuid>,
    backup_type: BackupType,
    status: JobStatus,
    /// What it waits for, while it is queued behind others, or its run goes on and this disk has not begun.
    waiting: Option<WaitingView>,
    /// The image, relative to its repository; null until it is prepared.
    repository_path: Option<String>,
    /// The point it stands on.
    parent_backup_id: Option<Uuid>,
    /// The source's mark for the next incremental.
    change_id: Option<String>,
    /// How the blocks were found: `full`, `changed_since` or `by_digest`.
    method: String,
    /// Why so, where it is not what was asked for.
    method_reason: Option<String>,
    /// Whether the guest's file systems were quiesced at that instant; null where the source does not know, or takes
    /// no snapshot.
    quiesced: Option<bool>,
    /// Why they were not, though that was asked for.
    quiesce_reason: Option<String>,
    /// The way to the disk's bytes, where the source knows several, such as `vddk` or `https`.
    reader: Option<String>,
    /// Why this way.
    reader_reason: Option<String>,
    /// What was read and compared of the blocks that the source called unchanged.
    audit: AuditView,
    /// Whether changes may be missing in it, because it relied on a source that was caught leaving some out.
    suspect: bool,
    /// Why its chain is suspect, if it is: on every point of the chain, those included for which everything was read.
    suspicion: Option<SuspicionView>,
    /// How the image is stored.
    compression: Compression,
    /// The disk's capacity at that instant.
    capacity_bytes: i64,
    bytes: BytesView,
    progress_percent: u8,
    /// Bytes that image and manifest take in the repository.
    stored_bytes: i64,
    /// What both ends saw; null until it has succeeded.
    proof: Option<ProofView>,
    /// Which attempt at the copy this is, counted from 1.
    attempt: u32,
    /// Why it is not the first.
    attempt_reason: Option<String>,
    error: Option<Fault>,
    created_at: DateTime<Utc>,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
    /// Since when it is being deleted, and is no restore point any more; delete it again when that failed.
    deleting_since: Option<DateTime<Utc>>,
}

/// Counters of a copy.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CopyBytes)]
pub(crate) struct BytesView {
    /// To be looked at.
    total: i64,
    /// Looked at.
    done: i64,
    /// Read from the source.
    read: i64,
    /// Sent as data, also what was sent again.
    sent: i64,
    /// Of that, sent again because a connection was lost before it was answered.
    sent_again: i64,
    /// How often connections were lost and made again; not bytes.
    reconnects: i64,
}

/// Root digests, found independently at both ends.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Proof)]
pub(crate) struct ProofView {
    /// Of what the VMA read from the source.
    source_root: String,
    /// Of what the hub stored.
    stored_root: String,
    agrees: bool,
}

impl RunView {
    pub(crate) fn of(run: BackupRun, jobs: &[BackupJob], line: &Line) -> Self {
        let status = run_status(jobs);
        Self {
            waiting: line.waiting(KIND, run.id.as_uuid(), status),
            run_id: run.id.as_uuid(),
            vm_context_id: run.vm.as_uuid(),
            vm_name: run.vm_name,
            repository_id: run.repository.as_uuid(),
            policy_id: run.policy.map(|it| it.as_uuid()),
            backup_type: run.backup_type.into(),
            tags: run.tags,
            audit_runs: run.audit_runs.map(|it| audit_runs_in_chain(it).get().get()),
            quiesce: run.quiesce,
            max_bytes_per_second: run.rate.map(|it| bytes(it.bytes_per_second())),
            status: status.into(),
            copied_by: run.remarks.copied_by.as_ref().map(CopiedByView::of),
            warnings: WarningView::all(&run.remarks.warnings),
            created_at: run.created_at,
            bytes: BytesView::sum(jobs.iter().map(|job| job.bytes)),
            backups: jobs.iter().map(|job| BackupView::of(job, line)).collect(),
        }
    }
}

impl Followed for RunView {
    fn has_ended(&self) -> bool {
        Status::from(self.status).is_terminal()
    }
}

impl BackupView {
    /// A completed one, which waits for nothing.
    pub(crate) fn of_point(job: &BackupJob) -> Self {
        Self::of(job, &Line::default())
    }

    pub(crate) fn of(job: &BackupJob, line: &Line) -> Self {
        let status = job.state.status();
        Self {
            backup_id: job.id.as_uuid(),
            run_id: job.run.as_uuid(),
            vm_context_id: job.vm.as_uuid(),
            vm_name: job.vm_name.clone(),
            disk_id: job.ordinal,
            disk_key: job.disk_key.as_str().to_owned(),
            vm_disk_id: job.disk.map(|it| it.as_raw()),
            repository_id: job.repository.as_uuid(),
            policy_id: job.policy.map(|it| it.as_uuid()),
            backup_type: job.backup_type.into(),
            status: status.into(),
            waiting: line.disk_waiting(KIND, job.run.as_uuid(), status, &job.disk_key),
            repository_path: job.path.clone(),
            parent_backup_id: job.parent.map(|it| it.as_uuid()),
            change_id: job.change_id.clone(),
            method: job.method.clone(),
            method_reason: job.method_reason.clone(),
            quiesced: job.quiescence.as_ref().map(|it| it.quiesced),
            quiesce_reason: job.quiescence.as_ref().and_then(|it| it.reason.clone()),
            reader: job.read_by.as_ref().map(|it| it.reader.clone()),
            reader_reason: job.read_by.as_ref().and_then(|it| it.reason.clone()),
            audit: AuditView::of(job.audited),
            suspect: job.is_suspect(),
            suspicion: job.suspicion.as_ref().map(SuspicionView::of),
            compression: job.compression.into(),
            capacity_bytes: bytes(job.capacity.bytes()),
            bytes: BytesView::of(job.bytes),
            progress_percent: percent(job.bytes.done, job.bytes.total, status == Status::Succeeded),
            stored_bytes: bytes(job.stored_bytes),
            proof: job.proof.as_ref().map(ProofView::of),
            attempt: job.attempt.number,
            attempt_reason: job.attempt.reason.clone(),
            error: job.state.fault().map(Fault::from),
            created_at: job.created_at,
            started_at: job.state.started_at(),
            finished_at: job.state.finished_at(),
            deleting_since: job.deleting_since,
        }
    }
}

impl BytesView {
    pub(crate) fn of(counters: CopyBytes) -> Self {
        Self {
            total: bytes(counters.total),
            done: bytes(counters.done),
            read: bytes(counters.read),
            sent: bytes(counters.sent),
            sent_again: bytes(counters.again),
            reconnects: bytes(counters.reconnects),
        }
    }

    fn sum(parts: impl Iterator<Item = CopyBytes>) -> Self {
        Self::of(CopyBytes::sum(parts))
    }
}

impl ProofView {
    fn of(proof: &Proof) -> Self {
        Self {
            source_root: proof.source_root.clone(),
            stored_root: proof.stored_root.clone(),
            agrees: proof.agrees(),
        }
    }
}
