//! What a run says of itself, as the API shows it.

use hub_domain::remarks::{CopiedBy, Warning};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// The VMA of a copy, under the name that it had then.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CopiedBy)]
pub(crate) struct CopiedByView {
    vma_node_id: Uuid,
    vma_name: String,
}

/// What somebody should know of a job that did not fail for it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Warning)]
pub(crate) struct WarningView {
    /// Stable; `/problems/<code>` says what to do.
    code: String,
    detail: String,
}

impl CopiedByView {
    pub(crate) fn of(it: &CopiedBy) -> Self {
        Self { vma_node_id: it.vma.as_uuid(), vma_name: it.name.clone() }
    }
}

impl WarningView {
    pub(crate) fn all(warnings: &[Warning]) -> Vec<Self> {
        let view = |it: &Warning| Self { code: it.code.clone(), detail: it.detail.clone() };
        warnings.iter().map(view).collect()
    }
}
