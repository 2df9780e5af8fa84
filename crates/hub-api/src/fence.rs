//! Around every request: an id, a span in the log, and the id in the answer.

use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::middleware::Next;
use tracing::Instrument;

tokio::task_local! {
    static REQUEST_ID: String;
}

/// The header that carries the id of a request.
const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// The id of the request that is being answered, where there is one.
pub(crate) fn request_id() -> Option<String> {
    REQUEST_ID.try_with(Clone::clone).ok()
}

/// Gives a request its id; one that a proxy has given is kept when it is plain.
pub(crate) async fn fence(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let id = given(&request).unwrap_or_else(|| hex::encode(rand::random::<[u8; 12]>()));
    let span = tracing::info_span!(
        "http",
        request.id = %id,
        http.method = %request.method(),
        http.path = request.path(),
    );
    let answer = REQUEST_ID.scope(id.clone(), next.call(request).instrument(span)).await;
    answer.map(|mut response| {
        if let Ok(value) = HeaderValue::from_str(&id) {
            response.headers_mut().insert(HEADER, value);
        }
        response
    })
}

fn given(request: &ServiceRequest) -> Option<String> {
    let id = request.headers().get(HEADER)?.to_str().ok()?;
    let plain = |it: u8| it.is_ascii_alphanumeric() || it == b'-' || it == b'_';
    (!id.is_empty() && id.len() <= 64 && id.bytes().all(plain)).then(|| id.to_owned())
}
