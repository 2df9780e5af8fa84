//! The cure: a disk is stored at discovery, without a job, and outlives the jobs that are linked to it.

use async_trait::async_trait;
use sea_orm_migration::sea_orm::DbErr;

use super::Step;
use super::m20250901_090000_create_first_tables::{VM_DISK_COLUMNS, VM_DISKS, VM_DISKS_JOB};
use crate::ddl::{Ddl, Index};
use crate::dialect::Dialect;
use crate::loss::Risk;
use crate::sqlite_rebuild::{Rebuild, rebuild};

pub(crate) struct MakeJobIdNullable;

#[async_trait]
impl Step for MakeJobIdNullable {
    fn name(&self) -> &'static str {
        "m20251006_200000_make_vm_disks_job_id_nullable"
    }

    fn risks(&self) -> &'static [Risk] {
        RISKS
    }

    async fn up(&self, ddl: &Ddl<'_>) -> Result<(), DbErr> {
        match ddl.dialect() {
            Dialect::MariaDb => {
                if !ddl.has_constraint("fk_vm_disks_job_set_null").await? {
                    ddl.run(MARIADB_UP).await?;
                }
            }
            Dialect::Postgres => {
                ddl.run(POSTGRES_UP).await?;
                ddl.index(&CONTEXT_JOB).await?;
            }
            Dialect::Sqlite => {
                let definition = nullable();
                let indexes = [VM_DISKS_JOB, CONTEXT_JOB];
                rebuild(ddl, &to(&definition, &indexes)).await?;
            }
        }
        put_back(ddl).await
    }

    async fn down(&self, ddl: &Ddl<'_>) -> Result<(), DbErr> {
        archive(ddl).await?;
        match ddl.dialect() {
            Dialect::MariaDb => {
                if !ddl.has_constraint("fk_vm_disks_job").await? {
                    ddl.run(MARIADB_DOWN).await?;
                }
                Ok(())
            }
            Dialect::Postgres => {
                ddl.run(POSTGRES_DOWN).await?;
                ddl.drop_index(&CONTEXT_JOB).await
            }
            Dialect::Sqlite => rebuild(ddl, &to(VM_DISKS, &[VM_DISKS_JOB])).await,
        }
    }
}

const RISKS: &[Risk] = &[Risk {
    table: "vm_disks",
    condition: "job_id IS NULL",
    what: "disks without a replication job (job_id NULL) are archived until the next up",
}];

/// One statement, so that a crash leaves either the old schema or the new; the foreign key gets a new name, since
/// the old one cannot be dropped and made in the same statement.
const MARIADB_UP: &str = "ALTER TABLE vm_disks
    DROP FOREIGN KEY fk_vm_disks_job,
    MODIFY COLUMN job_id <uuid> NULL,
    ADD CONSTRAINT fk_vm_disks_job_set_null FOREIGN KEY (job_id) REFERENCES replication_jobs (id) ON DELETE SET NULL,
    ADD INDEX idx_vm_disks_context_job (vm_context_id, job_id)";

const MARIADB_DOWN: &str = "ALTER TABLE vm_disks
    DROP FOREIGN KEY fk_vm_disks_job_set_null,
    MODIFY COLUMN job_id <uuid> NOT NULL,
    ADD CONSTRAINT fk_vm_disks_job FOREIGN KEY (job_id) REFERENCES replication_jobs (id) ON DELETE CASCADE,
    DROP INDEX idx_vm_disks_context_job";

const POSTGRES_UP: &str = "ALTER TABLE vm_disks
    DROP CONSTRAINT fk_vm_disks_job,
    ALTER COLUMN job_id DROP NOT NULL,
    ADD CONSTRAINT fk_vm_disks_job_set_null FOREIGN KEY (job_id) REFERENCES replication_jobs (id) ON DELETE SET NULL";

const POSTGRES_DOWN: &str = "ALTER TABLE vm_disks
    DROP CONSTRAINT fk_vm_disks_job_set_null,
    ALTER COLUMN job_id SET NOT NULL,
    ADD CONSTRAINT fk_vm_disks_job FOREIGN KEY (job_id) REFERENCES replication_jobs (id) ON DELETE CASCADE";

/// A plain index, not a partial one: MariaDB has none, and the others use this one for both conditions.
const CONTEXT_JOB: Index = Index {
    name: "idx_vm_disks_context_job",
    table: "vm_disks",
    columns: "vm_context_id, job_id",
    unique: false,
};

/// The table after this step, for SQLite.
fn nullable() -> String {
    VM_DISKS.replace("job_id <uuid> NOT NULL", "job_id <uuid> NULL").replace(
        "CONSTRAINT fk_vm_disks_job FOREIGN KEY (job_id) REFERENCES replication_jobs (id) ON DELETE CASCADE",
        "CONSTRAINT fk_vm_disks_job_set_null FOREIGN KEY (job_id) REFERENCES replication_jobs (id) ON DELETE SET NULL",
    )
}

fn to<'a>(definition: &'a str, indexes: &'a [Index]) -> Rebuild<'a> {
    Rebuild { table: "vm_disks", definition, columns: VM_DISK_COLUMNS, indexes }
}

/// Moves the rows that the older schema cannot hold aside; every statement may run twice.
async fn archive(ddl: &Ddl<'_>) -> Result<(), DbErr> {
    if ddl.number("SELECT COUNT(*) FROM vm_disks WHERE job_id IS NULL").await? == 0 {
        return Ok(());
    }
    for statement in [
        format!(
            "CREATE TABLE IF NOT EXISTS {ARCHIVE} AS SELECT {VM_DISK_COLUMNS} FROM vm_disks WHERE 1 = 0"
        ),
        format!(
            "INSERT INTO {ARCHIVE} ({VM_DISK_COLUMNS}) SELECT {VM_DISK_COLUMNS} FROM vm_disks \
             WHERE job_id IS NULL AND id NOT IN (SELECT id FROM {ARCHIVE})"
        ),
        "DELETE FROM vm_disks WHERE job_id IS NULL".to_owned(),
    ] {
        ddl.run(&statement).await?;
    }
    Ok(())
}

/// Puts archived disks back whose VM still exists and that were not found again meanwhile.
async fn put_back(ddl: &Ddl<'_>) -> Result<(), DbErr> {
    if !ddl.has_table(ARCHIVE).await? {
        return Ok(());
    }
    ddl.run(&format!(
        "INSERT INTO vm_disks ({VM_DISK_COLUMNS}) SELECT {VM_DISK_COLUMNS} FROM {ARCHIVE} archived \
         WHERE EXISTS (SELECT 1 FROM vm_replication_contexts known WHERE known.context_id = archived.vm_context_id) \
         AND NOT EXISTS (SELECT 1 FROM vm_disks found WHERE found.id = archived.id \
         OR (found.vm_context_id = archived.vm_context_id AND found.disk_id = archived.disk_id))"
    ))
    .await?;
    ddl.run(&format!("DROP TABLE {ARCHIVE}")).await
}

/// Where disks wait that the older schema cannot hold.
const ARCHIVE: &str = "vm_disks_archive_m20251006";
