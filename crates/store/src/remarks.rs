//! What a run says of itself, as the JSON text of its column.

use hub_domain::remarks::{CopiedBy, Remarks, Warning};
use hub_ports::StoreError;
use hub_vm_disk_repo::column;
use serde::{Deserialize, Serialize};

/// Writes remarks; nothing where there are none.
pub(crate) fn to_text(remarks: &Remarks) -> Result<Option<String>, StoreError> {
    if *remarks == Remarks::default() {
        return Ok(None);
    }
    let Remarks { copied_by, warnings } = remarks.clone();
    let (vma_node_id, vma_name) = copied_by.map(|it| (it.vma.to_string(), it.name)).unzip();
    let warnings =
        warnings.into_iter().map(|Warning { code, detail }| StoredWarning { code, detail });
    let stored = Stored { vma_node_id, vma_name, warnings: warnings.collect() };
    serde_json::to_string(&stored).map(Some).map_err(|error| StoreError::Internal(error.into()))
}

/// Reads what [`to_text`] wrote.
pub(crate) fn from_text(text: Option<&str>) -> Result<Remarks, StoreError> {
    let Some(text) = text else { return Ok(Remarks::default()) };
    let stored: Stored =
        serde_json::from_str(text).map_err(|error| column::corrupt("remarks", error))?;
    let vma = column::optional_id("remarks.vma_node_id", stored.vma_node_id.as_deref())?;
    let name = stored.vma_name.unwrap_or_default();
    let warning = |StoredWarning { code, detail }| Warning { code, detail };
    Ok(Remarks {
        copied_by: vma.map(|vma| CopiedBy { vma, name }),
        warnings: stored.warnings.into_iter().map(warning).collect(),
    })
}

#[derive(Serialize, Deserialize)]
struct Stored {
    vma_node_id: Option<String>,
    vma_name: Option<String>,
    #[serde(default)]
    warnings: Vec<StoredWarning>,
}

#[derive(Serialize, Deserialize)]
struct StoredWarning {
    code: String,
    detail: String,
}
