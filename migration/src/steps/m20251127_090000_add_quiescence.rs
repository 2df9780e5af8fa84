//! Runs and replications say whether a guest is to be quiesced, whether it was, and by which way disks were read.

use async_trait::async_trait;
use sea_orm_migration::sea_orm::DbErr;

use super::Step;
use crate::ddl::Ddl;
use crate::loss::Risk;

pub(crate) struct AddQuiescence;

#[async_trait]
impl Step for AddQuiescence {
    fn name(&self) -> &'static str {
        "m20251127_090000_add_quiescence"
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

/// The way by which a disk was read is lost without a word: nothing depends on it.
const RISKS: &[Risk] = &[
    Risk {
        table: "backup_jobs",
        condition: "quiesced IS NOT NULL",
        what: "backups lose whether their guest was at rest",
    },
    Risk {
        table: "backup_runs",
        condition: "quiesce IS NOT NULL",
        what: "backup runs lose whether their guest is to be quiesced",
    },
    Risk {
        table: "replication_jobs",
        condition: "quiesce IS NOT NULL OR quiesced IS NOT NULL",
        what: "replications lose whether their guest is to be, or was, at rest",
    },
];

/// NULL is what nobody said, or knows.
const COLUMNS: &[(&str, &[(&str, &str)])] = &[
    ("backup_runs", &[("quiesce", "INTEGER NULL CHECK (quiesce IN (0, 1))")]),
    (
        "backup_jobs",
        &[
            ("quiesced", "INTEGER NULL CHECK (quiesced IN (0, 1))"),
            ("quiesce_reason", "<long> NULL"),
            ("reader", "<text> NULL"),
            ("reader_reason", "<long> NULL"),
        ],
    ),
    (
        "replication_jobs",
        &[
            ("quiesce", "INTEGER NULL CHECK (quiesce IN (0, 1))"),
            ("quiesced", "INTEGER NULL CHECK (quiesced IN (0, 1))"),
            ("quiesce_reason", "<long> NULL"),
        ],
    ),
    ("replication_job_disks", &[("reader", "<text> NULL"), ("reader_reason", "<long> NULL")]),
];
