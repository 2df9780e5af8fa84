//! Proof that a node knows its token, before the token is shown to it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hub_domain::access::VmaNode;
use hub_vma_api::PROOF_CONTEXT;
use secrecy::ExposeSecret;
use tokio::time::Instant;

/// Most proofs that are remembered; beyond it the oldest knowledge is thrown away, which only costs a round trip.
const MAX_REMEMBERED: usize = 1024;

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

/// Remembers for a short time which nodes have proved themselves.
pub(crate) struct Proofs {
    lifetime: Duration,
    proven: Mutex<HashMap<[u8; 32], Instant>>,
}

impl Proofs {
    /// Remembers each proof for `lifetime`.
    pub(crate) fn new(lifetime: Duration) -> Self {
        Self { lifetime, proven: Mutex::default() }
    }

    /// Whether this address has proved lately that it knows this token.
    pub(crate) fn holds(&self, node: &VmaNode) -> bool {
        let proven = self.proven.lock().unwrap_or_else(PoisonError::into_inner);
        proven.get(&key(node)).is_some_and(|since| since.elapsed() < self.lifetime)
    }

    /// Remembers a proof.
    pub(crate) fn remember(&self, node: &VmaNode) {
        let mut proven = self.proven.lock().unwrap_or_else(PoisonError::into_inner);
        proven.retain(|_, since| since.elapsed() < self.lifetime);
        if proven.len() >= MAX_REMEMBERED {
            proven.clear();
        }
        proven.insert(key(node), Instant::now());
    }

    /// Forgets a proof: whoever answers now may be somebody else.
    pub(crate) fn forget(&self, node: &VmaNode) {
        let mut proven = self.proven.lock().unwrap_or_else(PoisonError::into_inner);
        proven.remove(&key(node));
    }
}

/// A digest, so that no token lies about in memory; the lengths keep address and token apart.
fn key(node: &VmaNode) -> [u8; 32] {
    let token = node.token.expose_secret();
    let mut hasher = blake3::Hasher::new();
    hasher.update(&node.url.len().to_le_bytes());
    hasher.update(node.url.as_bytes());
    hasher.update(token.as_bytes());
    hasher.finalize().into()
}
