//! Who may talk to whom: logins for sources, registered VMAs, API tokens.

use secrecy::SecretString;

use crate::ids::{ApiTokenId, CredentialId, VmaNodeId};
use crate::limits::{CopyCount, VmaLimits};
use crate::reader_choice::SourceName;
use crate::time::Timestamp;

/// A login for a vCenter or an ESXi host.
#[derive(Clone, Debug)]
pub struct Credential {
    /// Ours.
    pub id: CredentialId,
    /// Unique name.
    pub name: String,
    /// Host name or address of the endpoint.
    pub vcenter_host: String,
    /// Account name.
    pub username: String,
    /// Its password; stored encrypted, never sent back.
    pub password: SecretString,
    /// Only this datacenter, where given.
    pub datacenter: Option<String>,
    /// Copies at a time from its endpoint, by whatever VMAs; of several logins for one endpoint the lowest holds.
    pub copies: Option<CopyCount>,
    /// When it was added.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
}

/// A registered VMA.
#[derive(Clone, Debug)]
pub struct VmaNode {
    /// Ours.
    pub id: VmaNodeId,
    /// Unique name.
    pub name: String,
    /// Base URL (`http://10.0.0.5:8081`).
    pub url: String,
    /// The token that both sides know; stored encrypted, never sent back.
    pub token: SecretString,
    /// What it reads from, as it said at registration (`folder`, `vsphere`).
    pub source_kind: String,
    /// Which vCenter or host that is, as it said at registration and as discovery and tests have found since.
    pub source: SourceName,
    /// What it may take.
    pub limits: VmaLimits,
    /// When it was registered.
    pub created_at: Timestamp,
}

impl VmaNode {
    /// Whether a copy of it takes a snapshot at the hypervisor, which has to be removed again.
    pub fn takes_snapshots(&self) -> bool {
        self.source_kind == "vsphere"
    }
}

/// An API token as the catalogue keeps it: only its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiToken {
    /// Ours.
    pub id: ApiTokenId,
    /// What it is for.
    pub name: String,
    /// BLAKE3 digest of the token's text; the token has 256 random bits, so a fast digest is enough.
    pub digest: [u8; 32],
    /// When it was made.
    pub created_at: Timestamp,
}
