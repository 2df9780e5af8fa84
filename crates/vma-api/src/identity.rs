//! Who a VMA is, and how it proves it.

use serde::{Deserialize, Serialize};

/// Context string of the key derivation for [`Identity::proof`]:
/// `proof = blake3::keyed_hash(blake3::derive_key(PROOF_CONTEXT, token), nonce)`,
/// over the 32 bytes of the nonce and not over their spelling.
///
/// The hub checks the proof before it sends the token, so that a stranger on the VMA's address learns nothing.
pub const PROOF_CONTEXT: &str = "sendense-hub 2026 vma identity proof v1";

/// The answer of `GET /health`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// `ok`, or what is wrong.
    pub status: String,
    /// Version of the VMA.
    pub version: String,
}

/// The answer of `GET /api/v1/identity`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The name it was configured with.
    pub name: String,
    /// Version of the VMA.
    pub version: String,
    /// Version of this contract: 1.
    pub api_version: u32,
    /// `folder` or `vsphere`.
    pub source_kind: String,
    /// Keyed digest of the nonce, hexadecimal; see [`PROOF_CONTEXT`].
    pub proof: String,
}
