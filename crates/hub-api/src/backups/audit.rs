//! The audit of change tracking as the API shows it.

use chrono::{DateTime, Utc};
use hub_domain::audit::{Audited, Suspicion};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::answer::bytes;

/// What a backup has read of the blocks that its source called unchanged, to compare them with its parent.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Audit)]
pub(super) struct AuditView {
    /// Blocks compared. Where everything was read, all that the source did not name as changed since the backup before,
    /// which audits the whole chain of that one; 0 where there was nothing to audit, or the source could not be asked.
    blocks: i64,
    /// Bytes of the disk that they are.
    bytes: i64,
    /// Where the next backup of the disk goes on, in bytes.
    next_offset: i64,
}

/// Why a chain is suspect: the audit of one of its backups found a change that the source had not told.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Suspicion)]
pub(super) struct SuspicionView {
    /// The backup whose audit found it; it was read as a whole, and is right.
    found_by_backup_id: Uuid,
    found_at: DateTime<Utc>,
    /// First byte of the first block that was called unchanged and is not.
    offset: i64,
    /// How many such blocks there were in what was audited.
    blocks: i64,
    /// Digest of that block in the point before, hexadecimal; zeroes for a block of zeroes.
    expected_digest: String,
    /// Its digest at the source.
    found_digest: String,
}

impl AuditView {
    pub(super) fn of(audited: Audited) -> Self {
        Self {
            blocks: bytes(audited.blocks),
            bytes: bytes(audited.bytes),
            next_offset: bytes(audited.next),
        }
    }
}

impl SuspicionView {
    pub(super) fn of(suspicion: &Suspicion) -> Self {
        let lie = &suspicion.lie;
        Self {
            found_by_backup_id: suspicion.found_by.as_uuid(),
            found_at: suspicion.found_at,
            offset: bytes(lie.offset),
            blocks: bytes(lie.blocks),
            expected_digest: lie.expected.clone(),
            found_digest: lie.found.clone(),
        }
    }
}
