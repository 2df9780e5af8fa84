//! A backup job says of which disk it is, how its blocks were found, and what proves them.

use async_trait::async_trait;
use sea_orm_migration::sea_orm::DbErr;

use super::Step;
use crate::ddl::Ddl;
use crate::loss::Risk;

pub(crate) struct AddBackupProofs;

#[async_trait]
impl Step for AddBackupProofs {
    fn name(&self) -> &'static str {
        "m20251103_090000_add_backup_proofs"
    }

    fn risks(&self) -> &'static [Risk] {
        RISKS
    }

    async fn up(&self, ddl: &Ddl<'_>) -> Result<(), DbErr> {
        ddl.add_columns("backup_jobs", COLUMNS).await?;
        ddl.run(SIZE_OF_OLD_ROWS).await
    }

    async fn down(&self, ddl: &Ddl<'_>) -> Result<(), DbErr> {
        ddl.drop_columns("backup_jobs", COLUMNS).await
    }
}

const RISKS: &[Risk] = &[Risk {
    table: "backup_jobs",
    condition: "source_root IS NOT NULL OR deleting_since IS NOT NULL",
    what: "backup jobs lose their proofs and sizes",
}];

/// An older row never said which disk it is of: it is named `unknown`, and without a disk row no incremental will
/// ever stand on it.
const COLUMNS: &[(&str, &str)] = &[
    ("disk_key", "<key> NOT NULL DEFAULT 'unknown'"),
    ("capacity_bytes", "<big> NOT NULL DEFAULT 512 CHECK (capacity_bytes > 0)"),
    ("method", "<text> NOT NULL DEFAULT 'full'"),
    ("method_reason", "<long> NULL"),
    ("source_root", "<text> NULL"),
    ("stored_root", "<text> NULL"),
    ("bytes_read", "<big> NOT NULL DEFAULT 0"),
    ("bytes_sent", "<big> NOT NULL DEFAULT 0"),
    ("stored_bytes", "<big> NOT NULL DEFAULT 0"),
    ("deleting_since", "<time> NULL"),
    ("version", "<big> NOT NULL DEFAULT 0"),
];

/// What an older full had to look at is the size of its disk.
const SIZE_OF_OLD_ROWS: &str = "UPDATE backup_jobs SET capacity_bytes = bytes_total \
     WHERE disk_key = 'unknown' AND capacity_bytes = 512 AND bytes_total > 0 AND bytes_total % 512 = 0";
