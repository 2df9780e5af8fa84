//! Rows of what the hub is set up with, secrets sealed on the way in and opened on the way out.

use hub_domain::access::{ApiToken, Credential, VmaNode};
use hub_domain::limits::VmaLimits;
use hub_domain::reader_choice::SourceName;
use hub_domain::repository::{Repository, RepositoryKind, RepositorySettings};
use hub_ports::StoreError;
use hub_vm_disk_repo::column;
use sea_orm::Set;

use crate::entity::{api_token, credential, repository, vma_node};
use crate::limit;
use crate::secret::Sealer;

/// What a credential's secret is bound to.
pub(super) const PASSWORD: &str = "vmware_credentials.password_encrypted";

/// What a VMA's secret is bound to.
pub(super) const TOKEN: &str = "vma_nodes.token_encrypted";

impl TryFrom<repository::Model> for Repository {
    type Error = StoreError;

    fn try_from(row: repository::Model) -> Result<Self, StoreError> {
        Ok(Self {
            id: column::id("backup_repositories.id", &row.id)?,
            name: row.name,
            kind: column::word("kind", &row.kind, RepositoryKind::from_word)?,
            path: row.path,
            settings: RepositorySettings {
                copies: limit::copies(row.max_concurrent_copies)?,
                compression: limit::compression(&row.compression, row.compression_level)?,
            },
            created_at: row.created_at,
        })
    }
}

impl From<&Repository> for repository::ActiveModel {
    fn from(repository: &Repository) -> Self {
        Self {
            id: Set(repository.id.to_string()),
            name: Set(repository.name.clone()),
            kind: Set(repository.kind.word().to_owned()),
            path: Set(repository.path.clone()),
            max_concurrent_copies: Set(repository.settings.copies.map(limit::copies_column)),
            compression: Set(repository.settings.compression.word().to_owned()),
            compression_level: Set(limit::level_column(repository.settings.compression)),
            created_at: Set(repository.created_at),
        }
    }
}

impl credential::Model {
    pub(super) fn open(self, sealer: &Sealer) -> Result<Credential, StoreError> {
        Ok(Credential {
            id: column::id("vmware_credentials.id", &self.id)?,
            password: sealer.open(&self.password_encrypted, PASSWORD, &self.id)?,
            name: self.name,
            vcenter_host: self.vcenter_host,
            username: self.username,
            datacenter: self.datacenter,
            copies: limit::copies(self.max_concurrent_copies)?,
            created_at: self.created_at,
            updated_at: self.updated_at,
        })
    }
}

impl credential::ActiveModel {
    pub(super) fn sealed(credential: &Credential, sealer: &Sealer) -> Result<Self, StoreError> {
        let id = credential.id.to_string();
        Ok(Self {
            password_encrypted: Set(sealer.seal(&credential.password, PASSWORD, &id)?),
            id: Set(id),
            name: Set(credential.name.clone()),
            vcenter_host: Set(credential.vcenter_host.clone()),
            username: Set(credential.username.clone()),
            datacenter: Set(credential.datacenter.clone()),
            max_concurrent_copies: Set(credential.copies.map(limit::copies_column)),
            created_at: Set(credential.created_at),
            updated_at: Set(credential.updated_at),
        })
    }
}

impl vma_node::Model {
    pub(super) fn open(self, sealer: &Sealer) -> Result<VmaNode, StoreError> {
        Ok(VmaNode {
            id: column::id("vma_nodes.id", &self.id)?,
            token: sealer.open(&self.token_encrypted, TOKEN, &self.id)?,
            name: self.name,
            url: self.url,
            source_kind: self.source_kind,
            source: SourceName { host: self.source_host, uuid: self.source_uuid },
            limits: VmaLimits {
                copies: limit::copies(self.max_concurrent_copies)?,
                rate: limit::rate(self.max_bytes_per_second)?,
            },
            created_at: self.created_at,
        })
    }
}

impl vma_node::ActiveModel {
    pub(super) fn sealed(node: &VmaNode, sealer: &Sealer) -> Result<Self, StoreError> {
        let id = node.id.to_string();
        Ok(Self {
            token_encrypted: Set(sealer.seal(&node.token, TOKEN, &id)?),
            id: Set(id),
            name: Set(node.name.clone()),
            url: Set(node.url.clone()),
            source_kind: Set(node.source_kind.clone()),
            source_host: Set(node.source.host.clone()),
            source_uuid: Set(node.source.uuid.clone()),
            max_concurrent_copies: Set(node.limits.copies.map(limit::copies_column)),
            max_bytes_per_second: Set(node.limits.rate.map(limit::rate_column)),
            created_at: Set(node.created_at),
        })
    }
}

impl TryFrom<api_token::Model> for ApiToken {
    type Error = StoreError;

    fn try_from(row: api_token::Model) -> Result<Self, StoreError> {
        let mut digest = [0; 32];
        hex::decode_to_slice(&row.digest, &mut digest)
            .map_err(|_| column::corrupt("api_tokens.digest", &row.id))?;
        Ok(Self {
            id: column::id("api_tokens.id", &row.id)?,
            name: row.name,
            digest,
            created_at: row.created_at,
        })
    }
}

impl From<&ApiToken> for api_token::ActiveModel {
    fn from(token: &ApiToken) -> Self {
        Self {
            id: Set(token.id.to_string()),
            name: Set(token.name.clone()),
            digest: Set(hex::encode(token.digest)),
            created_at: Set(token.created_at),
        }
    }
}
