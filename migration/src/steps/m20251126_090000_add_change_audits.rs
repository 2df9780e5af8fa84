//! A backup says what was audited of its source's word about changes, and whether its chain is suspect.

use async_trait::async_trait;
use sea_orm_migration::sea_orm::DbErr;

use super::Step;
use crate::ddl::Ddl;
use crate::loss::Risk;

pub(crate) struct AddChangeAudits;

#[async_trait]
impl Step for AddChangeAudits {
    fn name(&self) -> &'static str {
        "m20251126_090000_add_change_audits"
    }

    fn risks(&self) -> &'static [Risk] {
        RISKS
    }

    async fn up(&self, ddl: &Ddl<'_>) -> Result<(), DbErr> {
        for (table, columns) in COLUMNS {
            ddl.add_columns(table, columns).await?;
        }
        Ok(())
    }

    async fn down(&self, ddl: &Ddl<'_>) -> Result<(), DbErr> {
        for (table, columns) in COLUMNS {
            ddl.drop_columns(table, columns).await?;
        }
        Ok(())
    }
}

/// Where an audit goes on is lost without a word: the next one begins at the start of the disk.
const RISKS: &[Risk] = &[
    Risk {
        table: "backup_jobs",
        condition: "suspicion IS NOT NULL",
        what: "backups of suspect chains lose that changes may be missing in them",
    },
    Risk {
        table: "backup_runs",
        condition: "audit_runs IS NOT NULL",
        what: "backup runs lose how closely their sources are audited",
    },
];

const COLUMNS: &[(&str, &[(&str, &str)])] = &[
    ("backup_runs", &[("audit_runs", "INTEGER NULL CHECK (audit_runs > 0)")]),
    (
        "backup_jobs",
        &[
            ("audited_blocks", "<big> NOT NULL DEFAULT 0"),
            ("audited_bytes", "<big> NOT NULL DEFAULT 0"),
            ("audit_next", "<big> NOT NULL DEFAULT 0"),
            ("suspicion", "<long> NULL"),
        ],
    ),
];
