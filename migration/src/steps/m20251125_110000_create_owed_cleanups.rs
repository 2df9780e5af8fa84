//! Snapshots that a copy may have taken are written down before it is ordered (promise P3).

use async_trait::async_trait;
use sea_orm_migration::sea_orm::DbErr;

use super::Step;
use crate::ddl::{Ddl, Index};
use crate::loss::Risk;

pub(crate) struct CreateOwedCleanups;

#[async_trait]
impl Step for CreateOwedCleanups {
    fn name(&self) -> &'static str {
        "m20251125_110000_create_owed_cleanups"
    }

    fn risks(&self) -> &'static [Risk] {
        RISKS
    }

    async fn up(&self, ddl: &Ddl<'_>) -> Result<(), DbErr> {
        ddl.run(OWED).await?;
        ddl.index(&SINCE).await
    }

    async fn down(&self, ddl: &Ddl<'_>) -> Result<(), DbErr> {
        ddl.run("DROP TABLE IF EXISTS owed_cleanups").await
    }
}

const RISKS: &[Risk] = &[Risk {
    table: "owed_cleanups",
    condition: "",
    what: "owed clean-ups are forgotten; snapshots of this product may stay at the source",
}];

/// Plain columns, no references: what is owed stays owed when the VM, its login or its VMA are taken out.
const OWED: &str = "CREATE TABLE IF NOT EXISTS owed_cleanups (
    copy_name <key> NOT NULL PRIMARY KEY,
    job_kind <text> NOT NULL CHECK (job_kind IN (<words:owed_by>)),
    job_id <uuid> NOT NULL,
    vm_context_id <uuid> NOT NULL,
    vm_name <text> NOT NULL,
    vmware_vm_id <key> NOT NULL,
    source <key> NOT NULL,
    vma_node_id <uuid> NOT NULL,
    credential_id <uuid> NULL,
    owed_since <time> NOT NULL,
    ordered_at <time> NOT NULL,
    tries <big> NOT NULL DEFAULT 0,
    tried_at <time> NULL,
    error_code <text> NULL,
    error_text <long> NULL
) <options>";

const SINCE: Index = Index {
    name: "idx_owed_cleanups_since",
    table: "owed_cleanups",
    columns: "owed_since",
    unique: false,
};
