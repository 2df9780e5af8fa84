//! One row of `vm_disks`.

use hub_domain::capacity::Capacity;
use hub_domain::disk::{DiskFacts, DiskKey, NewDisk, Presence, VmDisk};
use hub_domain::ids::VmDiskId;
use hub_domain::time::Timestamp;
use hub_ports::StoreError;
use sea_orm::entity::prelude::*;
use sea_orm::{NotSet, Set};
use serde::Deserialize;

use crate::{column, conditions};

/// The columns.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel, Deserialize)]
#[sea_orm(table_name = "vm_disks")]
pub struct Model {
    /// Ours; given by the database and never given twice.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// Its VM.
    pub vm_context_id: String,
    /// The replication job that is linked to it.
    pub job_id: Option<String>,
    /// The hypervisor's own id.
    pub disk_id: String,
    /// Its place in the VM.
    pub ordinal: i32,
    /// Whether the source still has it, a word of [`Presence`].
    pub presence: String,
    /// Label.
    pub label: String,
    /// Datastore path.
    pub vmdk_path: String,
    /// Datastore name.
    pub datastore: String,
    /// Capacity in GiB, rounded, for people who read the table; never read back.
    pub size_gb: i64,
    /// Exact capacity.
    pub capacity_bytes: i64,
    /// `thin`, `thick`, …
    pub provisioning_type: Option<String>,
    /// Bus, as in `scsi0`.
    pub bus: Option<String>,
    /// Unit on its bus.
    pub unit_number: Option<i64>,
    /// When it was first seen.
    #[serde(deserialize_with = "crate::rows::time")]
    pub created_at: Timestamp,
    /// When anything of it changed last.
    #[serde(deserialize_with = "crate::rows::time")]
    pub updated_at: Timestamp,
    /// Id of the disk behind the device.
    pub backing_uuid: Option<String>,
    /// The hypervisor's id while the disk is present, NULL when it is retired: computed by the database, unique in its
    /// VM.
    pub present_key: Option<String>,
    /// What decides how the disk can be backed up, as JSON.
    pub conditions: Option<String>,
}

/// None that a query follows.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl TryFrom<Model> for VmDisk {
    type Error = StoreError;

    fn try_from(row: Model) -> Result<Self, StoreError> {
        let capacity = column::number("capacity_bytes", row.capacity_bytes)?;
        Ok(Self {
            id: VmDiskId::from_raw(row.id),
            vm: column::id("vm_context_id", &row.vm_context_id)?,
            job: column::optional_id("job_id", row.job_id.as_deref())?,
            ordinal: column::number("ordinal", row.ordinal.into())?,
            presence: column::word("presence", &row.presence, Presence::from_word)?,
            facts: DiskFacts {
                key: DiskKey::new(&row.disk_id)
                    .map_err(|_| column::corrupt("disk_id", &row.disk_id))?,
                label: row.label,
                vmdk_path: row.vmdk_path,
                datastore: row.datastore,
                capacity: Capacity::new(capacity)
                    .map_err(|_| column::corrupt("capacity_bytes", capacity))?,
                provisioning_type: row.provisioning_type,
                bus: row.bus,
                unit_number: row
                    .unit_number
                    .map(|it| column::number("unit_number", it))
                    .transpose()?,
                backing_uuid: row.backing_uuid,
                conditions: conditions::of_disk(row.conditions.as_deref())?,
            },
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

impl ActiveModel {
    /// A row for a disk that is not stored yet: present, and linked to no job.
    pub fn discovered(disk: &NewDisk, at: Timestamp) -> Result<Self, StoreError> {
        Ok(Self {
            id: NotSet,
            vm_context_id: Set(disk.vm.to_string()),
            job_id: NotSet,
            ordinal: Set(column::small(disk.ordinal)?),
            presence: Set(Presence::Present.word().to_owned()),
            present_key: NotSet,
            created_at: Set(at),
            updated_at: Set(at),
            ..Self::of_facts(&disk.facts)?
        })
    }

    /// A row as a disk shall be, without the job, which has a statement of its own.
    pub fn changed(disk: &VmDisk) -> Result<Self, StoreError> {
        Ok(Self {
            id: Set(disk.id.as_raw()),
            vm_context_id: Set(disk.vm.to_string()),
            job_id: NotSet,
            ordinal: Set(column::small(disk.ordinal)?),
            presence: Set(disk.presence.word().to_owned()),
            present_key: NotSet,
            created_at: Set(disk.created_at),
            updated_at: Set(disk.updated_at),
            ..Self::of_facts(&disk.facts)?
        })
    }

    fn of_facts(facts: &DiskFacts) -> Result<Self, StoreError> {
        let DiskFacts {
            key,
            label,
            vmdk_path,
            datastore,
            capacity,
            provisioning_type,
            bus,
            unit_number,
            backing_uuid,
            conditions,
        } = facts.clone();
        Ok(Self {
            disk_id: Set(key.as_str().to_owned()),
            label: Set(label),
            vmdk_path: Set(vmdk_path),
            datastore: Set(datastore),
            size_gb: Set(column::signed(facts.size_gb())?),
            capacity_bytes: Set(column::signed(capacity.bytes())?),
            provisioning_type: Set(provisioning_type),
            bus: Set(bus),
            unit_number: Set(unit_number.map(i64::from)),
            backing_uuid: Set(backing_uuid),
            conditions: Set(conditions::disk_json(&conditions)?),
            ..Default::default()
        })
    }
}
