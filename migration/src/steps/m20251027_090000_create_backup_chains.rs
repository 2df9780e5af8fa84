//! One row per chain: which full and which latest point a disk has in a repository.

use async_trait::async_trait;
use sea_orm_migration::sea_orm::DbErr;

use super::Step;
use crate::ddl::{Ddl, Index};
use crate::loss::Risk;

pub(crate) struct CreateBackupChains;

#[async_trait]
impl Step for CreateBackupChains {
    fn name(&self) -> &'static str {
        "m20251027_090000_create_backup_chains"
    }

    fn risks(&self) -> &'static [Risk] {
        RISKS
    }

    async fn up(&self, ddl: &Ddl<'_>) -> Result<(), DbErr> {
        ddl.run(CHAINS).await?;
        for index in INDEXES {
            ddl.index(index).await?;
        }
        Ok(())
    }

    async fn down(&self, ddl: &Ddl<'_>) -> Result<(), DbErr> {
        ddl.run("DROP TABLE IF EXISTS backup_chains").await
    }
}

const RISKS: &[Risk] =
    &[Risk { table: "backup_chains", condition: "", what: "chain rows are deleted" }];

/// The points are referenced with RESTRICT: a point cannot be deleted while its chain row still names it, so the
/// row is changed or removed first, in the same transaction (trap D4).
const CHAINS: &str = "CREATE TABLE IF NOT EXISTS backup_chains (
    vm_context_id <uuid> NOT NULL,
    disk_id INTEGER NOT NULL,
    repository_id <uuid> NOT NULL,
    full_backup_id <uuid> NOT NULL,
    latest_backup_id <uuid> NOT NULL,
    backup_count INTEGER NOT NULL,
    stored_bytes <big> NOT NULL,
    CONSTRAINT pk_backup_chains PRIMARY KEY (vm_context_id, disk_id, repository_id),
    CONSTRAINT fk_backup_chains_repository FOREIGN KEY (repository_id) REFERENCES backup_repositories (id) ON DELETE RESTRICT,
    CONSTRAINT fk_backup_chains_full FOREIGN KEY (full_backup_id) REFERENCES backup_jobs (id) ON DELETE RESTRICT,
    CONSTRAINT fk_backup_chains_latest FOREIGN KEY (latest_backup_id) REFERENCES backup_jobs (id) ON DELETE RESTRICT
) <options>";

const INDEXES: &[Index] = &[
    Index {
        name: "idx_backup_chains_full",
        table: "backup_chains",
        columns: "full_backup_id",
        unique: false,
    },
    Index {
        name: "idx_backup_chains_latest",
        table: "backup_chains",
        columns: "latest_backup_id",
        unique: false,
    },
    Index {
        name: "idx_backup_chains_repository",
        table: "backup_chains",
        columns: "repository_id",
        unique: false,
    },
];
