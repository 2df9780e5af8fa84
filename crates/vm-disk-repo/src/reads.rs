//! Reading VMs and their disks.

use std::collections::{BTreeMap, BTreeSet};

use hub_domain::disk::{Presence, VmDisk};
use hub_domain::ids::VmContextId;
use hub_domain::vm::{VmContext, VmFacts};
use hub_ports::StoreError;
use hub_ports::store::{InventoryTotals, Row, all_readable};
use sea_orm::sea_query::{Alias, Expr, ExprTrait as _, IntoCondition};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbBackend, EntityTrait as _, PaginatorTrait as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _, Select,
};

use crate::column::{self, CHUNK};
use crate::failure::store_error;
use crate::{context, disk, rows};

/// The VM with this id.
pub async fn vm(
    db: &impl ConnectionTrait,
    id: VmContextId,
) -> Result<Option<VmContext>, StoreError> {
    rows::single(db, context::Entity::find_by_id(id.to_string()), VmContext::try_from).await
}

/// All VMs with this display name, by id.
pub async fn vms_named(
    db: &impl ConnectionTrait,
    name: &str,
) -> Result<Vec<VmContext>, StoreError> {
    let named = context::Entity::find()
        .filter(context::Column::VmName.eq(name))
        .order_by_asc(context::Column::ContextId);
    all_readable(contexts(db, named).await?)
}

/// The VMs that have the key of one of these, or its host and its id there; any number, in no order.
pub async fn vms_resembling(
    db: &impl ConnectionTrait,
    seen: &[VmFacts],
) -> Result<Vec<Row<VmContext>>, StoreError> {
    let mut by_key: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut by_place: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for facts in seen {
        let key = facts.key();
        if key.source != facts.vcenter_host || key.vm != facts.vmware_vm_id {
            by_key.entry(key.source).or_default().insert(key.vm);
        }
        by_place.entry(&facts.vcenter_host).or_default().insert(&facts.vmware_vm_id);
    }
    let by_id = |row: Row<VmContext>| match row {
        Ok(vm) => (vm.id.to_string(), Ok(vm)),
        Err(row) => (row.id.clone(), Err(row)),
    };
    let mut found = BTreeMap::new();
    for (source, vms) in by_key {
        let vms: Vec<String> = vms.into_iter().collect();
        for vms in vms.chunks(CHUNK) {
            let some = context::Entity::find()
                .filter(context::Column::SourceKey.eq(&source))
                .filter(context::Column::VmKey.is_in(vms));
            found.extend(contexts(db, some).await?.into_iter().map(by_id));
        }
    }
    for (host, ids) in by_place {
        let ids: Vec<&str> = ids.into_iter().collect();
        for ids in ids.chunks(CHUNK) {
            let some = context::Entity::find()
                .filter(context::Column::VcenterHost.eq(host))
                .filter(context::Column::VmwareVmId.is_in(ids.iter().copied()));
            found.extend(contexts(db, some).await?.into_iter().map(by_id));
        }
    }
    Ok(found.into_values().collect())
}

/// Up to `limit` VMs with an id after `after`, by id.
pub async fn vms_page(
    db: &impl ConnectionTrait,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<Row<VmContext>>, StoreError> {
    let mut page =
        context::Entity::find().order_by_asc(context::Column::ContextId).limit(u64::from(limit));
    if let Some(after) = after {
        page = page.filter(rows::behind(db, context::Column::ContextId, after));
    }
    contexts(db, page).await
}

/// All disks of these VMs, retired ones included, by VM and ordinal; any number of ids.
pub async fn disks_of(
    db: &impl ConnectionTrait,
    vms: &[VmContextId],
) -> Result<Vec<VmDisk>, StoreError> {
    let mut found = Vec::new();
    for vms in vms.chunks(CHUNK) {
        let theirs = disk::Column::VmContextId.is_in(vms.iter().map(ToString::to_string));
        found.extend(all_readable(disks_where(db, theirs).await?)?);
    }
    found.sort_unstable_by_key(place);
    Ok(found)
}

/// All disks of the VMs from `first` to `last` in the order of [`vms_page`], both included, by VM and ordinal.
pub async fn disks_of_page(
    db: &impl ConnectionTrait,
    first: VmContextId,
    last: VmContextId,
) -> Result<Vec<Row<VmDisk>>, StoreError> {
    let theirs = disk::Column::VmContextId.between(first.to_string(), last.to_string());
    let mut found = disks_where(db, theirs).await?;
    found.sort_unstable_by_key(|row| row.as_ref().map(place).ok());
    Ok(found)
}

/// By VM, and by ordinal within it; sorting here is cheaper than having the database do it.
fn place(disk: &VmDisk) -> (VmContextId, u32) {
    (disk.vm, disk.ordinal)
}

async fn disks_where(
    db: &impl ConnectionTrait,
    condition: impl IntoCondition,
) -> Result<Vec<Row<VmDisk>>, StoreError> {
    let theirs = disk::Entity::find().filter(condition);
    rows::quick(db, theirs, Some(disk::Column::VmContextId), VmDisk::try_from).await
}

/// Sums over all VMs and their present disks.
pub async fn totals(db: &impl ConnectionTrait) -> Result<InventoryTotals, StoreError> {
    let vms = context::Entity::find().count(db).await.map_err(store_error)?;
    let sum = Expr::col(disk::Column::CapacityBytes).sum();
    // MariaDB and PostgreSQL widen a sum beyond 64 bits, which the bound of a capacity makes needless.
    let sum = sum.cast_as(Alias::new(wide_integer(db.get_database_backend())));
    let (disks, capacity): (i64, Option<i64>) = disk::Entity::find()
        .select_only()
        .column_as(disk::Column::Id.count(), "disks")
        .column_as(sum, "capacity")
        .filter(disk::Column::Presence.eq(Presence::Present.word()))
        .into_tuple()
        .one(db)
        .await
        .map_err(store_error)?
        .unwrap_or_default();
    Ok(InventoryTotals {
        vms,
        disks: column::number("COUNT(id)", disks)?,
        capacity_bytes: column::number("SUM(capacity_bytes)", capacity.unwrap_or(0))?,
    })
}

/// How a database spells a signed 64-bit integer in a cast.
pub fn wide_integer(backend: DbBackend) -> &'static str {
    if backend == DbBackend::MySql { "SIGNED" } else { "BIGINT" }
}

async fn contexts(
    db: &impl ConnectionTrait,
    query: Select<context::Entity>,
) -> Result<Vec<Row<VmContext>>, StoreError> {
    rows::quick(db, query, None, VmContext::try_from).await
}
