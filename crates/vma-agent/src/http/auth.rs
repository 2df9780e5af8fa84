//! Who may ask: whoever shows the token; and how this VMA proves that it knows it.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header;
use actix_web::middleware::Next;
use actix_web::{Error, ResponseError, web};
use hub_vma_api::{INTRODUCTION_CONTEXT, PROOF_CONTEXT};

use super::Api;
use super::problem::ApiProblem;

/// What is kept of the token: its digest, and the keys of the proofs.
pub(super) struct TokenCheck {
    digest: blake3::Hash,
    proof_key: [u8; 32],
    introduction_key: [u8; 32],
}

impl TokenCheck {
    pub(super) fn new(token: &str) -> Self {
        Self {
            digest: blake3::hash(token.as_bytes()),
            proof_key: blake3::derive_key(PROOF_CONTEXT, token.as_bytes()),
            introduction_key: blake3::derive_key(INTRODUCTION_CONTEXT, token.as_bytes()),
        }
    }

    /// Compares digests, which takes the same time whatever differs.
    fn admits(&self, shown: &str) -> bool {
        self.digest == blake3::hash(shown.as_bytes())
    }

    /// Whether a holder of the token says that this is its certificate; compared in constant time.
    pub(super) fn vouches_for(&self, challenge: &[u8; 32], certificate: &str, proof: &str) -> bool {
        let mut digest = blake3::Hasher::new_keyed(&self.introduction_key);
        digest.update(challenge).update(certificate.as_bytes());
        blake3::Hash::from_hex(proof).is_ok_and(|given| given == digest.finalize())
    }

    /// The proof for a nonce of 32 bytes.
    pub(super) fn proof(&self, nonce: &[u8; 32]) -> String {
        blake3::keyed_hash(&self.proof_key, nonce).to_hex().to_string()
    }
}

/// Lets requests with the token pass, and nobody else.
pub(super) async fn require_token(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let shown = request.headers().get(header::AUTHORIZATION).and_then(|it| it.to_str().ok());
    let shown = shown.and_then(|it| {
        let (scheme, token) = it.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let api = request.app_data::<web::Data<Api>>();
    match (api, shown) {
        (Some(api), Some(token)) if api.token.admits(token) => {
            next.call(request).await.map(ServiceResponse::map_into_left_body)
        }
        _ => {
            let refusal = ApiProblem::unauthorized().error_response();
            Ok(request.into_response(refusal).map_into_right_body())
        }
    }
}
