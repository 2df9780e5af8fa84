//! One row of `replication_job_disks`.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "replication_job_disks")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) job_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) ordinal: i32,
    pub(crate) vm_disk_id: i64,
    pub(crate) disk_key: String,
    pub(crate) replica_path: Option<String>,
    pub(crate) method: Option<String>,
    pub(crate) method_reason: Option<String>,
    pub(crate) reader: Option<String>,
    pub(crate) reader_reason: Option<String>,
    pub(crate) bytes_total: i64,
    pub(crate) bytes_done: i64,
    pub(crate) bytes_read: i64,
    pub(crate) bytes_sent: i64,
    pub(crate) bytes_sent_again: i64,
    pub(crate) reconnects: i64,
    pub(crate) root: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
