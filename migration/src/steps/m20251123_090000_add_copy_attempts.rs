//! A job says which attempt at its copy it is at, and what lost connections have cost.

use async_trait::async_trait;
use sea_orm_migration::sea_orm::DbErr;

use super::Step;
use crate::ddl::Ddl;
use crate::loss::Risk;

pub(crate) struct AddCopyAttempts;

#[async_trait]
impl Step for AddCopyAttempts {
    fn name(&self) -> &'static str {
        "m20251123_090000_add_copy_attempts"
    }

    fn risks(&self) -> &'static [Risk] {
        RISKS
    }

    async fn up(&self, ddl: &Ddl<'_>) -> Result<(), DbErr> {
        for table in ["backup_jobs", "replication_jobs"] {
            ddl.add_columns(table, ATTEMPT).await?;
        }
        for table in ["backup_jobs", "replication_job_disks"] {
            ddl.add_columns(table, LOSSES).await?;
        }
        Ok(())
    }

    async fn down(&self, ddl: &Ddl<'_>) -> Result<(), DbErr> {
        for table in ["backup_jobs", "replication_jobs"] {
            ddl.drop_columns(table, ATTEMPT).await?;
        }
        for table in ["backup_jobs", "replication_job_disks"] {
            ddl.drop_columns(table, LOSSES).await?;
        }
        Ok(())
    }
}

const RISKS: &[Risk] = &[
    Risk {
        table: "backup_jobs",
        condition: "attempt > 1 OR reconnects > 0",
        what: "backup jobs lose why their copies began again",
    },
    Risk {
        table: "replication_jobs",
        condition: "attempt > 1",
        what: "replication jobs lose why their copies began again",
    },
];

const ATTEMPT: &[(&str, &str)] = &[
    ("attempt", "INTEGER NOT NULL DEFAULT 1 CHECK (attempt > 0)"),
    ("attempt_reason", "<long> NULL"),
];

const LOSSES: &[(&str, &str)] =
    &[("bytes_sent_again", "<big> NOT NULL DEFAULT 0"), ("reconnects", "<big> NOT NULL DEFAULT 0")];
