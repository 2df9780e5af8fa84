//! One row of `vma_nodes`.

use hub_domain::time::Timestamp;
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "vma_nodes")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) token_encrypted: String,
    pub(crate) source_kind: String,
    pub(crate) source_host: Option<String>,
    pub(crate) source_uuid: Option<String>,
    pub(crate) max_concurrent_copies: Option<i32>,
    pub(crate) max_bytes_per_second: Option<i64>,
    pub(crate) created_at: Timestamp,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
