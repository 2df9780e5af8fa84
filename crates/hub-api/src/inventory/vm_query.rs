//! What a list of VMs can be asked for.

use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use crate::page::{self, Limit};

/// Which page, and whether to sum up.
#[derive(Clone, Copy, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct VmQuery {
    /// Most items to answer.
    #[serde(default, deserialize_with = "page::limit")]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500, default = 100)]
    pub(super) limit: Limit,
    /// Only VMs after the one with this id: the `next` of the page before.
    pub(super) after: Option<Uuid>,
    /// Whether to answer the totals, too.
    #[serde(default)]
    pub(super) totals: bool,
}
