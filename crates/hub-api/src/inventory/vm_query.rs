//! What a list of VMs can be asked for.

use serde::Deserialize;
use utoipa::IntoParams;

use crate::page::{self, After, Limit};

/// Which page, and whether to sum up.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct VmQuery {
    /// Most items to answer.
    #[serde(default, deserialize_with = "page::limit")]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500, default = 100)]
    pub(super) limit: Limit,
    /// Only VMs after the one with this id: the `next` of the page before.
    #[param(value_type = Option<String>)]
    pub(super) after: Option<After>,
    /// Whether to answer the totals, too.
    #[serde(default)]
    pub(super) totals: bool,
}
