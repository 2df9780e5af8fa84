//! Repositories, credentials, VMAs and API tokens.

use async_trait::async_trait;
use hub_domain::access::{ApiToken, Credential, VmaNode};
use hub_domain::ids::{CredentialId, RepositoryId, VmaNodeId};
use hub_domain::reader_choice::SourceName;
use hub_domain::repository::Repository;

use super::Row;
use crate::StoreError;

/// Reads what the hub was set up with; each list is small and whole, by name.
#[async_trait]
pub trait AccessReads: Send {
    /// The repository with this id.
    async fn repository(&mut self, id: RepositoryId) -> Result<Option<Repository>, StoreError>;

    /// All repositories.
    async fn repositories(&mut self) -> Result<Vec<Row<Repository>>, StoreError>;

    /// The credential with this id, its password decrypted.
    async fn credential(&mut self, id: CredentialId) -> Result<Option<Credential>, StoreError>;

    /// All credentials, their passwords decrypted.
    async fn credentials(&mut self) -> Result<Vec<Row<Credential>>, StoreError>;

    /// The VMA with this id, its token decrypted.
    async fn vma_node(&mut self, id: VmaNodeId) -> Result<Option<VmaNode>, StoreError>;

    /// All VMAs, their tokens decrypted.
    async fn vma_nodes(&mut self) -> Result<Vec<Row<VmaNode>>, StoreError>;

    /// The API token with this digest.
    async fn api_token(&mut self, digest: &[u8; 32]) -> Result<Option<ApiToken>, StoreError>;

    /// How many API tokens there are.
    async fn api_token_count(&mut self) -> Result<u64, StoreError>;
}

/// Writes what the hub is set up with; a name that is taken is [`StoreError::Refused`].
#[async_trait]
pub trait AccessWrites: Send {
    /// Stores a new repository.
    async fn insert_repository(&mut self, repository: &Repository) -> Result<(), StoreError>;

    /// Stores a repository as given.
    async fn update_repository(&mut self, repository: &Repository) -> Result<(), StoreError>;

    /// Removes a repository; [`StoreError::Refused`] while backup jobs lie in it.
    async fn delete_repository(&mut self, id: RepositoryId) -> Result<(), StoreError>;

    /// Stores a new credential, its password encrypted.
    async fn insert_credential(&mut self, credential: &Credential) -> Result<(), StoreError>;

    /// Stores a credential as given, its password encrypted.
    async fn update_credential(&mut self, credential: &Credential) -> Result<(), StoreError>;

    /// Removes a credential; [`StoreError::Refused`] while a VM uses it (trap C16).
    async fn delete_credential(&mut self, id: CredentialId) -> Result<(), StoreError>;

    /// Stores a new VMA, its token encrypted.
    async fn insert_vma_node(&mut self, node: &VmaNode) -> Result<(), StoreError>;

    /// Stores a VMA as given, its token encrypted.
    async fn update_vma_node(&mut self, node: &VmaNode) -> Result<(), StoreError>;

    /// Stores what a VMA reads, and nothing else of it; nothing happens when it is gone.
    async fn note_vma_source(
        &mut self,
        id: VmaNodeId,
        source: &SourceName,
    ) -> Result<(), StoreError>;

    /// Removes a VMA; [`StoreError::Refused`] while a VM needs it.
    async fn delete_vma_node(&mut self, id: VmaNodeId) -> Result<(), StoreError>;

    /// Stores a new API token.
    async fn insert_api_token(&mut self, token: &ApiToken) -> Result<(), StoreError>;

    /// Removes every API token; answers how many there were.
    async fn delete_api_tokens(&mut self) -> Result<u64, StoreError>;
}
