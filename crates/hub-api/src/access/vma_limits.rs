//! What a VMA may take, changed while its copies run.

use actix_web::web;
use serde::Deserialize;
use utoipa::ToSchema;

use super::setting::{Whole, copies, given, rate};
use super::vma_nodes::{VmaNodeView, find, view};
use crate::answer::{Answer, State};

/// What shall change; what is left out stays, and null takes a limit away.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VmaNodeLimits {
    /// Copies from it at a time.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    max_concurrent_copies: Option<Option<Whole>>,
    /// What all its copies together may send, in bytes per second.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u64>, minimum = 65536)]
    max_bytes_per_second: Option<Option<Whole>>,
}

/// Changes the limits of a VMA: copies at work go on, and whoever waits is let in where there is room now.
#[utoipa::path(patch, path = "/api/v1/vma-nodes/{id}", tag = "vma-nodes",
    params(("id" = Uuid, Path)), request_body = VmaNodeLimits,
    responses((status = 200, body = VmaNodeView)))]
pub(crate) async fn adjust(
    state: State,
    of: web::Path<String>,
    limits: web::Json<VmaNodeLimits>,
) -> Answer<VmaNodeView> {
    let limits = limits.into_inner();
    let stored = state.carry_out(|hub| async move {
        let _alone = hub.supervisor.copies().settings().await;
        let mut work = hub.store.begin().await?;
        let mut node = find(work.as_mut(), &of).await?;
        if let Some(given) = limits.max_concurrent_copies {
            node.limits.copies = copies(given)?;
        }
        if let Some(given) = limits.max_bytes_per_second {
            node.limits.rate = rate(given)?;
        }
        work.update_vma_node(&node).await?;
        work.commit().await?;
        hub.supervisor.copies().set_vma(&node);
        Ok(view(&node, None))
    });
    stored.await.map(web::Json)
}
