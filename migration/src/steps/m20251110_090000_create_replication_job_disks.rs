//! A replication job says what it did with each disk.

use async_trait::async_trait;
use sea_orm_migration::sea_orm::DbErr;

use super::Step;
use crate::ddl::{Ddl, Index};
use crate::loss::Risk;

pub(crate) struct CreateReplicationJobDisks;

#[async_trait]
impl Step for CreateReplicationJobDisks {
    fn name(&self) -> &'static str {
        "m20251110_090000_create_replication_job_disks"
    }

    fn risks(&self) -> &'static [Risk] {
        RISKS
    }

    async fn up(&self, ddl: &Ddl<'_>) -> Result<(), DbErr> {
        ddl.add_columns("replication_jobs", COLUMNS).await?;
        ddl.run(JOB_DISKS).await?;
        ddl.index(&DISK_ROW).await
    }

    async fn down(&self, ddl: &Ddl<'_>) -> Result<(), DbErr> {
        ddl.run("DROP TABLE IF EXISTS replication_job_disks").await?;
        ddl.drop_columns("replication_jobs", COLUMNS).await
    }
}

const RISKS: &[Risk] = &[Risk {
    table: "replication_job_disks",
    condition: "",
    what: "disk records of replication jobs are deleted (not the replicas)",
}];

const COLUMNS: &[(&str, &str)] = &[
    ("format", "<text> NOT NULL DEFAULT 'raw' CHECK (format IN (<words:replica_format>))"),
    ("version", "<big> NOT NULL DEFAULT 0"),
];

/// A disk row goes only with its VM, and its replication jobs go with it too.
const JOB_DISKS: &str = "CREATE TABLE IF NOT EXISTS replication_job_disks (
    job_id <uuid> NOT NULL,
    ordinal INTEGER NOT NULL,
    vm_disk_id <big> NOT NULL,
    disk_key <key> NOT NULL,
    replica_path <path> NULL,
    method <text> NULL,
    method_reason <long> NULL,
    bytes_total <big> NOT NULL,
    bytes_done <big> NOT NULL,
    bytes_read <big> NOT NULL,
    bytes_sent <big> NOT NULL,
    root <text> NULL,
    CONSTRAINT pk_replication_job_disks PRIMARY KEY (job_id, ordinal),
    CONSTRAINT fk_replication_job_disks_job FOREIGN KEY (job_id) REFERENCES replication_jobs (id) ON DELETE CASCADE,
    CONSTRAINT fk_replication_job_disks_disk FOREIGN KEY (vm_disk_id) REFERENCES vm_disks (id) ON DELETE CASCADE
) <options>";

const DISK_ROW: Index = Index {
    name: "idx_replication_job_disks_disk",
    table: "replication_job_disks",
    columns: "vm_disk_id",
    unique: false,
};
