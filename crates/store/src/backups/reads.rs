//! Reading backups.

use async_trait::async_trait;
use hub_domain::backup::{BackupJob, BackupRun};
use hub_domain::chain::{BackupChain, ChainKey};
use hub_domain::ids::{BackupJobId, BackupRunId, VmContextId};
use hub_domain::job::JobStatus;
use hub_domain::source::CopyMethod;
use hub_ports::StoreError;
use hub_ports::store::{BackupFilter, BackupReads, BackupStats, Row, Suspicions, all_readable};
use hub_vm_disk_repo::reads::wide_integer;
use hub_vm_disk_repo::rows::{behind, single};
use hub_vm_disk_repo::{column, store_error};
use sea_orm::sea_query::{Alias, Expr, ExprTrait as _, SimpleExpr};
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, EntityTrait as _, PaginatorTrait as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _, QueryTrait as _, Select,
};

use crate::entity::{backup_chain, backup_job, backup_run};
use crate::job_state::unfinished_words;
use crate::session::{Session, Source};

#[async_trait]
impl<S: Source> BackupReads for Session<S> {
    async fn backup_run(&mut self, id: BackupRunId) -> Result<Option<BackupRun>, StoreError> {
        let with_id = backup_run::Entity::find_by_id(id.to_string());
        single(self.db(), with_id, BackupRun::try_from).await
    }

    async fn backups_of_run(
        &mut self,
        run: BackupRunId,
    ) -> Result<Vec<Row<BackupJob>>, StoreError> {
        let of_run = backup_job::Entity::find()
            .filter(backup_job::Column::RunId.eq(run.to_string()))
            .order_by_asc(backup_job::Column::DiskId);
        self.jobs(of_run).await
    }

    async fn backup(&mut self, id: BackupJobId) -> Result<Option<BackupJob>, StoreError> {
        let with_id = backup_job::Entity::find_by_id(id.to_string());
        single(self.db(), with_id, BackupJob::try_from).await
    }

    async fn backups_page(
        &mut self,
        filter: &BackupFilter,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Row<BackupJob>>, StoreError> {
        use backup_job::Column;
        let BackupFilter { vm, ordinal, repository, status, run } = *filter;
        let condition = Condition::all()
            .add_option(vm.map(|vm| Column::VmContextId.eq(vm.to_string())))
            .add_option(ordinal.map(|ordinal| Column::DiskId.eq(i64::from(ordinal))))
            .add_option(repository.map(|id| Column::RepositoryId.eq(id.to_string())))
            .add_option(status.map(|status| Column::Status.eq(status.word())))
            .add_option(run.map(|run| Column::RunId.eq(run.to_string())))
            .add_option(after.map(|after| behind(self.db(), Column::Id, after)));
        self.jobs(by_id().filter(condition).limit(u64::from(limit))).await
    }

    async fn backups_of_chain(&mut self, key: ChainKey) -> Result<Vec<BackupJob>, StoreError> {
        let of_chain = by_id()
            .filter(backup_job::Column::VmContextId.eq(key.vm.to_string()))
            .filter(backup_job::Column::DiskId.eq(i64::from(key.ordinal)))
            .filter(backup_job::Column::RepositoryId.eq(key.repository.to_string()));
        all_readable(self.jobs(of_chain).await?)
    }

    async fn unfinished_backups(
        &mut self,
        vm: Option<VmContextId>,
    ) -> Result<Vec<Row<BackupJob>>, StoreError> {
        let mut unfinished = by_id().filter(backup_job::Column::Status.is_in(unfinished_words()));
        if let Some(vm) = vm {
            unfinished = unfinished.filter(backup_job::Column::VmContextId.eq(vm.to_string()));
        }
        self.jobs(unfinished).await
    }

    async fn deleting_backups(&mut self) -> Result<Vec<Row<BackupJob>>, StoreError> {
        let deleting = by_id().filter(backup_job::Column::DeletingSince.is_not_null());
        self.jobs(deleting).await
    }

    async fn chain(&mut self, key: ChainKey) -> Result<Option<BackupChain>, StoreError> {
        let with_key = backup_chain::Entity::find().filter(of_key(key));
        single(self.db(), with_key, BackupChain::try_from).await
    }

    async fn chains_of_vm(&mut self, vm: VmContextId) -> Result<Vec<Row<BackupChain>>, StoreError> {
        let of_vm = backup_chain::Entity::find()
            .filter(backup_chain::Column::VmContextId.eq(vm.to_string()))
            .order_by_asc(backup_chain::Column::DiskId)
            .order_by_asc(backup_chain::Column::RepositoryId);
        let key = |chain: &BackupChain| {
            let ChainKey { vm, ordinal, repository } = chain.key;
            format!("{vm}/{ordinal}/{repository}")
        };
        let of = Some(backup_chain::Column::VmContextId);
        self.list(of_vm, of, BackupChain::try_from, key).await
    }

    async fn backed_up_vms_named(&mut self, name: &str) -> Result<Vec<VmContextId>, StoreError> {
        let ids: Vec<String> = backup_job::Entity::find()
            .select_only()
            .column(backup_job::Column::VmContextId)
            .distinct()
            .filter(backup_job::Column::VmName.eq(name))
            .order_by_asc(backup_job::Column::VmContextId)
            .into_tuple()
            .all(self.db())
            .await
            .map_err(store_error)?;
        ids.iter().map(|id| column::id("vm_context_id", id)).collect()
    }

    async fn backup_stats(&mut self) -> Result<BackupStats, StoreError> {
        let db = self.db();
        let failed = [JobStatus::Failed, JobStatus::Interrupted].map(JobStatus::word);
        let status = backup_job::Column::Status;
        let (points, stored_bytes) = points(db).await?;
        let suspicions = suspicions(db).await?;
        Ok(BackupStats {
            jobs: count(db, Condition::all()).await?,
            points,
            failed: count(db, Condition::all().add(status.is_in(failed))).await?,
            active: count(db, Condition::all().add(status.is_in(unfinished_words()))).await?,
            stored_bytes,
            suspect: suspicions.points,
            suspect_chains: suspicions.chains,
        })
    }

    async fn suspicions(&mut self) -> Result<Suspicions, StoreError> {
        suspicions(self.db()).await
    }
}

async fn suspicions(db: &impl ConnectionTrait) -> Result<Suspicions, StoreError> {
    let points = count(db, suspect_points()).await?;
    Ok(Suspicions { points, chains: count(db, suspect_latest()).await? })
}

/// A suspicion is never empty. SQLite does not look into an index for what is not null; it does for what is more than
/// something.
fn is_suspicious() -> SimpleExpr {
    backup_job::Column::Suspicion.gt("")
}

/// The condition of a chain's primary key.
pub(super) fn of_key(key: ChainKey) -> Condition {
    Condition::all()
        .add(backup_chain::Column::VmContextId.eq(key.vm.to_string()))
        .add(backup_chain::Column::DiskId.eq(i64::from(key.ordinal)))
        .add(backup_chain::Column::RepositoryId.eq(key.repository.to_string()))
}

fn by_id() -> Select<backup_job::Entity> {
    backup_job::Entity::find().order_by_asc(backup_job::Column::Id)
}

impl<S: Source> Session<S> {
    async fn jobs(
        &self,
        query: Select<backup_job::Entity>,
    ) -> Result<Vec<Row<BackupJob>>, StoreError> {
        let of = Some(backup_job::Column::VmContextId);
        self.list(query, of, BackupJob::try_from, |job| job.id.to_string()).await
    }
}

/// As `BackupJob::is_suspect` has it, of restore points.
fn suspect_points() -> Condition {
    Condition::all()
        .add(backup_job::Column::Status.eq(JobStatus::Succeeded.word()))
        .add(backup_job::Column::DeletingSince.is_null())
        .add(backup_job::Column::RepositoryPath.is_not_null())
        .add(is_suspicious())
        .add(backup_job::Column::Method.eq(CopyMethod::CHANGED_SINCE))
}

/// Of the chains that are extended next, those whose latest point stands in a suspect one.
fn suspect_latest() -> Condition {
    let latest = backup_chain::Entity::find()
        .select_only()
        .column(backup_chain::Column::LatestBackupId)
        .into_query();
    Condition::all().add(is_suspicious()).add(backup_job::Column::Id.in_subquery(latest))
}

async fn count(db: &impl ConnectionTrait, of: Condition) -> Result<u64, StoreError> {
    backup_job::Entity::find().filter(of).count(db).await.map_err(store_error)
}

/// How many restore points there are and what they take: as `BackupJob::is_restore_point` has it.
async fn points(db: &impl ConnectionTrait) -> Result<(u64, u64), StoreError> {
    let sum = Expr::col(backup_job::Column::StoredBytes).sum();
    let sum = sum.cast_as(Alias::new(wide_integer(db.get_database_backend())));
    let (points, stored): (i64, Option<i64>) = backup_job::Entity::find()
        .select_only()
        .column_as(backup_job::Column::Id.count(), "points")
        .column_as(sum, "stored")
        .filter(backup_job::Column::Status.eq(JobStatus::Succeeded.word()))
        .filter(backup_job::Column::DeletingSince.is_null())
        .filter(backup_job::Column::RepositoryPath.is_not_null())
        .into_tuple()
        .one(db)
        .await
        .map_err(store_error)?
        .unwrap_or_default();
    Ok((
        column::number("COUNT(id)", points)?,
        column::number("SUM(stored_bytes)", stored.unwrap_or(0))?,
    ))
}

#[cfg(test)]
mod tests;
