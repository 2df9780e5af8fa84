//! A backup run and a replication say which VMA copied them, and what somebody should know of them.

use async_trait::async_trait;
use sea_orm_migration::sea_orm::DbErr;

use super::Step;
use crate::ddl::Ddl;
use crate::loss::Risk;

pub(crate) struct AddRemarks;

#[async_trait]
impl Step for AddRemarks {
    fn name(&self) -> &'static str {
        "m20251127_110000_add_remarks"
    }

    fn risks(&self) -> &'static [Risk] {
        RISKS
    }

    async fn up(&self, ddl: &Ddl<'_>) -> Result<(), DbErr> {
        for table in TABLES {
            ddl.add_columns(table, COLUMNS).await?;
        }
        Ok(())
    }

    async fn down(&self, ddl: &Ddl<'_>) -> Result<(), DbErr> {
        for table in TABLES {
            ddl.drop_columns(table, COLUMNS).await?;
        }
        Ok(())
    }
}

/// Jobs at work would forget which VMA was ordered, and the next hub could order another one beside it.
const RISKS: &[Risk] = &[
    Risk {
        table: "backup_runs",
        condition: "remarks IS NOT NULL",
        what: "backup runs lose which VMA copied them, and their warnings",
    },
    Risk {
        table: "replication_jobs",
        condition: "remarks IS NOT NULL",
        what: "replications lose which VMA copied them, and their warnings",
    },
];

const TABLES: &[&str] = &["backup_runs", "replication_jobs"];

/// NULL says nothing.
const COLUMNS: &[(&str, &str)] = &[("remarks", "<long> NULL")];
