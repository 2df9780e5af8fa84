//! VMAs and repositories have limits, jobs a rate, and images a compression.

use async_trait::async_trait;
use sea_orm_migration::sea_orm::DbErr;

use super::Step;
use crate::ddl::Ddl;
use crate::loss::Risk;

pub(crate) struct AddCopyLimits;

#[async_trait]
impl Step for AddCopyLimits {
    fn name(&self) -> &'static str {
        "m20251124_090000_add_copy_limits"
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

/// What is lost are settings; images stay readable, since each says itself how it is stored.
const RISKS: &[Risk] = &[
    Risk {
        table: "vma_nodes",
        condition: "max_concurrent_copies IS NOT NULL OR max_bytes_per_second IS NOT NULL",
        what: "VMAs lose their limits",
    },
    Risk {
        table: "backup_repositories",
        condition: "max_concurrent_copies IS NOT NULL OR compression <> 'none'",
        what: "repositories lose their limit and compression setting",
    },
];

/// NULL is no limit; what is there already was stored uncompressed.
const COLUMNS: &[(&str, &[(&str, &str)])] = &[
    (
        "vma_nodes",
        &[
            ("max_concurrent_copies", "INTEGER NULL CHECK (max_concurrent_copies > 0)"),
            ("max_bytes_per_second", "<big> NULL CHECK (max_bytes_per_second > 0)"),
        ],
    ),
    (
        "backup_repositories",
        &[
            ("max_concurrent_copies", "INTEGER NULL CHECK (max_concurrent_copies > 0)"),
            (
                "compression",
                "<text> NOT NULL DEFAULT 'none' CHECK (compression IN (<words:compression>))",
            ),
            ("compression_level", "INTEGER NULL"),
        ],
    ),
    ("backup_runs", &[("max_bytes_per_second", "<big> NULL CHECK (max_bytes_per_second > 0)")]),
    (
        "replication_jobs",
        &[("max_bytes_per_second", "<big> NULL CHECK (max_bytes_per_second > 0)")],
    ),
    (
        "backup_jobs",
        &[
            (
                "compression",
                "<text> NOT NULL DEFAULT 'none' CHECK (compression IN (<words:compression>))",
            ),
            ("compression_level", "INTEGER NULL"),
        ],
    ),
];
