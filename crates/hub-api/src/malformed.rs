//! Requests that cannot be read, in the one error shape.

use actix_web::error::{JsonPayloadError, PathError, QueryPayloadError};
use actix_web::http::StatusCode;
use actix_web::web::Bytes;
use actix_web::{Error, HttpRequest};
use serde::de::DeserializeOwned;

use crate::problem::Problem;

/// A body that may be left out; what is there must be the JSON asked for.
pub(crate) fn optional_json<T: DeserializeOwned>(
    body: Result<Bytes, Error>,
) -> Result<Option<T>, Problem> {
    let body = body.map_err(|error| {
        let status = error.as_response_error().status_code();
        let code = if status == StatusCode::PAYLOAD_TOO_LARGE {
            "request/too-large"
        } else {
            "request/invalid-body"
        };
        Problem::with_status(status, code, error.to_string())
    })?;
    if body.is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(&body).map(Some).map_err(|error| {
        Problem::with_status(
            StatusCode::BAD_REQUEST,
            "request/invalid-body",
            without_value(&error.to_string()),
        )
    })
}

/// What a JSON error says, without the value that was found: it may be a password, and answers end up in logs.
fn without_value(text: &str) -> String {
    for beginning in ["invalid type: ", "invalid value: "] {
        let found = text.strip_prefix(beginning).and_then(|rest| rest.rsplit_once(", expected "));
        if let Some((found, expected)) = found {
            let kind = found.split(['"', '`']).next().unwrap_or_default().trim_end();
            return format!("{beginning}{kind}, expected {expected}");
        }
    }
    text.to_owned()
}

/// A body that is not the JSON asked for.
pub(crate) fn of_json(error: JsonPayloadError, _: &HttpRequest) -> Error {
    let (status, code) = match &error {
        JsonPayloadError::OverflowKnownLength { .. } | JsonPayloadError::Overflow { .. } => {
            (StatusCode::PAYLOAD_TOO_LARGE, "request/too-large")
        }
        JsonPayloadError::ContentType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "request/not-json"),
        JsonPayloadError::Deserialize(_)
        | JsonPayloadError::Serialize(_)
        | JsonPayloadError::Payload(_)
        | _ => (StatusCode::BAD_REQUEST, "request/invalid-body"),
    };
    let detail = if status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
        "the body is JSON and says so: Content-Type: application/json".to_owned()
    } else if let JsonPayloadError::Deserialize(error) = &error {
        without_value(&error.to_string())
    } else {
        error.to_string()
    };
    Problem::with_status(status, code, detail).into()
}

/// A query that is not the one asked for.
pub(crate) fn of_query(error: QueryPayloadError, _: &HttpRequest) -> Error {
    Problem::with_status(StatusCode::BAD_REQUEST, "request/invalid-query", error.to_string()).into()
}

/// A path with a part that cannot be read.
pub(crate) fn of_path(error: PathError, _: &HttpRequest) -> Error {
    Problem::with_status(StatusCode::BAD_REQUEST, "request/invalid-path", error.to_string()).into()
}
