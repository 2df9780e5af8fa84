//! Rows of replication jobs and their disks.

use hub_domain::attempt::Attempt;
use hub_domain::disk::DiskKey;
use hub_domain::ids::{ReplicationJobId, VmDiskId};
use hub_domain::replication::{ReplicaDisk, ReplicaFormat, ReplicationJob, ReplicationKind};
use hub_domain::source::CopyBytes;
use hub_ports::StoreError;
use hub_vm_disk_repo::column;
use sea_orm::Set;

use crate::entity::{replication_job, replication_job_disk};
use crate::job_state::StateColumns;
use crate::{limit, reading, remarks};

impl replication_job::Model {
    pub(super) fn with_disks(self, disks: Vec<ReplicaDisk>) -> Result<ReplicationJob, StoreError> {
        let state = StateColumns {
            status: self.status,
            started_at: self.started_at,
            finished_at: self.finished_at,
            error_code: self.error_code,
            error_text: self.error_text,
        };
        Ok(ReplicationJob {
            id: column::id("replication_jobs.id", &self.id)?,
            vm: column::id("vm_context_id", &self.vm_context_id)?,
            kind: column::word(
                "replication_type",
                &self.replication_type,
                ReplicationKind::from_word,
            )?,
            format: column::word("format", &self.format, ReplicaFormat::from_word)?,
            rate: limit::rate(self.max_bytes_per_second)?,
            quiesce: self.quiesce.map(reading::flag),
            quiescence: reading::quiescence(self.quiesced, self.quiesce_reason),
            state: state.try_into()?,
            attempt: Attempt {
                number: column::number("attempt", self.attempt.into())?,
                reason: self.attempt_reason,
            },
            remarks: remarks::from_text(self.remarks.as_deref())?,
            disks,
            version: self.version,
            created_at: self.created_at,
        })
    }
}

/// The job's own row; its sums are for people who read the table, the domain folds them from the disks.
pub(super) fn job(job: &ReplicationJob) -> Result<replication_job::ActiveModel, StoreError> {
    let state = StateColumns::from(&job.state);
    let bytes = job.bytes();
    let percent = u128::from(bytes.done.min(bytes.total)) * 100 / u128::from(bytes.total.max(1));
    let (quiesced, quiesce_reason) = reading::quiescence_columns(job.quiescence.as_ref());
    Ok(replication_job::ActiveModel {
        id: Set(job.id.to_string()),
        vm_context_id: Set(job.vm.to_string()),
        replication_type: Set(job.kind.word().to_owned()),
        format: Set(job.format.word().to_owned()),
        max_bytes_per_second: Set(job.rate.map(limit::rate_column)),
        quiesce: Set(job.quiesce.map(i32::from)),
        quiesced: Set(quiesced),
        quiesce_reason: Set(quiesce_reason),
        progress_percent: Set(i32::try_from(percent).unwrap_or(100)),
        bytes_total: Set(column::signed(bytes.total)?),
        bytes_done: Set(column::signed(bytes.done)?),
        attempt: Set(column::small(job.attempt.number)?),
        attempt_reason: Set(job.attempt.reason.clone()),
        remarks: Set(remarks::to_text(&job.remarks)?),
        version: Set(job.version),
        status: Set(state.status),
        error_code: Set(state.error_code),
        error_text: Set(state.error_text),
        created_at: Set(job.created_at),
        started_at: Set(state.started_at),
        finished_at: Set(state.finished_at),
    })
}

impl TryFrom<replication_job_disk::Model> for ReplicaDisk {
    type Error = StoreError;

    fn try_from(row: replication_job_disk::Model) -> Result<Self, StoreError> {
        Ok(Self {
            disk: VmDiskId::from_raw(row.vm_disk_id),
            ordinal: column::number("ordinal", row.ordinal.into())?,
            key: DiskKey::new(&row.disk_key)
                .map_err(|_| column::corrupt("disk_key", &row.disk_key))?,
            path: row.replica_path,
            method: row.method,
            method_reason: row.method_reason,
            read_by: reading::read_by(row.reader, row.reader_reason),
            bytes: CopyBytes {
                total: column::number("bytes_total", row.bytes_total)?,
                done: column::number("bytes_done", row.bytes_done)?,
                read: column::number("bytes_read", row.bytes_read)?,
                sent: column::number("bytes_sent", row.bytes_sent)?,
                again: column::number("bytes_sent_again", row.bytes_sent_again)?,
                reconnects: column::number("reconnects", row.reconnects)?,
            },
            root: row.root,
        })
    }
}

/// The row of one disk of a job.
pub(super) fn disk(
    job: ReplicationJobId,
    disk: &ReplicaDisk,
) -> Result<replication_job_disk::ActiveModel, StoreError> {
    let (reader, reader_reason) = reading::read_by_columns(disk.read_by.as_ref());
    Ok(replication_job_disk::ActiveModel {
        job_id: Set(job.to_string()),
        ordinal: Set(column::small(disk.ordinal)?),
        vm_disk_id: Set(disk.disk.as_raw()),
        disk_key: Set(disk.key.as_str().to_owned()),
        replica_path: Set(disk.path.clone()),
        method: Set(disk.method.clone()),
        method_reason: Set(disk.method_reason.clone()),
        reader: Set(reader),
        reader_reason: Set(reader_reason),
        bytes_total: Set(column::signed(disk.bytes.total)?),
        bytes_done: Set(column::signed(disk.bytes.done)?),
        bytes_read: Set(column::signed(disk.bytes.read)?),
        bytes_sent: Set(column::signed(disk.bytes.sent)?),
        bytes_sent_again: Set(column::signed(disk.bytes.again)?),
        reconnects: Set(column::signed(disk.bytes.reconnects)?),
        root: Set(disk.root.clone()),
    })
}
