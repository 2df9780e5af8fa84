//! The verdicts of a verification as the JSON text of their column.

use hub_domain::restore::{Mismatch, PointVerdict};
use hub_ports::StoreError;
use hub_vm_disk_repo::column;
use serde::{Deserialize, Serialize};

/// Writes verdicts.
pub(crate) fn to_text(verdicts: &[PointVerdict]) -> Result<String, StoreError> {
    let stored: Vec<StoredVerdict> = verdicts.iter().map(StoredVerdict::from).collect();
    serde_json::to_string(&stored).map_err(|error| StoreError::Internal(error.into()))
}

/// Reads what [`to_text`] wrote.
pub(crate) fn from_text(text: &str) -> Result<Vec<PointVerdict>, StoreError> {
    let stored: Vec<StoredVerdict> =
        serde_json::from_str(text).map_err(|error| column::corrupt("verdicts", error))?;
    stored.into_iter().map(PointVerdict::try_from).collect()
}

#[derive(Serialize, Deserialize)]
struct StoredVerdict {
    backup_id: String,
    disk_id: u32,
    blocks_checked: u64,
    bad_blocks: u64,
    mismatches: Vec<StoredMismatch>,
    damage: Option<String>,
    /// Verdicts of before the audit have none.
    #[serde(default)]
    suspect: bool,
}

#[derive(Serialize, Deserialize)]
struct StoredMismatch {
    offset: u64,
    len: u64,
    what: String,
}

impl From<&PointVerdict> for StoredVerdict {
    fn from(verdict: &PointVerdict) -> Self {
        let mismatches = verdict.mismatches.iter().map(|it| StoredMismatch {
            offset: it.offset,
            len: it.len,
            what: it.what.clone(),
        });
        Self {
            backup_id: verdict.point.to_string(),
            disk_id: verdict.ordinal,
            blocks_checked: verdict.blocks_checked,
            bad_blocks: verdict.bad_blocks,
            mismatches: mismatches.collect(),
            damage: verdict.damage.clone(),
            suspect: verdict.suspect,
        }
    }
}

impl TryFrom<StoredVerdict> for PointVerdict {
    type Error = StoreError;

    fn try_from(stored: StoredVerdict) -> Result<Self, StoreError> {
        let mismatches = stored
            .mismatches
            .into_iter()
            .map(|StoredMismatch { offset, len, what }| Mismatch { offset, len, what });
        Ok(Self {
            point: column::id("verdicts.backup_id", &stored.backup_id)?,
            ordinal: stored.disk_id,
            blocks_checked: stored.blocks_checked,
            bad_blocks: stored.bad_blocks,
            mismatches: mismatches.collect(),
            damage: stored.damage,
            suspect: stored.suspect,
        })
    }
}
