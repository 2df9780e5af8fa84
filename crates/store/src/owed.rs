//! Owed clean-ups.

use async_trait::async_trait;
use hub_domain::fault::Fault;
use hub_domain::owed::{OwedBy, OwedCleanup};
use hub_ports::StoreError;
use hub_ports::store::{OwedReads, OwedWrites, Row};
use hub_vm_disk_repo::rows::single;
use hub_vm_disk_repo::{column, store_error};
use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _, Set,
};

use crate::entity::owed_cleanup::{ActiveModel, Column, Entity, Model};
use crate::session::{Session, Source, Unit};

#[async_trait]
impl<S: Source> OwedReads for Session<S> {
    async fn owed_cleanups(&mut self, limit: u32) -> Result<Vec<Row<OwedCleanup>>, StoreError> {
        let longest_first = Entity::find()
            .order_by_asc(Column::OwedSince)
            .order_by_asc(Column::CopyName)
            .limit(u64::from(limit));
        self.list(longest_first, Some(Column::VmContextId), value, |it| it.copy.clone()).await
    }

    async fn owed_cleanup(&mut self, copy: &str) -> Result<Option<OwedCleanup>, StoreError> {
        single(self.db(), Entity::find_by_id(copy.to_owned()), value).await
    }
}

#[async_trait]
impl OwedWrites for Session<Unit> {
    async fn owe(&mut self, owed: &OwedCleanup) -> Result<(), StoreError> {
        let mut replace = OnConflict::column(Column::CopyName);
        replace.update_columns([Column::VmaNodeId, Column::CredentialId, Column::OrderedAt]);
        Entity::insert(row(owed))
            .on_conflict(replace)
            .exec_without_returning(self.db())
            .await
            .map(drop)
            .map_err(store_error)
    }

    async fn note_try(&mut self, owed: &OwedCleanup) -> Result<(), StoreError> {
        let ActiveModel { tries, tried_at, error_code, error_text, .. } = row(owed);
        let tried = ActiveModel { tries, tried_at, error_code, error_text, ..Default::default() };
        Entity::update_many()
            .set(tried)
            .filter(Column::CopyName.eq(owed.copy.as_str()))
            .exec(self.db())
            .await
            .map(drop)
            .map_err(store_error)
    }

    async fn strike_off(&mut self, owed: &OwedCleanup) -> Result<bool, StoreError> {
        let deleted = Entity::delete_many()
            .filter(Column::CopyName.eq(owed.copy.as_str()))
            .filter(Column::OrderedAt.eq(owed.ordered_at))
            .exec(self.db())
            .await
            .map_err(store_error)?;
        Ok(deleted.rows_affected > 0)
    }
}

fn row(owed: &OwedCleanup) -> ActiveModel {
    let job_id = match owed.job {
        OwedBy::Backup(id) => id.to_string(),
        OwedBy::Replication(id) => id.to_string(),
    };
    let fault = owed.fault.as_ref();
    ActiveModel {
        copy_name: Set(owed.copy.clone()),
        job_kind: Set(owed.job.word().to_owned()),
        job_id: Set(job_id),
        vm_context_id: Set(owed.vm.to_string()),
        vm_name: Set(owed.vm_name.clone()),
        vmware_vm_id: Set(owed.vmware_vm_id.clone()),
        source: Set(owed.source.clone()),
        vma_node_id: Set(owed.vma_node.to_string()),
        credential_id: Set(owed.credential.map(|id| id.to_string())),
        owed_since: Set(owed.since),
        ordered_at: Set(owed.ordered_at),
        tries: Set(i64::from(owed.tries)),
        tried_at: Set(owed.tried_at),
        error_code: Set(fault.map(|fault| fault.code.clone())),
        error_text: Set(fault.map(|fault| fault.detail.clone())),
    }
}

fn value(row: Model) -> Result<OwedCleanup, StoreError> {
    let job = match row.job_kind.as_str() {
        "backup" => OwedBy::Backup(column::id("job_id", &row.job_id)?),
        "replication" => OwedBy::Replication(column::id("job_id", &row.job_id)?),
        other => return Err(column::corrupt("job_kind", other)),
    };
    Ok(OwedCleanup {
        job,
        vm: column::id("vm_context_id", &row.vm_context_id)?,
        vma_node: column::id("vma_node_id", &row.vma_node_id)?,
        credential: column::optional_id("credential_id", row.credential_id.as_deref())?,
        tries: column::number("tries", row.tries)?,
        fault: row.error_code.map(|code| Fault::new(code, row.error_text.unwrap_or_default())),
        copy: row.copy_name,
        vm_name: row.vm_name,
        vmware_vm_id: row.vmware_vm_id,
        source: row.source,
        since: row.owed_since,
        ordered_at: row.ordered_at,
        tried_at: row.tried_at,
    })
}
