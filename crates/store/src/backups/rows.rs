//! Rows of backup runs, backup jobs and chains.

use hub_domain::attempt::Attempt;
use hub_domain::audit::{AuditRuns, Audited};
use hub_domain::backup::{BackupJob, BackupRun, BackupType, Proof};
use hub_domain::capacity::Capacity;
use hub_domain::chain::{BackupChain, ChainKey};
use hub_domain::disk::DiskKey;
use hub_domain::ids::VmDiskId;
use hub_domain::source::CopyBytes;
use hub_ports::StoreError;
use hub_vm_disk_repo::column;
use sea_orm::Set;

use super::suspicion;
use crate::entity::{backup_chain, backup_job, backup_run};
use crate::job_state::StateColumns;
use crate::{limit, reading, remarks};

impl TryFrom<backup_run::Model> for BackupRun {
    type Error = StoreError;

    fn try_from(row: backup_run::Model) -> Result<Self, StoreError> {
        Ok(Self {
            id: column::id("backup_runs.id", &row.id)?,
            vm: column::id("vm_context_id", &row.vm_context_id)?,
            vm_name: row.vm_name,
            repository: column::id("repository_id", &row.repository_id)?,
            policy: column::optional_id("policy_id", row.policy_id.as_deref())?,
            backup_type: column::word("backup_type", &row.backup_type, BackupType::from_word)?,
            tags: serde_json::from_str(&row.tags)
                .map_err(|error| column::corrupt("tags", error))?,
            rate: limit::rate(row.max_bytes_per_second)?,
            audit_runs: row.audit_runs.map(audit_runs).transpose()?,
            quiesce: row.quiesce.map(reading::flag),
            remarks: remarks::from_text(row.remarks.as_deref())?,
            created_at: row.created_at,
        })
    }
}

fn audit_runs(stored: i32) -> Result<AuditRuns, StoreError> {
    let number = column::number("audit_runs", stored.into())?;
    AuditRuns::new(number).map_err(|error| column::corrupt("audit_runs", error))
}

/// The row of a run.
pub(super) fn run(run: &BackupRun) -> Result<backup_run::ActiveModel, StoreError> {
    let tags = serde_json::to_string(&run.tags).map_err(|it| StoreError::Internal(it.into()))?;
    Ok(backup_run::ActiveModel {
        id: Set(run.id.to_string()),
        vm_context_id: Set(run.vm.to_string()),
        vm_name: Set(run.vm_name.clone()),
        repository_id: Set(run.repository.to_string()),
        policy_id: Set(run.policy.map(|id| id.to_string())),
        backup_type: Set(run.backup_type.word().to_owned()),
        tags: Set(tags),
        max_bytes_per_second: Set(run.rate.map(limit::rate_column)),
        audit_runs: Set(run.audit_runs.map(|it| column::small(it.get().get())).transpose()?),
        quiesce: Set(run.quiesce.map(i32::from)),
        remarks: Set(remarks::to_text(&run.remarks)?),
        created_at: Set(run.created_at),
    })
}

impl TryFrom<backup_job::Model> for BackupJob {
    type Error = StoreError;

    fn try_from(row: backup_job::Model) -> Result<Self, StoreError> {
        let capacity = column::number("capacity_bytes", row.capacity_bytes)?;
        let state = StateColumns {
            status: row.status,
            started_at: row.started_at,
            finished_at: row.finished_at,
            error_code: row.error_code,
            error_text: row.error_text,
        };
        Ok(Self {
            id: column::id("backup_jobs.id", &row.id)?,
            run: column::id("run_id", &row.run_id)?,
            vm: column::id("vm_context_id", &row.vm_context_id)?,
            vm_name: row.vm_name,
            ordinal: column::number("disk_id", row.disk_id.into())?,
            disk: row.vm_disk_id.map(VmDiskId::from_raw),
            disk_key: DiskKey::new(&row.disk_key)
                .map_err(|_| column::corrupt("disk_key", &row.disk_key))?,
            repository: column::id("repository_id", &row.repository_id)?,
            policy: column::optional_id("policy_id", row.policy_id.as_deref())?,
            backup_type: column::word("backup_type", &row.backup_type, BackupType::from_word)?,
            capacity: Capacity::new(capacity)
                .map_err(|_| column::corrupt("capacity_bytes", capacity))?,
            path: row.repository_path,
            parent: column::optional_id("parent_backup_id", row.parent_backup_id.as_deref())?,
            change_id: row.change_id,
            method: row.method,
            method_reason: row.method_reason,
            quiescence: reading::quiescence(row.quiesced, row.quiesce_reason),
            read_by: reading::read_by(row.reader, row.reader_reason),
            audited: Audited {
                blocks: column::number("audited_blocks", row.audited_blocks)?,
                bytes: column::number("audited_bytes", row.audited_bytes)?,
                next: column::number("audit_next", row.audit_next)?,
            },
            suspicion: row.suspicion.as_deref().map(suspicion::from_text).transpose()?,
            compression: limit::compression(&row.compression, row.compression_level)?,
            proof: row
                .source_root
                .zip(row.stored_root)
                .map(|(source_root, stored_root)| Proof { source_root, stored_root }),
            bytes: CopyBytes {
                total: column::number("bytes_total", row.bytes_total)?,
                done: column::number("bytes_done", row.bytes_done)?,
                read: column::number("bytes_read", row.bytes_read)?,
                sent: column::number("bytes_sent", row.bytes_sent)?,
                again: column::number("bytes_sent_again", row.bytes_sent_again)?,
                reconnects: column::number("reconnects", row.reconnects)?,
            },
            stored_bytes: column::number("stored_bytes", row.stored_bytes)?,
            state: state.try_into()?,
            attempt: Attempt {
                number: column::number("attempt", row.attempt.into())?,
                reason: row.attempt_reason,
            },
            deleting_since: row.deleting_since,
            version: row.version,
            created_at: row.created_at,
        })
    }
}

/// The row of a job.
pub(super) fn job(job: &BackupJob) -> Result<backup_job::ActiveModel, StoreError> {
    let state = StateColumns::from(&job.state);
    let (source_root, stored_root) =
        job.proof.clone().map(|it| (it.source_root, it.stored_root)).unzip();
    let (quiesced, quiesce_reason) = reading::quiescence_columns(job.quiescence.as_ref());
    let (reader, reader_reason) = reading::read_by_columns(job.read_by.as_ref());
    Ok(backup_job::ActiveModel {
        id: Set(job.id.to_string()),
        run_id: Set(job.run.to_string()),
        vm_context_id: Set(job.vm.to_string()),
        vm_name: Set(job.vm_name.clone()),
        disk_id: Set(column::small(job.ordinal)?),
        vm_disk_id: Set(job.disk.map(VmDiskId::as_raw)),
        disk_key: Set(job.disk_key.as_str().to_owned()),
        repository_id: Set(job.repository.to_string()),
        policy_id: Set(job.policy.map(|id| id.to_string())),
        backup_type: Set(job.backup_type.word().to_owned()),
        capacity_bytes: Set(column::signed(job.capacity.bytes())?),
        repository_path: Set(job.path.clone()),
        parent_backup_id: Set(job.parent.map(|id| id.to_string())),
        change_id: Set(job.change_id.clone()),
        method: Set(job.method.clone()),
        method_reason: Set(job.method_reason.clone()),
        quiesced: Set(quiesced),
        quiesce_reason: Set(quiesce_reason),
        reader: Set(reader),
        reader_reason: Set(reader_reason),
        audited_blocks: Set(column::signed(job.audited.blocks)?),
        audited_bytes: Set(column::signed(job.audited.bytes)?),
        audit_next: Set(column::signed(job.audited.next)?),
        suspicion: Set(job.suspicion.as_ref().map(suspicion::to_text).transpose()?),
        compression: Set(job.compression.word().to_owned()),
        compression_level: Set(limit::level_column(job.compression)),
        source_root: Set(source_root),
        stored_root: Set(stored_root),
        bytes_total: Set(column::signed(job.bytes.total)?),
        bytes_done: Set(column::signed(job.bytes.done)?),
        bytes_read: Set(column::signed(job.bytes.read)?),
        bytes_sent: Set(column::signed(job.bytes.sent)?),
        bytes_sent_again: Set(column::signed(job.bytes.again)?),
        reconnects: Set(column::signed(job.bytes.reconnects)?),
        stored_bytes: Set(column::signed(job.stored_bytes)?),
        deleting_since: Set(job.deleting_since),
        attempt: Set(column::small(job.attempt.number)?),
        attempt_reason: Set(job.attempt.reason.clone()),
        version: Set(job.version),
        status: Set(state.status),
        error_code: Set(state.error_code),
        error_text: Set(state.error_text),
        created_at: Set(job.created_at),
        started_at: Set(state.started_at),
        finished_at: Set(state.finished_at),
    })
}

impl TryFrom<backup_chain::Model> for BackupChain {
    type Error = StoreError;

    fn try_from(row: backup_chain::Model) -> Result<Self, StoreError> {
        Ok(Self {
            key: ChainKey {
                vm: column::id("vm_context_id", &row.vm_context_id)?,
                ordinal: column::number("disk_id", row.disk_id.into())?,
                repository: column::id("repository_id", &row.repository_id)?,
            },
            full: column::id("full_backup_id", &row.full_backup_id)?,
            latest: column::id("latest_backup_id", &row.latest_backup_id)?,
            count: column::number("backup_count", row.backup_count.into())?,
            stored_bytes: column::number("stored_bytes", row.stored_bytes)?,
        })
    }
}

/// The row of a chain.
pub(super) fn chain(chain: &BackupChain) -> Result<backup_chain::ActiveModel, StoreError> {
    Ok(backup_chain::ActiveModel {
        vm_context_id: Set(chain.key.vm.to_string()),
        disk_id: Set(column::small(chain.key.ordinal)?),
        repository_id: Set(chain.key.repository.to_string()),
        full_backup_id: Set(chain.full.to_string()),
        latest_backup_id: Set(chain.latest.to_string()),
        backup_count: Set(column::small(chain.count)?),
        stored_bytes: Set(column::signed(chain.stored_bytes)?),
    })
}
