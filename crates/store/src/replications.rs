//! Replication jobs with their disks.

mod rows;

use std::collections::BTreeMap;

use async_trait::async_trait;
use hub_domain::ids::{ReplicationJobId, VmContextId};
use hub_domain::replication::{ReplicaDisk, ReplicationJob};
use hub_ports::StoreError;
use hub_ports::store::{ReplicationReads, ReplicationWrites, Row, Unreadable, all_readable};
use hub_vm_disk_repo::column::CHUNK;
use hub_vm_disk_repo::rows::{behind, listed};
use hub_vm_disk_repo::{is_reference, store_error};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, EntityName as _, EntityTrait as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _, Select,
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
        Ok(all_readable(self.with_disks(query).await?)?.pop())
    }

    async fn replications_page(
        &mut self,
        vm: Option<VmContextId>,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Row<ReplicationJob>>, StoreError> {
        let mut query = of_vm(vm).limit(u64::from(limit));
        if let Some(after) = after {
            query = query.filter(behind(self.db(), replication_job::Column::Id, after));
        }
        self.with_disks(query).await
    }

    async fn unfinished_replications(
        &mut self,
        vm: Option<VmContextId>,
    ) -> Result<Vec<Row<ReplicationJob>>, StoreError> {
        let query = of_vm(vm).filter(replication_job::Column::Status.is_in(unfinished_words()));
        self.with_disks(query).await
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

impl<S: Source> Session<S> {
    /// Reads jobs, then the disks of all of them at once. A job of which one disk cannot be read cannot be read itself.
    async fn with_disks(
        &self,
        query: Select<replication_job::Entity>,
    ) -> Result<Vec<Row<ReplicationJob>>, StoreError> {
        let of = Some(replication_job::Column::VmContextId);
        let bare = |job: replication_job::Model| job.with_disks(Vec::new());
        let mut jobs = listed(self.db(), query, of, bare).await?;
        let mut disks: BTreeMap<String, Vec<Row<ReplicaDisk>>> = BTreeMap::new();
        let ids: Vec<String> = jobs.iter().flatten().map(|job| job.id.to_string()).collect();
        for ids in ids.chunks(CHUNK) {
            for (job, disk) in disks_of(self.db(), ids).await? {
                disks.entry(job).or_default().push(disk);
            }
        }
        for row in &mut jobs {
            let Ok(job) = row else { continue };
            let theirs = disks.remove(&job.id.to_string()).unwrap_or_default();
            match theirs.into_iter().collect() {
                Ok(disks) => job.disks = disks,
                Err(disk) => *row = Err(of_disk(job, &disk)),
            }
        }
        Ok(self.noted(replication_job::Entity.table_name(), jobs, |job| job.id.to_string()))
    }
}

/// The disks of some jobs, each with the job that it belongs to, by ordinal.
async fn disks_of(
    db: &impl ConnectionTrait,
    jobs: &[String],
) -> Result<Vec<(String, Row<ReplicaDisk>)>, StoreError> {
    use replication_job_disk::{Column, Entity, Model};
    let of_jobs = Entity::find()
        .filter(Column::JobId.is_in(jobs.iter().map(String::as_str)))
        .order_by_asc(Column::Ordinal);
    let value = |row: Model| Ok((row.job_id.clone(), ReplicaDisk::try_from(row)?));
    let rows = listed(db, of_jobs, Some(Column::JobId), value).await?;
    let by_job = |row: Row<(String, ReplicaDisk)>| match row {
        Ok((job, disk)) => (job, Ok(disk)),
        Err(row) => (row.of.clone().unwrap_or_default(), Err(row)),
    };
    Ok(rows.into_iter().map(by_job).collect())
}

/// A job with a disk that cannot be read.
fn of_disk(job: &ReplicationJob, disk: &Unreadable) -> Unreadable {
    let problem = format!("{} {}: {}", disk.table, disk.id, disk.problem);
    let of = Some(job.vm.to_string());
    Unreadable::new(replication_job::Entity.table_name(), job.id.to_string(), of, &problem)
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
