//! Repositories, credentials, VMAs and API tokens in memory.

use async_trait::async_trait;
use hub_domain::access::{ApiToken, Credential, VmaNode};
use hub_domain::ids::{CredentialId, RepositoryId, VmaNodeId};
use hub_domain::reader_choice::SourceName;
use hub_domain::repository::Repository;
use hub_ports::StoreError;
use hub_ports::store::{AccessReads, AccessWrites, Row};

use super::Session;
use super::vms::count;

const TAKEN: StoreError = StoreError::Refused("the name is taken");

#[async_trait]
impl AccessReads for Session {
    async fn repository(&mut self, id: RepositoryId) -> Result<Option<Repository>, StoreError> {
        let found = self.rows().repositories.get(&id).cloned();
        self.one(found)
    }

    async fn repositories(&mut self) -> Result<Vec<Row<Repository>>, StoreError> {
        let mut all: Vec<Repository> = self.rows().repositories.values().cloned().collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(self.listed(all))
    }

    async fn credential(&mut self, id: CredentialId) -> Result<Option<Credential>, StoreError> {
        let found = self.rows().credentials.get(&id).cloned();
        self.one(found)
    }

    async fn credentials(&mut self) -> Result<Vec<Row<Credential>>, StoreError> {
        let mut all: Vec<Credential> = self.rows().credentials.values().cloned().collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(self.listed(all))
    }

    async fn vma_node(&mut self, id: VmaNodeId) -> Result<Option<VmaNode>, StoreError> {
        let found = self.rows().vma_nodes.get(&id).cloned();
        self.one(found)
    }

    async fn vma_nodes(&mut self) -> Result<Vec<Row<VmaNode>>, StoreError> {
        let mut all: Vec<VmaNode> = self.rows().vma_nodes.values().cloned().collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(self.listed(all))
    }

    async fn api_token(&mut self, digest: &[u8; 32]) -> Result<Option<ApiToken>, StoreError> {
        Ok(self.rows().api_tokens.values().find(|token| token.digest == *digest).cloned())
    }

    async fn api_token_count(&mut self) -> Result<u64, StoreError> {
        Ok(count(self.rows().api_tokens.len()))
    }
}

#[async_trait]
impl AccessWrites for Session {
    async fn insert_repository(&mut self, repository: &Repository) -> Result<(), StoreError> {
        let new = repository.clone();
        self.write(move |rows| {
            if rows.repositories.values().any(|old| old.name == new.name) {
                return Err(TAKEN);
            }
            rows.repositories.insert(new.id, new.clone());
            Ok(())
        })
    }

    async fn update_repository(&mut self, repository: &Repository) -> Result<(), StoreError> {
        let new = repository.clone();
        self.write(move |rows| {
            if rows.repositories.values().any(|old| old.id != new.id && old.name == new.name) {
                return Err(TAKEN);
            }
            let old =
                rows.repositories.get_mut(&new.id).ok_or(StoreError::Missing("the repository"))?;
            *old = new.clone();
            Ok(())
        })
    }

    async fn delete_repository(&mut self, id: RepositoryId) -> Result<(), StoreError> {
        self.write(move |rows| {
            if rows.backups.values().any(|job| job.repository == id)
                || rows.runs.values().any(|run| run.repository == id)
            {
                return Err(StoreError::Refused("backups lie in this repository"));
            }
            rows.repositories.remove(&id).ok_or(StoreError::Missing("the repository"))?;
            Ok(())
        })
    }

    async fn insert_credential(&mut self, credential: &Credential) -> Result<(), StoreError> {
        let new = credential.clone();
        self.write(move |rows| {
            if rows.credentials.values().any(|old| old.name == new.name) {
                return Err(TAKEN);
            }
            rows.credentials.insert(new.id, new.clone());
            Ok(())
        })
    }

    async fn update_credential(&mut self, credential: &Credential) -> Result<(), StoreError> {
        let new = credential.clone();
        self.write(move |rows| {
            if rows.credentials.values().any(|old| old.id != new.id && old.name == new.name) {
                return Err(TAKEN);
            }
            let old =
                rows.credentials.get_mut(&new.id).ok_or(StoreError::Missing("the credential"))?;
            *old = new.clone();
            Ok(())
        })
    }

    async fn delete_credential(&mut self, id: CredentialId) -> Result<(), StoreError> {
        self.write(move |rows| {
            if rows.vms.values().any(|vm| vm.credential == Some(id)) {
                return Err(StoreError::Refused("a VM uses this credential"));
            }
            rows.credentials.remove(&id).ok_or(StoreError::Missing("the credential"))?;
            Ok(())
        })
    }

    async fn insert_vma_node(&mut self, node: &VmaNode) -> Result<(), StoreError> {
        let new = node.clone();
        self.write(move |rows| {
            if rows.vma_nodes.values().any(|old| old.name == new.name) {
                return Err(TAKEN);
            }
            rows.vma_nodes.insert(new.id, new.clone());
            Ok(())
        })
    }

    async fn update_vma_node(&mut self, node: &VmaNode) -> Result<(), StoreError> {
        let new = node.clone();
        self.write(move |rows| {
            if rows.vma_nodes.values().any(|old| old.id != new.id && old.name == new.name) {
                return Err(TAKEN);
            }
            let old = rows.vma_nodes.get_mut(&new.id).ok_or(StoreError::Missing("the VMA"))?;
            *old = new.clone();
            Ok(())
        })
    }

    async fn note_vma_source(
        &mut self,
        id: VmaNodeId,
        source: &SourceName,
    ) -> Result<(), StoreError> {
        let source = source.clone();
        self.write(move |rows| {
            if let Some(node) = rows.vma_nodes.get_mut(&id) {
                node.source = source.clone();
            }
            Ok(())
        })
    }

    async fn delete_vma_node(&mut self, id: VmaNodeId) -> Result<(), StoreError> {
        self.write(move |rows| {
            if rows.vms.values().any(|vm| vm.vma_node == Some(id)) {
                return Err(StoreError::Refused("a VM needs this VMA"));
            }
            rows.vma_nodes.remove(&id).ok_or(StoreError::Missing("the VMA"))?;
            Ok(())
        })
    }

    async fn insert_api_token(&mut self, token: &ApiToken) -> Result<(), StoreError> {
        let new = token.clone();
        self.write(move |rows| {
            let mut others = rows.api_tokens.values();
            if others.any(|old| old.digest == new.digest || old.name == new.name) {
                return Err(TAKEN);
            }
            rows.api_tokens.insert(new.id, new.clone());
            Ok(())
        })
    }

    async fn delete_api_tokens(&mut self) -> Result<u64, StoreError> {
        let removed = count(self.rows().api_tokens.len());
        self.write(|rows| {
            rows.api_tokens.clear();
            Ok(())
        })?;
        Ok(removed)
    }
}
