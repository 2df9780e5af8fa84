//! Repositories, credentials, VMAs and API tokens.

mod rows;
mod secrets;

use async_trait::async_trait;
use hub_domain::access::{ApiToken, Credential, VmaNode};
use hub_domain::ids::{CredentialId, RepositoryId, VmaNodeId};
use hub_domain::reader_choice::SourceName;
use hub_domain::repository::Repository;
use hub_ports::StoreError;
use hub_ports::store::{AccessReads, AccessWrites, Row};
use hub_vm_disk_repo::rows::single;
use hub_vm_disk_repo::{is_reference, is_unique, store_error};
use sea_orm::{
    ColumnTrait as _, DbErr, EntityTrait as _, PaginatorTrait as _, QueryFilter as _,
    QueryOrder as _, Set,
};

use crate::entity::{api_token, credential, repository, vma_node};
use crate::session::{Session, Source, Unit};

pub use secrets::Secrets;
pub(crate) use secrets::secrets;

#[async_trait]
impl<S: Source> AccessReads for Session<S> {
    async fn repository(&mut self, id: RepositoryId) -> Result<Option<Repository>, StoreError> {
        let with_id = repository::Entity::find_by_id(id.to_string());
        single(self.db(), with_id, Repository::try_from).await
    }

    async fn repositories(&mut self) -> Result<Vec<Row<Repository>>, StoreError> {
        let by_name = repository::Entity::find().order_by_asc(repository::Column::Name);
        self.list(by_name, None, Repository::try_from, |it| it.id.to_string()).await
    }

    async fn credential(&mut self, id: CredentialId) -> Result<Option<Credential>, StoreError> {
        let with_id = credential::Entity::find_by_id(id.to_string());
        single(self.db(), with_id, |row| row.open(&self.sealer)).await
    }

    async fn credentials(&mut self) -> Result<Vec<Row<Credential>>, StoreError> {
        let by_name = credential::Entity::find().order_by_asc(credential::Column::Name);
        let open = |row: credential::Model| row.open(&self.sealer);
        self.list(by_name, None, open, |it| it.id.to_string()).await
    }

    async fn vma_node(&mut self, id: VmaNodeId) -> Result<Option<VmaNode>, StoreError> {
        let with_id = vma_node::Entity::find_by_id(id.to_string());
        single(self.db(), with_id, |row| row.open(&self.sealer)).await
    }

    async fn vma_nodes(&mut self) -> Result<Vec<Row<VmaNode>>, StoreError> {
        let by_name = vma_node::Entity::find().order_by_asc(vma_node::Column::Name);
        let open = |row: vma_node::Model| row.open(&self.sealer);
        self.list(by_name, None, open, |it| it.id.to_string()).await
    }

    async fn api_token(&mut self, digest: &[u8; 32]) -> Result<Option<ApiToken>, StoreError> {
        let with_digest =
            api_token::Entity::find().filter(api_token::Column::Digest.eq(hex::encode(digest)));
        let row = with_digest.one(self.db()).await.map_err(store_error)?;
        row.map(ApiToken::try_from).transpose()
    }

    async fn api_token_count(&mut self) -> Result<u64, StoreError> {
        api_token::Entity::find().count(self.db()).await.map_err(store_error)
    }
}

#[async_trait]
impl AccessWrites for Session<Unit> {
    async fn insert_repository(&mut self, repository: &Repository) -> Result<(), StoreError> {
        repository::Entity::insert(repository::ActiveModel::from(repository))
            .exec_without_returning(self.db())
            .await
            .map(drop)
            .map_err(taken)
    }

    async fn update_repository(&mut self, repository: &Repository) -> Result<(), StoreError> {
        let updated = repository::Entity::update_many()
            .set(repository::ActiveModel::from(repository))
            .filter(repository::Column::Id.eq(repository.id.to_string()))
            .exec(self.db())
            .await
            .map_err(taken)?;
        some(updated.rows_affected, "the repository")
    }

    async fn delete_repository(&mut self, id: RepositoryId) -> Result<(), StoreError> {
        let deleted = repository::Entity::delete_by_id(id.to_string()).exec(self.db()).await;
        let deleted = deleted.map_err(|error| in_use(error, "backups lie in this repository"))?;
        some(deleted.rows_affected, "the repository")
    }

    async fn insert_credential(&mut self, credential: &Credential) -> Result<(), StoreError> {
        let row = credential::ActiveModel::sealed(credential, &self.sealer)?;
        let inserted = credential::Entity::insert(row).exec_without_returning(self.db()).await;
        inserted.map(drop).map_err(taken)
    }

    async fn update_credential(&mut self, credential: &Credential) -> Result<(), StoreError> {
        let updated = credential::Entity::update_many()
            .set(credential::ActiveModel::sealed(credential, &self.sealer)?)
            .filter(credential::Column::Id.eq(credential.id.to_string()))
            .exec(self.db())
            .await
            .map_err(taken)?;
        some(updated.rows_affected, "the credential")
    }

    async fn delete_credential(&mut self, id: CredentialId) -> Result<(), StoreError> {
        let deleted = credential::Entity::delete_by_id(id.to_string()).exec(self.db()).await;
        let deleted = deleted.map_err(|error| in_use(error, "a VM uses this credential"))?;
        some(deleted.rows_affected, "the credential")
    }

    async fn insert_vma_node(&mut self, node: &VmaNode) -> Result<(), StoreError> {
        let row = vma_node::ActiveModel::sealed(node, &self.sealer)?;
        let inserted = vma_node::Entity::insert(row).exec_without_returning(self.db()).await;
        inserted.map(drop).map_err(taken)
    }

    async fn update_vma_node(&mut self, node: &VmaNode) -> Result<(), StoreError> {
        let updated = vma_node::Entity::update_many()
            .set(vma_node::ActiveModel::sealed(node, &self.sealer)?)
            .filter(vma_node::Column::Id.eq(node.id.to_string()))
            .exec(self.db())
            .await
            .map_err(taken)?;
        some(updated.rows_affected, "the VMA")
    }

    async fn note_vma_source(
        &mut self,
        id: VmaNodeId,
        source: &SourceName,
    ) -> Result<(), StoreError> {
        let noted = vma_node::ActiveModel {
            source_host: Set(source.host.clone()),
            source_uuid: Set(source.uuid.clone()),
            ..Default::default()
        };
        let updated = vma_node::Entity::update_many()
            .set(noted)
            .filter(vma_node::Column::Id.eq(id.to_string()));
        updated.exec(self.db()).await.map(drop).map_err(store_error)
    }

    async fn delete_vma_node(&mut self, id: VmaNodeId) -> Result<(), StoreError> {
        let deleted = vma_node::Entity::delete_by_id(id.to_string()).exec(self.db()).await;
        let deleted = deleted.map_err(|error| in_use(error, "a VM needs this VMA"))?;
        some(deleted.rows_affected, "the VMA")
    }

    async fn insert_api_token(&mut self, token: &ApiToken) -> Result<(), StoreError> {
        api_token::Entity::insert(api_token::ActiveModel::from(token))
            .exec_without_returning(self.db())
            .await
            .map(drop)
            .map_err(taken)
    }

    async fn delete_api_tokens(&mut self) -> Result<u64, StoreError> {
        let deleted = api_token::Entity::delete_many().exec(self.db()).await;
        Ok(deleted.map_err(store_error)?.rows_affected)
    }
}

/// A duplicate of something with a name is not a matter of who was first.
fn taken(error: DbErr) -> StoreError {
    if is_unique(&error) { StoreError::Refused("the name is taken") } else { store_error(error) }
}

fn in_use(error: DbErr, why: &'static str) -> StoreError {
    if is_reference(&error) { StoreError::Refused(why) } else { store_error(error) }
}

fn some(rows: u64, what: &'static str) -> Result<(), StoreError> {
    if rows == 0 { Err(StoreError::Missing(what)) } else { Ok(()) }
}
