//! The hub knows which vCenter or host a VMA reads, so that it can choose the VMA of a VM; and how many copies at a time a
//! vCenter or host bears.

use async_trait::async_trait;
use sea_orm_migration::sea_orm::DbErr;

use super::Step;
use crate::ddl::Ddl;
use crate::loss::Risk;

pub(crate) struct AddSourceFacts;

#[async_trait]
impl Step for AddSourceFacts {
    fn name(&self) -> &'static str {
        "m20251125_120000_add_source_facts"
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

/// What a VMA reads it tells again when it is registered or asked, so that is no loss.
const RISKS: &[Risk] = &[Risk {
    table: "vmware_credentials",
    condition: "max_concurrent_copies IS NOT NULL",
    what: "vCenters and hosts lose their limits",
}];

/// NULL is not known, and no limit.
const COLUMNS: &[(&str, &[(&str, &str)])] = &[
    ("vma_nodes", &[("source_host", "<text> NULL"), ("source_uuid", "<text> NULL")]),
    (
        "vmware_credentials",
        &[("max_concurrent_copies", "INTEGER NULL CHECK (max_concurrent_copies > 0)")],
    ),
];
