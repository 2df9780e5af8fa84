//! The few suspect points are found without reading every backup: the health of a hub counts them, and is asked often.

use async_trait::async_trait;
use sea_orm_migration::sea_orm::DbErr;

use super::Step;
use crate::ddl::{Ddl, Index};
use crate::dialect::Dialect;
use crate::loss::Risk;

pub(crate) struct IndexSuspicions;

#[async_trait]
impl Step for IndexSuspicions {
    fn name(&self) -> &'static str {
        "m20251127_111000_index_suspicions"
    }

    fn risks(&self) -> &'static [Risk] {
        &[]
    }

    async fn up(&self, ddl: &Ddl<'_>) -> Result<(), DbErr> {
        // MariaDB indexes the beginning of a long text only.
        let columns = match ddl.dialect() {
            Dialect::MariaDb => "suspicion(1)",
            Dialect::Sqlite | Dialect::Postgres => "suspicion",
        };
        ddl.index(&Index { columns, ..SUSPICIONS }).await
    }

    async fn down(&self, ddl: &Ddl<'_>) -> Result<(), DbErr> {
        ddl.drop_index(&SUSPICIONS).await
    }
}

const SUSPICIONS: Index = Index {
    name: "idx_backup_jobs_suspicion",
    table: "backup_jobs",
    columns: "suspicion",
    unique: false,
};
