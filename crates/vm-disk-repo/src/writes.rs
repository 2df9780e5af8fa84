//! Writing VMs and their disks, inside the caller's transaction.

use hub_domain::disk::{NewDisk, Presence, VmDisk};
use hub_domain::ids::{ReplicationJobId, VmContextId};
use hub_domain::time::Timestamp;
use hub_domain::vm::{ContextStatus, VmContext};
use hub_ports::StoreError;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, QueryFilter as _, QuerySelect as _,
};

use crate::column::CHUNK;
use crate::failure::{is_reference, store_error};
use crate::{context, disk};

const NO_VM: StoreError = StoreError::Missing("the VM");

/// Locks a VM until the transaction ends; [`StoreError::Missing`] when it does not exist.
///
/// On SQLite the transaction is the only writer already, and this only looks.
pub async fn lock(db: &impl ConnectionTrait, id: VmContextId) -> Result<(), StoreError> {
    let locked: Option<String> = context::Entity::find_by_id(id.to_string())
        .select_only()
        .column(context::Column::ContextId)
        .lock_exclusive()
        .into_tuple()
        .one(db)
        .await
        .map_err(store_error)?;
    locked.map(drop).ok_or(NO_VM)
}

/// Stores new VMs, many rows per statement; one that the source's id is stored for is a conflict.
pub async fn insert_vms(db: &impl ConnectionTrait, vms: &[VmContext]) -> Result<(), StoreError> {
    for vms in vms.chunks(CHUNK) {
        let rows = vms.iter().map(context::ActiveModel::try_from);
        context::Entity::insert_many(rows.collect::<Result<Vec<_>, _>>()?)
            .exec_without_returning(db)
            .await
            .map_err(|error| missing(error, "the credential or VMA of a VM"))?;
    }
    Ok(())
}

/// Stores new disks with `job_id` NULL, many rows per statement; a key twice in one VM is a conflict.
pub async fn insert_disks(
    db: &impl ConnectionTrait,
    disks: &[NewDisk],
    at: Timestamp,
) -> Result<(), StoreError> {
    for disks in disks.chunks(CHUNK) {
        let rows = disks.iter().map(|disk| disk::ActiveModel::discovered(disk, at));
        disk::Entity::insert_many(rows.collect::<Result<Vec<_>, _>>()?)
            .exec_without_returning(db)
            .await
            .map_err(|error| missing(error, "the VM"))?;
    }
    Ok(())
}

/// Stores a VM as given.
pub async fn update_vm(db: &impl ConnectionTrait, vm: &VmContext) -> Result<(), StoreError> {
    let changed = context::Entity::update_many()
        .set(context::ActiveModel::try_from(vm)?)
        .filter(context::Column::ContextId.eq(vm.id.to_string()))
        .exec(db)
        .await
        .map_err(|error| missing(error, "the credential or VMA of a VM"))?;
    if changed.rows_affected == 0 { Err(NO_VM) } else { Ok(()) }
}

/// Stores disks as given, but for their job; the keys of all are free before the first gets its own.
pub async fn update_disks(db: &impl ConnectionTrait, disks: &[VmDisk]) -> Result<(), StoreError> {
    if disks.len() > 1 {
        free_keys(db, disks).await?;
    }
    for disk in disks {
        let changed = disk::Entity::update_many()
            .set(disk::ActiveModel::changed(disk)?)
            .filter(disk::Column::Id.eq(disk.id.as_raw()))
            .exec(db)
            .await
            .map_err(|error| missing(error, "the VM"))?;
        if changed.rows_affected == 0 {
            return Err(StoreError::Missing("the disk"));
        }
    }
    Ok(())
}

/// Retires disks that are about to be written, which frees their keys: among themselves they may exchange them.
async fn free_keys(db: &impl ConnectionTrait, disks: &[VmDisk]) -> Result<(), StoreError> {
    for disks in disks.chunks(CHUNK) {
        disk::Entity::update_many()
            .col_expr(disk::Column::Presence, Expr::value(Presence::Retired.word()))
            .filter(disk::Column::Id.is_in(disks.iter().map(|disk| disk.id.as_raw())))
            .exec(db)
            .await
            .map_err(store_error)?;
    }
    Ok(())
}

/// Sets where a VM stands.
pub async fn set_status(
    db: &impl ConnectionTrait,
    id: VmContextId,
    status: ContextStatus,
    at: Timestamp,
) -> Result<(), StoreError> {
    let changed = context::Entity::update_many()
        .col_expr(context::Column::CurrentStatus, Expr::value(status.word()))
        .col_expr(context::Column::UpdatedAt, Expr::value(at))
        .filter(context::Column::ContextId.eq(id.to_string()))
        .exec(db)
        .await
        .map_err(store_error)?;
    if changed.rows_affected == 0 { Err(NO_VM) } else { Ok(()) }
}

/// Links all present disks of a VM to a job, in place; returns how many.
pub async fn link_disks(
    db: &impl ConnectionTrait,
    vm: VmContextId,
    job: ReplicationJobId,
    at: Timestamp,
) -> Result<u64, StoreError> {
    let linked = disk::Entity::update_many()
        .col_expr(disk::Column::JobId, Expr::value(job.to_string()))
        .col_expr(disk::Column::UpdatedAt, Expr::value(at))
        .filter(disk::Column::VmContextId.eq(vm.to_string()))
        .filter(disk::Column::Presence.eq(Presence::Present.word()))
        .exec(db)
        .await
        .map_err(|error| missing(error, "the replication"))?;
    Ok(linked.rows_affected)
}

/// Removes a VM; its disks and replication jobs go with it, its backup jobs stay.
pub async fn delete_vm(db: &impl ConnectionTrait, id: VmContextId) -> Result<(), StoreError> {
    let deleted =
        context::Entity::delete_by_id(id.to_string()).exec(db).await.map_err(store_error)?;
    if deleted.rows_affected == 0 { Err(NO_VM) } else { Ok(()) }
}

/// A reference to what does not exist says what that is.
fn missing(error: DbErr, what: &'static str) -> StoreError {
    if is_reference(&error) { StoreError::Missing(what) } else { store_error(error) }
}
