//! Writing backups.

use async_trait::async_trait;
use hub_domain::backup::{BackupJob, BackupRun};
use hub_domain::chain::{BackupChain, ChainKey};
use hub_domain::ids::{BackupJobId, BackupRunId};
use hub_domain::remarks::Remarks;
use hub_ports::StoreError;
use hub_ports::store::BackupWrites;
use hub_vm_disk_repo::column::CHUNK;
use hub_vm_disk_repo::{is_reference, store_error};
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{
    ColumnTrait as _, DbErr, EntityTrait as _, NotSet, PaginatorTrait as _, QueryFilter as _, Set,
};

use super::reads::of_key;
use super::rows;
use crate::entity::{backup_chain, backup_job, backup_run};
use crate::remarks;
use crate::session::{Session, Unit};

#[async_trait]
impl BackupWrites for Session<Unit> {
    async fn insert_backup_run(
        &mut self,
        run: &BackupRun,
        jobs: &[BackupJob],
    ) -> Result<(), StoreError> {
        backup_run::Entity::insert(rows::run(run)?)
            .exec_without_returning(self.db())
            .await
            .map_err(|error| missing(error, "the repository"))?;
        for jobs in jobs.chunks(CHUNK) {
            let rows = jobs.iter().map(rows::job).collect::<Result<Vec<_>, _>>()?;
            backup_job::Entity::insert_many(rows)
                .exec_without_returning(self.db())
                .await
                .map_err(|error| missing(error, "the parent or disk of a backup"))?;
        }
        Ok(())
    }

    async fn remark(&mut self, id: BackupRunId, made: &Remarks) -> Result<(), StoreError> {
        let text = remarks::to_text(made)?;
        let noted = backup_run::Entity::update_many()
            .col_expr(backup_run::Column::Remarks, Expr::value(text))
            .filter(backup_run::Column::Id.eq(id.to_string()))
            .exec(self.db())
            .await;
        noted.map(drop).map_err(store_error)
    }

    async fn update_backup(&mut self, job: &mut BackupJob) -> Result<(), StoreError> {
        let mut row = rows::job(job)?;
        row.version = Set(job.version + 1);
        // The database forgets a disk that is deleted; what was read before must not bring it back.
        row.vm_disk_id = NotSet;
        let updated = backup_job::Entity::update_many()
            .set(row)
            .filter(backup_job::Column::Id.eq(job.id.to_string()))
            .filter(backup_job::Column::Version.eq(job.version))
            .exec(self.db())
            .await
            .map_err(|error| missing(error, "the parent or disk of a backup"))?;
        if updated.rows_affected == 0 {
            return Err(StoreError::Conflict);
        }
        job.version += 1;
        Ok(())
    }

    async fn delete_backup(&mut self, id: BackupJobId) -> Result<(), StoreError> {
        let row = backup_job::Entity::find_by_id(id.to_string()).one(self.db()).await;
        let row = row.map_err(store_error)?.ok_or(StoreError::Missing("the backup"))?;
        backup_job::Entity::delete_by_id(id.to_string()).exec(self.db()).await.map_err(
            |error| {
                if is_reference(&error) {
                    StoreError::Refused("another backup or a chain stands on this one")
                } else {
                    store_error(error)
                }
            },
        )?;
        let left = backup_job::Entity::find().filter(backup_job::Column::RunId.eq(&row.run_id));
        if left.count(self.db()).await.map_err(store_error)? == 0 {
            let gone = backup_run::Entity::delete_by_id(row.run_id).exec(self.db()).await;
            gone.map_err(store_error)?;
        }
        Ok(())
    }

    async fn put_chain(&mut self, chain: &BackupChain) -> Result<(), StoreError> {
        use backup_chain::Column;
        let mut replace =
            OnConflict::columns([Column::VmContextId, Column::DiskId, Column::RepositoryId]);
        replace.update_columns([
            Column::FullBackupId,
            Column::LatestBackupId,
            Column::BackupCount,
            Column::StoredBytes,
        ]);
        backup_chain::Entity::insert(rows::chain(chain)?)
            .on_conflict(replace)
            .exec_without_returning(self.db())
            .await
            .map(drop)
            .map_err(|error| missing(error, "the restore point"))
    }

    async fn remove_chain(&mut self, key: ChainKey) -> Result<(), StoreError> {
        backup_chain::Entity::delete_many()
            .filter(of_key(key))
            .exec(self.db())
            .await
            .map(drop)
            .map_err(store_error)
    }
}

fn missing(error: DbErr, what: &'static str) -> StoreError {
    if is_reference(&error) { StoreError::Missing(what) } else { store_error(error) }
}
