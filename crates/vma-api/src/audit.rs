//! The audit of change tracking: part of what a source calls unchanged is read and compared all the same.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use crate::ParentManifest;

/// Asks a copy by changed areas to audit them; a copy that reads everything anyway has nothing to audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditOrder {
    /// Within so many copies, one after the other, every block that was reported unchanged is read once.
    pub runs: NonZeroU32,
    /// Where on the disk this copy goes on, in bytes: [`AuditReport::next`] of the parent's copy, or 0.
    pub from: u64,
}

/// Asks a copy that reads the whole disk to audit on the way what the source says has changed since the latest point of
/// a chain, which may end with this copy: whatever the source does not name must be what that point holds.
///
/// It never lets a copy fail: where there can be no audit, [`DiskReport::method_reason`](crate::DiskReport) says why. A
/// VMA that does not know of it ignores it, and reports no audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainAudit {
    /// The mark that the copy of that point reported for this disk.
    pub change_id: String,
    /// The digests of that point.
    pub point: ParentManifest,
    /// Where the audit by parts stands, in bytes; it comes back as [`AuditReport::next`].
    pub from: u64,
}

/// What an audit has looked at; reported as soon as it is over, which is before anything is sent, but for the audit of
/// a chain: that one is over when everything was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditReport {
    /// Blocks compared with the parent's digests, those that the source calls zero included.
    pub blocks: u64,
    /// Bytes of the disk that they are.
    pub bytes: u64,
    /// Where the next copy goes on, in bytes, once this one has become a point.
    pub next: u64,
    /// What was found: the disk is then read as a whole and compared by digest, where it was not read as a whole anyway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lie: Option<Lie>,
}

/// A change that a source did not tell: a block that it called unchanged is not what the parent holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lie {
    /// First byte of the first such block.
    pub offset: u64,
    /// How many such blocks there were in the sample.
    pub blocks: u64,
    /// Digest of that block in the parent, hexadecimal; zeroes for a block of zeroes.
    pub expected: String,
    /// Its digest at the source.
    pub found: String,
}
