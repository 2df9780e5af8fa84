//! Proof that a node knows its token, before the token is shown to it.

use hub_vma_api::{INTRODUCTION_CONTEXT, PROOF_CONTEXT};

/// A question that only a holder of the token can answer.
pub(crate) struct Challenge {
    nonce: [u8; 32],
}

impl Challenge {
    /// A fresh one.
    pub(crate) fn new() -> Self {
        Self { nonce: rand::random() }
    }

    /// The nonce as it travels.
    pub(crate) fn nonce(&self) -> String {
        hex::encode(self.nonce)
    }

    /// Whether the answer proves knowledge of the token; compared in constant time.
    pub(crate) fn is_met(&self, token: &str, proof: &str) -> bool {
        let key = blake3::derive_key(PROOF_CONTEXT, token.as_bytes());
        let Ok(given) = blake3::Hash::from_hex(proof) else { return false };
        blake3::keyed_hash(&key, &self.nonce) == given
    }
}

/// Proof that a certificate comes from a holder of the token, for the VMA that made this challenge.
pub(crate) fn of_certificate(token: &str, challenge: &[u8; 32], certificate: &str) -> String {
    let key = blake3::derive_key(INTRODUCTION_CONTEXT, token.as_bytes());
    let mut digest = blake3::Hasher::new_keyed(&key);
    digest.update(challenge).update(certificate.as_bytes());
    digest.finalize().to_hex().to_string()
}
