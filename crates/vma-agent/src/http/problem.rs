//! Errors in the one shape of RFC 9457.

use std::error::Error as _;
use std::fmt;

use actix_web::error::{JsonPayloadError, PathError, QueryPayloadError};
use actix_web::http::{StatusCode, header};
use actix_web::{Error, HttpRequest, HttpResponse, ResponseError};
use hub_vma_api::Problem;

use crate::hub_pin::PinError;
use crate::jobs::StartError;
use crate::source::{FaultClass, SourceError};

/// An error on its way to the client.
#[derive(Debug)]
pub(super) struct ApiProblem {
    status: StatusCode,
    code: String,
    detail: String,
    allow: Option<&'static str>,
}

impl ApiProblem {
    pub(super) fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        Self { status, code: code.to_owned(), detail: detail.into(), allow: None }
    }

    pub(super) fn unauthorized() -> Self {
        let detail = "this call needs `Authorization: Bearer` with the token of this VMA";
        Self::new(StatusCode::UNAUTHORIZED, "request/unauthorized", detail)
    }

    pub(super) fn method_not_allowed(allow: &'static str) -> Self {
        let detail = format!("this path answers {allow}");
        let problem =
            Self::new(StatusCode::METHOD_NOT_ALLOWED, "request/method-not-allowed", detail);
        Self { allow: Some(allow), ..problem }
    }

    pub(super) fn stopping() -> Self {
        let detail = "the VMA is being stopped; try again when it runs";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "vma/stopping", detail)
    }

    pub(super) fn unknown_path() -> Self {
        let detail = "there is nothing at this path; see the contract of the VMA";
        Self::new(StatusCode::NOT_FOUND, "request/unknown-path", detail)
    }

    pub(super) fn unknown_job(id: &str) -> Self {
        let id: String = id.chars().take(128).collect();
        let detail = format!(
            "no job `{id}` is known; it was never started here, its report has expired, or this VMA was restarted"
        );
        Self::new(StatusCode::NOT_FOUND, "copy/job-not-found", detail)
    }
}

impl fmt::Display for ApiProblem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.code, self.detail)
    }
}

impl ResponseError for ApiProblem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let problem = Problem {
            kind: format!("/problems/{}", self.code),
            title: self.status.canonical_reason().unwrap_or("Error").to_owned(),
            status: self.status.as_u16(),
            detail: Some(self.detail.clone()),
            code: self.code.clone(),
        };
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = HttpResponse::build(self.status);
        response.content_type("application/problem+json");
        if let Some(allow) = self.allow {
            response.insert_header((header::ALLOW, allow));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.insert_header((header::RETRY_AFTER, "10"));
        }
        response.body(body)
    }
}

impl From<SourceError> for ApiProblem {
    fn from(error: SourceError) -> Self {
        let status = match error.class() {
            FaultClass::NotFound => StatusCode::NOT_FOUND,
            FaultClass::Conflict => StatusCode::CONFLICT,
            FaultClass::Unsupported => StatusCode::UNPROCESSABLE_ENTITY,
            FaultClass::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            FaultClass::Internal => {
                tracing::error!(error = %error, "a request failed unexpectedly");
                let detail = "the request failed unexpectedly; see the log of the VMA";
                return Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.code(), detail);
            }
        };
        Self::new(status, error.code(), error.to_string())
    }
}

impl From<PinError> for ApiProblem {
    fn from(error: PinError) -> Self {
        let (status, code) = match &error {
            PinError::Certificate(_) => (StatusCode::BAD_REQUEST, "vma/invalid-certificate"),
            PinError::OtherHub { .. } => (StatusCode::CONFLICT, "vma/other-hub"),
            PinError::File { .. } => {
                tracing::error!(%error, cause = ?error.source(), "the hub's certificate was not kept");
                let detail = "the hub's certificate could not be kept; see the log of the VMA";
                return Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail);
            }
        };
        Self::new(status, code, error.to_string())
    }
}

impl From<StartError> for ApiProblem {
    fn from(error: StartError) -> Self {
        let detail = error.to_string();
        match error {
            StartError::Invalid(invalid) => {
                Self::new(StatusCode::BAD_REQUEST, invalid.code, detail)
            }
            StartError::OtherRequest(_) => {
                Self::new(StatusCode::CONFLICT, "copy/job-id-taken", detail)
            }
            StartError::Target(fault) => Self::new(StatusCode::CONFLICT, &fault.code, detail),
            StartError::Source(error) => error.into(),
            StartError::TooMany(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "vma/too-many-jobs", detail)
            }
            StartError::Stopping => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "vma/stopping", detail)
            }
        }
    }
}

/// A body that is not the JSON asked for.
pub(super) fn of_json(error: JsonPayloadError, _: &HttpRequest) -> Error {
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
    ApiProblem::new(status, code, without_value(&error)).into()
}

/// What is wrong with a body, without the value that was found: it may be a password or the name of an export.
fn without_value(error: &JsonPayloadError) -> String {
    match error {
        JsonPayloadError::Deserialize(json) if json.to_string().starts_with("invalid ") => {
            let (line, column) = (json.line(), json.column());
            format!("a value is of the wrong type or out of range at line {line} column {column}")
        }
        JsonPayloadError::Deserialize(_)
        | JsonPayloadError::OverflowKnownLength { .. }
        | JsonPayloadError::Overflow { .. }
        | JsonPayloadError::ContentType
        | JsonPayloadError::Serialize(_)
        | JsonPayloadError::Payload(_)
        | _ => error.to_string(),
    }
}

/// A query that is not the one asked for.
pub(super) fn of_query(error: QueryPayloadError, _: &HttpRequest) -> Error {
    ApiProblem::new(StatusCode::BAD_REQUEST, "request/invalid-query", error.to_string()).into()
}

/// A path with a part that cannot be read.
pub(super) fn of_path(error: PathError, _: &HttpRequest) -> Error {
    ApiProblem::new(StatusCode::BAD_REQUEST, "request/invalid-path", error.to_string()).into()
}
