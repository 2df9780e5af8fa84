//! One row of `vm_replication_contexts`.

use hub_domain::time::Timestamp;
use hub_domain::vm::{ContextStatus, VmContext, VmFacts};
use hub_ports::StoreError;
use sea_orm::entity::prelude::*;
use sea_orm::{NotSet, Set};
use serde::Deserialize;

use crate::{column, conditions};

/// The columns.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, Deserialize)]
#[sea_orm(table_name = "vm_replication_contexts")]
pub struct Model {
    /// Ours.
    #[sea_orm(primary_key, auto_increment = false)]
    pub context_id: String,
    /// Display name.
    pub vm_name: String,
    /// The source's own id.
    pub vmware_vm_id: String,
    /// Inventory path.
    pub vm_path: String,
    /// Which source.
    pub vcenter_host: String,
    /// Datacenter, or empty.
    pub datacenter: String,
    /// Where it stands, a word of [`ContextStatus`].
    pub current_status: String,
    /// Virtual processors.
    pub cpu_count: Option<i64>,
    /// Memory in MiB.
    pub memory_mb: Option<i64>,
    /// Guest identifier.
    pub os_type: Option<String>,
    /// Power state, in the source's words.
    pub power_state: Option<String>,
    /// The login that its source wants.
    pub credential_id: Option<String>,
    /// The VMA that reaches it.
    pub vma_node_id: Option<String>,
    /// When it was put under management.
    #[serde(deserialize_with = "crate::rows::time")]
    pub created_at: Timestamp,
    /// When anything of it changed last.
    #[serde(deserialize_with = "crate::rows::time")]
    pub updated_at: Timestamp,
    /// The vCenter's own id.
    pub vcenter_uuid: Option<String>,
    /// The VM's own id in its vCenter.
    pub instance_uuid: Option<String>,
    /// Reference of the managed object.
    pub moref: Option<String>,
    /// First half of the VM's key, computed by the database; unique with `vm_key`.
    pub source_key: Option<String>,
    /// Second half of the VM's key, computed by the database.
    pub vm_key: Option<String>,
    /// What decides how the VM can be backed up, as JSON.
    pub conditions: Option<String>,
    /// When the source last said something else.
    #[serde(deserialize_with = "crate::rows::optional_time")]
    pub facts_at: Option<Timestamp>,
}

/// None that a query follows.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl TryFrom<Model> for VmContext {
    type Error = StoreError;

    fn try_from(row: Model) -> Result<Self, StoreError> {
        Ok(Self {
            id: column::id("context_id", &row.context_id)?,
            status: column::word("current_status", &row.current_status, ContextStatus::from_word)?,
            credential: column::optional_id("credential_id", row.credential_id.as_deref())?,
            vma_node: column::optional_id("vma_node_id", row.vma_node_id.as_deref())?,
            facts: VmFacts {
                name: row.vm_name,
                vmware_vm_id: row.vmware_vm_id,
                path: row.vm_path,
                vcenter_host: row.vcenter_host,
                datacenter: row.datacenter,
                cpu_count: row.cpu_count.map(|it| column::number("cpu_count", it)).transpose()?,
                memory_mb: row.memory_mb.map(|it| column::number("memory_mb", it)).transpose()?,
                os_type: row.os_type,
                power_state: row.power_state,
                vcenter_uuid: row.vcenter_uuid,
                instance_uuid: row.instance_uuid,
                moref: row.moref,
                conditions: conditions::of_vm(row.conditions.as_deref())?,
            },
            facts_at: row.facts_at,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

impl TryFrom<&VmContext> for ActiveModel {
    type Error = StoreError;

    fn try_from(vm: &VmContext) -> Result<Self, StoreError> {
        let facts = vm.facts.clone();
        Ok(Self {
            context_id: Set(vm.id.to_string()),
            vm_name: Set(facts.name),
            vmware_vm_id: Set(facts.vmware_vm_id),
            vm_path: Set(facts.path),
            vcenter_host: Set(facts.vcenter_host),
            datacenter: Set(facts.datacenter),
            current_status: Set(vm.status.word().to_owned()),
            cpu_count: Set(facts.cpu_count.map(i64::from)),
            memory_mb: Set(facts.memory_mb.map(i64::from)),
            os_type: Set(facts.os_type),
            power_state: Set(facts.power_state),
            credential_id: Set(vm.credential.map(|id| id.to_string())),
            vma_node_id: Set(vm.vma_node.map(|id| id.to_string())),
            created_at: Set(vm.created_at),
            updated_at: Set(vm.updated_at),
            vcenter_uuid: Set(facts.vcenter_uuid),
            instance_uuid: Set(facts.instance_uuid),
            moref: Set(facts.moref),
            source_key: NotSet,
            vm_key: NotSet,
            conditions: Set(conditions::vm_json(&facts.conditions)?),
            facts_at: Set(vm.facts_at),
        })
    }
}
