//! Rows of restore jobs and verifications.

use hub_domain::restore::{RestoreFormat, RestoreJob, Verification, VerificationScope};
use hub_ports::StoreError;
use hub_vm_disk_repo::column;
use sea_orm::Set;

use crate::entity::{restore_job, verification};
use crate::job_state::StateColumns;
use crate::verdict;

impl TryFrom<restore_job::Model> for RestoreJob {
    type Error = StoreError;

    fn try_from(row: restore_job::Model) -> Result<Self, StoreError> {
        let state = StateColumns {
            status: row.status,
            started_at: row.started_at,
            finished_at: row.finished_at,
            error_code: row.error_code,
            error_text: row.error_text,
        };
        Ok(Self {
            id: column::id("restore_jobs.id", &row.id)?,
            point: column::id("backup_id", &row.backup_id)?,
            format: column::word("format", &row.format, RestoreFormat::from_word)?,
            file_name: row.file_name,
            bytes_total: column::number("bytes_total", row.bytes_total)?,
            bytes_done: column::number("bytes_done", row.bytes_done)?,
            state: state.try_into()?,
            version: row.version,
            created_at: row.created_at,
        })
    }
}

/// The row of a restore job.
pub(super) fn restore(job: &RestoreJob) -> Result<restore_job::ActiveModel, StoreError> {
    let state = StateColumns::from(&job.state);
    Ok(restore_job::ActiveModel {
        id: Set(job.id.to_string()),
        backup_id: Set(job.point.to_string()),
        format: Set(job.format.word().to_owned()),
        file_name: Set(job.file_name.clone()),
        bytes_total: Set(column::signed(job.bytes_total)?),
        bytes_done: Set(column::signed(job.bytes_done)?),
        version: Set(job.version),
        status: Set(state.status),
        error_code: Set(state.error_code),
        error_text: Set(state.error_text),
        created_at: Set(job.created_at),
        started_at: Set(state.started_at),
        finished_at: Set(state.finished_at),
    })
}

impl TryFrom<verification::Model> for Verification {
    type Error = StoreError;

    fn try_from(row: verification::Model) -> Result<Self, StoreError> {
        let state = StateColumns {
            status: row.status,
            started_at: row.started_at,
            finished_at: row.finished_at,
            error_code: row.error_code,
            error_text: row.error_text,
        };
        Ok(Self {
            id: column::id("verifications.id", &row.id)?,
            point: column::id("backup_id", &row.backup_id)?,
            scope: column::word("scope", &row.scope, VerificationScope::from_word)?,
            bytes_total: column::number("bytes_total", row.bytes_total)?,
            bytes_done: column::number("bytes_done", row.bytes_done)?,
            verdicts: verdict::from_text(&row.verdicts)?,
            state: state.try_into()?,
            version: row.version,
            created_at: row.created_at,
        })
    }
}

/// The row of a verification.
pub(super) fn verification(job: &Verification) -> Result<verification::ActiveModel, StoreError> {
    let state = StateColumns::from(&job.state);
    Ok(verification::ActiveModel {
        id: Set(job.id.to_string()),
        backup_id: Set(job.point.to_string()),
        scope: Set(job.scope.word().to_owned()),
        bytes_total: Set(column::signed(job.bytes_total)?),
        bytes_done: Set(column::signed(job.bytes_done)?),
        verdicts: Set(verdict::to_text(&job.verdicts)?),
        version: Set(job.version),
        status: Set(state.status),
        error_code: Set(state.error_code),
        error_text: Set(state.error_text),
        created_at: Set(job.created_at),
        started_at: Set(state.started_at),
        finished_at: Set(state.finished_at),
    })
}
