//! Restore jobs and verifications.

mod rows;

use async_trait::async_trait;
use hub_domain::ids::{RestoreJobId, VerificationId};
use hub_domain::restore::{RestoreJob, Verification};
use hub_ports::StoreError;
use hub_ports::store::{RestoreReads, RestoreWrites};
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
        let row = restore_job::Entity::find_by_id(id.to_string()).one(self.db()).await;
        row.map_err(store_error)?.map(RestoreJob::try_from).transpose()
    }

    async fn restores_page(
        &mut self,
        after: Option<RestoreJobId>,
        limit: u32,
    ) -> Result<Vec<RestoreJob>, StoreError> {
        let mut page = restore_job::Entity::find()
            .order_by_asc(restore_job::Column::Id)
            .limit(u64::from(limit));
        if let Some(after) = after {
            page = page.filter(restore_job::Column::Id.gt(after.to_string()));
        }
        let rows = page.all(self.db()).await.map_err(store_error)?;
        rows.into_iter().map(RestoreJob::try_from).collect()
    }

    async fn unfinished_restores(&mut self) -> Result<Vec<RestoreJob>, StoreError> {
        let rows = restore_job::Entity::find()
            .filter(restore_job::Column::Status.is_in(unfinished_words()))
            .order_by_asc(restore_job::Column::Id)
            .all(self.db())
            .await
            .map_err(store_error)?;
        rows.into_iter().map(RestoreJob::try_from).collect()
    }

    async fn verification(
        &mut self,
        id: VerificationId,
    ) -> Result<Option<Verification>, StoreError> {
        let row = verification::Entity::find_by_id(id.to_string()).one(self.db()).await;
        row.map_err(store_error)?.map(Verification::try_from).transpose()
    }

    async fn verifications_page(
        &mut self,
        after: Option<VerificationId>,
        limit: u32,
    ) -> Result<Vec<Verification>, StoreError> {
        let mut page = verification::Entity::find()
            .order_by_asc(verification::Column::Id)
            .limit(u64::from(limit));
        if let Some(after) = after {
            page = page.filter(verification::Column::Id.gt(after.to_string()));
        }
        let rows = page.all(self.db()).await.map_err(store_error)?;
        rows.into_iter().map(Verification::try_from).collect()
    }

    async fn unfinished_verifications(&mut self) -> Result<Vec<Verification>, StoreError> {
        let rows = verification::Entity::find()
            .filter(verification::Column::Status.is_in(unfinished_words()))
            .order_by_asc(verification::Column::Id)
            .all(self.db())
            .await
            .map_err(store_error)?;
        rows.into_iter().map(Verification::try_from).collect()
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
