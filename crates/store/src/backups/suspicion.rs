//! Why a chain is suspect, as the JSON text of its column.

use hub_domain::audit::{Lie, Suspicion};
use hub_domain::time::Timestamp;
use hub_ports::StoreError;
use hub_vm_disk_repo::column;
use serde::{Deserialize, Serialize};

/// Writes a suspicion.
pub(super) fn to_text(suspicion: &Suspicion) -> Result<String, StoreError> {
    let Suspicion { found_by, found_at, lie } = suspicion.clone();
    let Lie { offset, blocks, expected, found } = lie;
    let found_by = found_by.to_string();
    let stored = Stored { found_by, found_at, offset, blocks, expected, found };
    serde_json::to_string(&stored).map_err(|error| StoreError::Internal(error.into()))
}

/// Reads what [`to_text`] wrote.
pub(super) fn from_text(text: &str) -> Result<Suspicion, StoreError> {
    let stored: Stored =
        serde_json::from_str(text).map_err(|error| column::corrupt("suspicion", error))?;
    let Stored { found_by, found_at, offset, blocks, expected, found } = stored;
    let found_by = column::id("suspicion.found_by", &found_by)?;
    Ok(Suspicion { found_by, found_at, lie: Lie { offset, blocks, expected, found } })
}

#[derive(Serialize, Deserialize)]
struct Stored {
    found_by: String,
    found_at: Timestamp,
    offset: u64,
    blocks: u64,
    expected: String,
    found: String,
}
