//! Restore jobs and verifications.

mod rows;

use async_trait::async_trait;
use hub_domain::ids::{RestoreJobId, VerificationId};
use hub_domain::restore::{RestoreJob, Verification};
use hub_ports::StoreError;
use hub_ports::store::{RestoreReads, RestoreWrites, Row};
use hub_vm_disk_repo::rows::{behind, single};
use hub_vm_disk_repo::store_error;
use sea_orm::{
    ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _, Set,
};

use crate::entity::{restore_job, verification};
use crate::job_state::unfinished_words;
use crate::session::{Session, Source, Unit};

#[async_trait]
impl<S: Source> RestoreReads for Session<S> {
    async fn restore(&mut self, id: RestoreJobId) -> Result<Option<RestoreJob>, StoreError> {
        let with_id = restore_job::Entity::find_by_id(id.to_string());
        single(self.db(), with_id, RestoreJob::try_from).await
    }

    async fn restores_page(
        &mut self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Row<RestoreJob>>, StoreError> {
        let mut page = restore_job::Entity::find()
            .order_by_asc(restore_job::Column::Id)
            .limit(u64::from(limit));
        if let Some(after) = after {
            page = page.filter(behind(self.db(), restore_job::Column::Id, after));
        }
        self.list(page, Some(restore_job::Column::BackupId), RestoreJob::try_from, |it| {
            it.id.to_string()
        })
        .await
    }

    async fn unfinished_restores(&mut self) -> Result<Vec<Row<RestoreJob>>, StoreError> {
        let unfinished = restore_job::Entity::find()
            .filter(restore_job::Column::Status.is_in(unfinished_words()))
            .order_by_asc(restore_job::Column::Id);
        let of = Some(restore_job::Column::BackupId);
        self.list(unfinished, of, RestoreJob::try_from, |it| it.id.to_string()).await
    }

    async fn verification(
        &mut self,
        id: VerificationId,
    ) -> Result<Option<Verification>, StoreError> {
        let with_id = verification::Entity::find_by_id(id.to_string());
        single(self.db(), with_id, Verification::try_from).await
    }

    async fn verifications_page(
        &mut self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Row<Verification>>, StoreError> {
        let mut page = verification::Entity::find()
            .order_by_asc(verification::Column::Id)
            .limit(u64::from(limit));
        if let Some(after) = after {
            page = page.filter(behind(self.db(), verification::Column::Id, after));
        }
        self.list(page, Some(verification::Column::BackupId), Verification::try_from, |it| {
            it.id.to_string()
        })
        .await
    }

    async fn unfinished_verifications(&mut self) -> Result<Vec<Row<Verification>>, StoreError> {
        let unfinished = verification::Entity::find()
            .filter(verification::Column::Status.is_in(unfinished_words()))
            .order_by_asc(verification::Column::Id);
        let of = Some(verification::Column::BackupId);
        self.list(unfinished, of, Verification::try_from, |it| it.id.to_string()).await
    }
}

#[async_trait]
impl RestoreWrites for Session<Unit> {
    async fn insert_restore(&mut self, job: &RestoreJob) -> Result<(), StoreError> {
        restore_job::Entity::insert(rows::restore(job)?)
            .exec_without_returning(self.db())
            .await
            .map(drop)
            .map_err(store_error)
    }

    async fn update_restore(&mut self, job: &mut RestoreJob) -> Result<(), StoreError> {
        let mut row = rows::restore(job)?;
        row.version = Set(job.version + 1);
        let updated = restore_job::Entity::update_many()
            .set(row)
            .filter(restore_job::Column::Id.eq(job.id.to_string()))
            .filter(restore_job::Column::Version.eq(job.version))
            .exec(self.db())
            .await
            .map_err(store_error)?;
        if updated.rows_affected == 0 {
            return Err(StoreError::Conflict);
        }
        job.version += 1;
        Ok(())
    }

    async fn insert_verification(&mut self, job: &Verification) -> Result<(), StoreError> {
        verification::Entity::insert(rows::verification(job)?)
            .exec_without_returning(self.db())
            .await
            .map(drop)
            .map_err(store_error)
    }

    async fn update_verification(&mut self, job: &mut Verification) -> Result<(), StoreError> {
        let mut row = rows::verification(job)?;
        row.version = Set(job.version + 1);
        let updated = verification::Entity::update_many()
            .set(row)
            .filter(verification::Column::Id.eq(job.id.to_string()))
            .filter(verification::Column::Version.eq(job.version))
            .exec(self.db())
            .await
            .map_err(store_error)?;
        if updated.rows_affected == 0 {
            return Err(StoreError::Conflict);
        }
        job.version += 1;
        Ok(())
    }
}
