//! A backup job names its disk: by ordinal for people and chains, by row for identity.

use async_trait::async_trait;
use sea_orm_migration::sea_orm::DbErr;

use super::Step;
use super::m20250901_090000_create_first_tables::{
    BACKUP_JOB_COLUMNS, BACKUP_JOB_INDEXES, BACKUP_JOBS,
};
use crate::ddl::{Ddl, Index};
use crate::dialect::Dialect;
use crate::loss::Risk;
use crate::sqlite_rebuild::{Rebuild, rebuild};

pub(crate) struct AddDiskId;

#[async_trait]
impl Step for AddDiskId {
    fn name(&self) -> &'static str {
        "m20251006_210000_add_backup_jobs_disk_id"
    }

    fn risks(&self) -> &'static [Risk] {
        RISKS
    }

    async fn up(&self, ddl: &Ddl<'_>) -> Result<(), DbErr> {
        if !ddl.has_column("backup_jobs", "disk_id").await? {
            ddl.run_each(SQLITE_UP, &[SERVER_UP], &[SERVER_UP]).await?;
        }
        ddl.index(&CONTEXT_DISK).await?;
        ddl.index(&DISK_ROW).await
    }

    async fn down(&self, ddl: &Ddl<'_>) -> Result<(), DbErr> {
        if ddl.dialect() == Dialect::Sqlite {
            let older = Rebuild {
                table: "backup_jobs",
                definition: BACKUP_JOBS,
                columns: BACKUP_JOB_COLUMNS,
                indexes: BACKUP_JOB_INDEXES,
            };
            return rebuild(ddl, &older).await;
        }
        if ddl.has_column("backup_jobs", "disk_id").await? {
            ddl.run_each(&[], &[MARIADB_DOWN], &[POSTGRES_DOWN]).await?;
        }
        Ok(())
    }
}

const RISKS: &[Risk] = &[Risk {
    table: "backup_jobs",
    condition: "disk_id <> 0 OR vm_disk_id IS NOT NULL",
    what: "backup jobs no longer name their disk",
}];

const SQLITE_UP: &[&str] = &[
    "ALTER TABLE backup_jobs ADD COLUMN disk_id INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE backup_jobs ADD COLUMN vm_disk_id BIGINT NULL REFERENCES vm_disks (id) ON DELETE SET NULL",
];

const SERVER_UP: &str = "ALTER TABLE backup_jobs
    ADD COLUMN disk_id INTEGER NOT NULL DEFAULT 0,
    ADD COLUMN vm_disk_id <big> NULL,
    ADD CONSTRAINT fk_backup_jobs_disk FOREIGN KEY (vm_disk_id) REFERENCES vm_disks (id) ON DELETE SET NULL";

const MARIADB_DOWN: &str = "ALTER TABLE backup_jobs
    DROP FOREIGN KEY fk_backup_jobs_disk,
    DROP INDEX idx_backup_jobs_context_disk,
    DROP INDEX idx_backup_jobs_disk,
    DROP COLUMN vm_disk_id,
    DROP COLUMN disk_id";

/// The indexes go with their columns here.
const POSTGRES_DOWN: &str = "ALTER TABLE backup_jobs DROP COLUMN vm_disk_id, DROP COLUMN disk_id";

const CONTEXT_DISK: Index = Index {
    name: "idx_backup_jobs_context_disk",
    table: "backup_jobs",
    columns: "vm_context_id, disk_id",
    unique: false,
};

const DISK_ROW: Index = Index {
    name: "idx_backup_jobs_disk",
    table: "backup_jobs",
    columns: "vm_disk_id",
    unique: false,
};
