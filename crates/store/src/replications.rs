//! Replication jobs with their disks.

mod rows;

use std::collections::BTreeMap;

use async_trait::async_trait;
use hub_domain::ids::{ReplicationJobId, VmContextId};
use hub_domain::replication::{ReplicaDisk, ReplicationJob};
use hub_ports::StoreError;
use hub_ports::store::{ReplicationReads, ReplicationWrites};
use hub_vm_disk_repo::column::CHUNK;
use hub_vm_disk_repo::{is_reference, store_error};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _, Select,
};

use crate::entity::{replication_job, replication_job_disk};
use crate::job_state::unfinished_words;
use crate::session::{Session, Source, Unit};

#[async_trait]
impl<S: Source> ReplicationReads for Session<S> {
    async fn replication(
        &mut self,
        id: ReplicationJobId,
    ) -> Result<Option<ReplicationJob>, StoreError> {
        let query = replication_job::Entity::find_by_id(id.to_string());
        Ok(with_disks(self.db(), query).await?.pop())
    }

    async fn replications_page(
        &mut self,
        vm: Option<VmContextId>,
        after: Option<ReplicationJobId>,
        limit: u32,
    ) -> Result<Vec<ReplicationJob>, StoreError> {
        let mut query = of_vm(vm).limit(u64::from(limit));
        if let Some(after) = after {
            query = query.filter(replication_job::Column::Id.gt(after.to_string()));
        }
        with_disks(self.db(), query).await
    }

    async fn unfinished_replications(
        &mut self,
        vm: Option<VmContextId>,
    ) -> Result<Vec<ReplicationJob>, StoreError> {
        let query = of_vm(vm).filter(replication_job::Column::Status.is_in(unfinished_words()));
        with_disks(self.db(), query).await
    }
}

#[async_trait]
impl ReplicationWrites for Session<Unit> {
    async fn insert_replication(&mut self, job: &ReplicationJob) -> Result<(), StoreError> {
        replication_job::Entity::insert(rows::job(job)?)
            .exec_without_returning(self.db())
            .await
            .map_err(|error| missing(error, "the VM"))?;
        insert_disks(self.db(), job).await
    }

    async fn update_replication(&mut self, job: &mut ReplicationJob) -> Result<(), StoreError> {
        let mut row = rows::job(job)?;
        row.version = sea_orm::Set(job.version + 1);
        let updated = replication_job::Entity::update_many()
            .set(row)
            .filter(replication_job::Column::Id.eq(job.id.to_string()))
            .filter(replication_job::Column::Version.eq(job.version))
            .exec(self.db())
            .await
            .map_err(|error| missing(error, "the VM"))?;
        if updated.rows_affected == 0 {
            return Err(StoreError::Conflict);
        }
        replication_job_disk::Entity::delete_many()
            .filter(replication_job_disk::Column::JobId.eq(job.id.to_string()))
            .exec(self.db())
            .await
            .map_err(store_error)?;
        insert_disks(self.db(), job).await?;
        job.version += 1;
        Ok(())
    }

    async fn delete_replication(&mut self, id: ReplicationJobId) -> Result<(), StoreError> {
        let deleted = replication_job::Entity::delete_by_id(id.to_string())
            .exec(self.db())
            .await
            .map_err(store_error)?;
        if deleted.rows_affected == 0 {
            return Err(StoreError::Missing("the replication"));
        }
        Ok(())
    }
}

fn of_vm(vm: Option<VmContextId>) -> Select<replication_job::Entity> {
    let query = replication_job::Entity::find().order_by_asc(replication_job::Column::Id);
    match vm {
        Some(vm) => query.filter(replication_job::Column::VmContextId.eq(vm.to_string())),
        None => query,
    }
}

/// Reads jobs, then the disks of all of them at once.
async fn with_disks(
    db: &impl ConnectionTrait,
    query: Select<replication_job::Entity>,
) -> Result<Vec<ReplicationJob>, StoreError> {
    let jobs = query.all(db).await.map_err(store_error)?;
    let mut disks: BTreeMap<String, Vec<ReplicaDisk>> = BTreeMap::new();
    for jobs in jobs.chunks(CHUNK) {
        let rows = replication_job_disk::Entity::find()
            .filter(replication_job_disk::Column::JobId.is_in(jobs.iter().map(|job| &*job.id)))
            .order_by_asc(replication_job_disk::Column::Ordinal)
            .all(db)
            .await
            .map_err(store_error)?;
        for row in rows {
            disks.entry(row.job_id.clone()).or_default().push(row.try_into()?);
        }
    }
    jobs.into_iter()
        .map(|job| {
            let disks = disks.remove(&job.id).unwrap_or_default();
            job.with_disks(disks)
        })
        .collect()
}

async fn insert_disks(db: &impl ConnectionTrait, job: &ReplicationJob) -> Result<(), StoreError> {
    for disks in job.disks.chunks(CHUNK) {
        let rows = disks.iter().map(|disk| rows::disk(job.id, disk));
        replication_job_disk::Entity::insert_many(rows.collect::<Result<Vec<_>, _>>()?)
            .exec_without_returning(db)
            .await
            .map_err(|error| missing(error, "the disk"))?;
    }
    Ok(())
}

fn missing(error: DbErr, what: &'static str) -> StoreError {
    if is_reference(&error) { StoreError::Missing(what) } else { store_error(error) }
}
