//! One row of `backup_jobs`.

use hub_domain::time::Timestamp;
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "backup_jobs")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) id: String,
    pub(crate) run_id: String,
    pub(crate) vm_context_id: String,
    pub(crate) vm_name: String,
    pub(crate) disk_id: i32,
    pub(crate) vm_disk_id: Option<i64>,
    pub(crate) disk_key: String,
    pub(crate) repository_id: String,
    pub(crate) policy_id: Option<String>,
    pub(crate) backup_type: String,
    pub(crate) capacity_bytes: i64,
    pub(crate) repository_path: Option<String>,
    pub(crate) parent_backup_id: Option<String>,
    pub(crate) change_id: Option<String>,
    pub(crate) method: String,
    pub(crate) method_reason: Option<String>,
    pub(crate) quiesced: Option<i32>,
    pub(crate) quiesce_reason: Option<String>,
    pub(crate) reader: Option<String>,
    pub(crate) reader_reason: Option<String>,
    pub(crate) audited_blocks: i64,
    pub(crate) audited_bytes: i64,
    pub(crate) audit_next: i64,
    pub(crate) suspicion: Option<String>,
    pub(crate) compression: String,
    pub(crate) compression_level: Option<i32>,
    pub(crate) source_root: Option<String>,
    pub(crate) stored_root: Option<String>,
    pub(crate) bytes_total: i64,
    pub(crate) bytes_done: i64,
    pub(crate) bytes_read: i64,
    pub(crate) bytes_sent: i64,
    pub(crate) bytes_sent_again: i64,
    pub(crate) reconnects: i64,
    pub(crate) stored_bytes: i64,
    pub(crate) deleting_since: Option<Timestamp>,
    pub(crate) attempt: i32,
    pub(crate) attempt_reason: Option<String>,
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
