//! The error shape of RFC 9457, as both sides write it.

use serde::{Deserialize, Serialize};

/// `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `/problems/<code>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// A short name of the problem.
    pub title: String,
    /// The HTTP status, repeated.
    pub status: u16,
    /// What happened here, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Stable code (`source/vm-not-found`).
    #[serde(default)]
    pub code: String,
}
