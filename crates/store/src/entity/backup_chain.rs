//! One row of `backup_chains`.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "backup_chains")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) vm_context_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) disk_id: i32,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) repository_id: String,
    pub(crate) full_backup_id: String,
    pub(crate) latest_backup_id: String,
    pub(crate) backup_count: i32,
    pub(crate) stored_bytes: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
