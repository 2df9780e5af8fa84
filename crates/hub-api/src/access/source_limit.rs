//! How many copies at a time a vCenter or host bears, changed while copies run.

use actix_web::web;
use hub_ports::store::readable;
use serde::Deserialize;
use utoipa::ToSchema;

use super::credentials::{CredentialView, find, view};
use super::setting::{Whole, copies, given};
use crate::answer::{Answer, State};

/// What shall change; what is left out stays, and null takes the limit away.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CredentialLimits {
    /// Copies at a time from the vCenter or host, by whatever VMAs.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    max_concurrent_copies: Option<Option<Whole>>,
}

/// Changes how many copies at a time are made from a login's vCenter or host; of several logins for it the lowest holds.
#[utoipa::path(patch, path = "/api/v1/vmware-credentials/{id}", tag = "credentials",
    params(("id" = Uuid, Path)), request_body = CredentialLimits,
    responses((status = 200, body = CredentialView)))]
pub(crate) async fn adjust(
    state: State,
    of: web::Path<String>,
    limits: web::Json<CredentialLimits>,
) -> Answer<CredentialView> {
    let limits = limits.into_inner();
    let stored = state.carry_out(|hub| async move {
        let _alone = hub.supervisor.copies().settings().await;
        let mut work = hub.store.begin().await?;
        let mut credential = find(work.as_mut(), &of).await?;
        if let Some(given) = limits.max_concurrent_copies {
            credential.copies = copies(given)?;
        }
        credential.updated_at = hub.clock.now();
        work.update_credential(&credential).await?;
        let all = readable(work.credentials().await?);
        work.commit().await?;
        hub.supervisor.copies().set_source(&all, credential.id);
        Ok(view(&credential))
    });
    stored.await.map(web::Json)
}
