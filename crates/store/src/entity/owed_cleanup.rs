//! One row of `owed_cleanups`.

use hub_domain::time::Timestamp;
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "owed_cleanups")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) copy_name: String,
    pub(crate) job_kind: String,
    pub(crate) job_id: String,
    pub(crate) vm_context_id: String,
    pub(crate) vm_name: String,
    pub(crate) vmware_vm_id: String,
    pub(crate) source: String,
    pub(crate) vma_node_id: String,
    pub(crate) credential_id: Option<String>,
    pub(crate) owed_since: Timestamp,
    pub(crate) ordered_at: Timestamp,
    pub(crate) tries: i64,
    pub(crate) tried_at: Option<Timestamp>,
    pub(crate) error_code: Option<String>,
    pub(crate) error_text: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
