//! Who may ask: whoever shows a token that the catalogue knows (trap C12).

use std::collections::HashMap;
use std::time::Duration;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header;
use actix_web::middleware::Next;
use actix_web::{Error, ResponseError, web};
use hub_ports::ErrorClass;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::problem::Problem;
use crate::state::ApiState;
use crate::token::token_digest;

/// For how long a known token is not looked up again; a removed one is refused after that at the latest.
const KNOWN_FOR: Duration = Duration::from_secs(15);

/// Most tokens that are remembered.
const MAX_KNOWN: usize = 1024;

/// Lets requests with a known token pass, and nobody else.
pub(crate) async fn require_token(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<EitherBody<impl MessageBody>>, Error> {
    match admit(&request).await {
        Ok(()) => next.call(request).await.map(ServiceResponse::map_into_left_body),
        Err(problem) => {
            let response = problem.error_response();
            Ok(request.into_response(response).map_into_right_body())
        }
    }
}

async fn admit(request: &ServiceRequest) -> Result<(), Problem> {
    let digest = shown(request).map(token_digest).ok_or_else(unauthorized)?;
    let state = request
        .app_data::<web::Data<ApiState>>()
        .ok_or_else(|| Problem::internal("the API is mounted without its state"))?;
    if state.tokens.knows(&digest) {
        return Ok(());
    }
    let found = state
        .ask(move |hub| async move { Ok(hub.store.view().await?.api_token(&digest).await?) })
        .await?;
    found.ok_or_else(unauthorized)?;
    state.tokens.remember(digest);
    Ok(())
}

fn shown(request: &ServiceRequest) -> Option<&str> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn unauthorized() -> Problem {
    let detail = "this call needs `Authorization: Bearer` with an API token of this hub";
    Problem::new(ErrorClass::Unauthorized, "request/unauthorized", detail)
}

/// Digests of the tokens that were found in the catalogue a short while ago.
#[derive(Default)]
pub(crate) struct KnownTokens {
    known: Mutex<HashMap<[u8; 32], Instant>>,
}

impl KnownTokens {
    fn knows(&self, digest: &[u8; 32]) -> bool {
        self.known.lock().get(digest).is_some_and(|since| since.elapsed() < KNOWN_FOR)
    }

    fn remember(&self, digest: [u8; 32]) {
        let mut known = self.known.lock();
        known.retain(|_, since| since.elapsed() < KNOWN_FOR);
        if known.len() < MAX_KNOWN {
            known.insert(digest, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_token_is_looked_up_again_after_a_while() {
        let tokens = KnownTokens::default();
        assert!(!tokens.knows(&[1; 32]));
        tokens.remember([1; 32]);
        assert!(tokens.knows(&[1; 32]));
        assert!(!tokens.knows(&[2; 32]));
        tokio::time::advance(KNOWN_FOR).await;
        assert!(!tokens.knows(&[1; 32]));
    }
}
