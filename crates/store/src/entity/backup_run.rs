//! One row of `backup_runs`.

use hub_domain::time::Timestamp;
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "backup_runs")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) id: String,
    pub(crate) vm_context_id: String,
    pub(crate) vm_name: String,
    pub(crate) repository_id: String,
    pub(crate) policy_id: Option<String>,
    pub(crate) backup_type: String,
    pub(crate) tags: String,
    pub(crate) max_bytes_per_second: Option<i64>,
    pub(crate) audit_runs: Option<i32>,
    pub(crate) quiesce: Option<i32>,
    pub(crate) remarks: Option<String>,
    pub(crate) created_at: Timestamp,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
