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
    /// 32 bytes, hexadecimal, that an [`Introduction`] to this VMA has to cover; others after every start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub challenge: Option<String>,
}

/// Context string of the key derivation for [`Introduction::proof`].
pub const INTRODUCTION_CONTEXT: &str = "sendense-hub 2026 hub introduction proof v1";

/// A hub makes itself known: the body of `POST /api/v1/introduction`, which wants no token in its header.
///
/// The VMA keeps the certificate for good and sends disks to no other hub.
/// `proof = blake3::keyed_hash(blake3::derive_key(INTRODUCTION_CONTEXT, token), challenge ‖ certificate)`, over the
/// 32 bytes of [`Identity::challenge`] and the text of the certificate, so that nobody in between can put another
/// certificate in its place, or play back an old one, without knowing the token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Introduction {
    /// The certificate of the hub's own authority, PEM.
    pub certificate: String,
    /// Keyed digest, hexadecimal.
    pub proof: String,
}

/// The answer to an [`Introduction`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Introduced {
    /// SHA-256 of the certificate that the VMA keeps, hexadecimal.
    pub authority: String,
    /// The vCenter or host that it reads, as [`Vcenter::host`](crate::Vcenter::host) names it; a folder has none. It is
    /// told here and not to everybody who asks for the identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_host: Option<String>,
}
