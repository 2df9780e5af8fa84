//! The certificate that readers of exports check the hub's NBD port against.

use actix_web::{HttpResponse, web};

use crate::answer::State;
use crate::endpoint::Endpoint;

/// Where it is.
pub(crate) const PATH: &str = "/api/v1/certificates/nbd-ca.pem";

pub(crate) const ENDPOINTS: &[Endpoint] = &[Endpoint::get(PATH, || web::get().to(show)).open()];

/// The certificate of the authority behind the hub's NBD port, PEM; without a token, because it is public.
///
/// Compare its SHA-256 with the line that the hub prints at its start before trusting one that came over plain HTTP.
#[utoipa::path(get, path = "/api/v1/certificates/nbd-ca.pem", tag = "exports", security(()),
    responses((status = 200, body = String, content_type = "application/x-pem-file")))]
pub(crate) async fn show(state: State) -> HttpResponse {
    let pem = state.hub().facts.nbd_authority.clone();
    HttpResponse::Ok().content_type("application/x-pem-file").body(pem)
}
