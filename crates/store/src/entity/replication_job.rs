//! One row of `replication_jobs`.

use hub_domain::time::Timestamp;
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "replication_jobs")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) id: String,
    pub(crate) vm_context_id: String,
    pub(crate) replication_type: String,
    pub(crate) format: String,
    pub(crate) max_bytes_per_second: Option<i64>,
    pub(crate) quiesce: Option<i32>,
    pub(crate) quiesced: Option<i32>,
    pub(crate) quiesce_reason: Option<String>,
    pub(crate) progress_percent: i32,
    pub(crate) bytes_total: i64,
    pub(crate) bytes_done: i64,
    pub(crate) attempt: i32,
    pub(crate) attempt_reason: Option<String>,
    pub(crate) remarks: Option<String>,
    pub(crate) version: i64,
    pub(crate) status: String,
    pub(crate) error_code: Option<String>,
    pub(crate) error_text: Option<String>,
    pub(crate) created_at: Timestamp,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Option<Timestamp>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
