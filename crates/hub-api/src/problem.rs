//! The one error shape, RFC 9457; errors know their class, and only this file knows HTTP.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, ResponseError};
use hub_ports::store::VmCandidate;
use hub_ports::{Classify, ErrorClass};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{fence, problem_page};

/// Seconds after which a client may try again what was not available.
const RETRY_AFTER: &str = "5";

/// An error on its way to the client; boxed, since every answer may be one.
#[derive(Debug)]
pub(crate) struct Problem(Box<Said>);

#[derive(Debug)]
struct Said {
    status: StatusCode,
    code: Cow<'static, str>,
    detail: String,
    errors: Vec<FieldError>,
    candidates: Vec<Candidate>,
    children: Vec<String>,
    allow: Option<String>,
}

/// `application/problem+json`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody<'a> {
    /// `/problems/<code>`: a page that says what to do.
    #[serde(rename = "type")]
    kind: String,
    /// A short name of the problem.
    title: &'a str,
    /// The HTTP status, repeated.
    status: u16,
    /// What happened here, and what to do.
    detail: &'a str,
    /// The id of the request, as the log of the hub has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    /// Stable code, with a slash.
    code: &'a str,
    /// Which parts of the request are wrong.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(value_type = Vec<FieldError>, required = false)]
    errors: &'a [FieldError],
    /// Which VMs an ambiguous name fits.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(value_type = Vec<Candidate>, required = false)]
    candidates: &'a [Candidate],
    /// Which backups stand on the one that was to be deleted.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(value_type = Vec<String>, required = false)]
    children: &'a [String],
}

/// One wrong part of a request.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct FieldError {
    /// JSON pointer into the body, or the name of a query parameter.
    pointer: String,
    /// What is wrong with it.
    detail: String,
}

/// One VM that an ambiguous name fits.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Candidate {
    /// Its id, which is never ambiguous.
    context_id: String,
    /// Its name.
    vm_name: String,
    /// Its place in the inventory of its source.
    path: String,
    /// Its source.
    vcenter_host: String,
}

impl Candidate {
    fn of(vm: &VmCandidate) -> Self {
        Self {
            context_id: vm.id.to_string(),
            vm_name: vm.name.clone(),
            path: vm.path.clone(),
            vcenter_host: vm.vcenter_host.clone(),
        }
    }
}

impl Problem {
    /// A problem of the edge's own.
    pub(crate) fn new(
        class: ErrorClass,
        code: impl Into<Cow<'static, str>>,
        detail: impl Into<String>,
    ) -> Self {
        Self::with_status(status_of(class), code, detail)
    }

    /// A problem whose status no class has, such as 415.
    pub(crate) fn with_status(
        status: StatusCode,
        code: impl Into<Cow<'static, str>>,
        detail: impl Into<String>,
    ) -> Self {
        Self(Box::new(Said {
            status,
            code: code.into(),
            detail: detail.into(),
            errors: Vec::new(),
            candidates: Vec::new(),
            children: Vec::new(),
            allow: None,
        }))
    }

    /// One field of a request is wrong.
    pub(crate) fn field(pointer: &str, detail: impl fmt::Display) -> Self {
        let detail = detail.to_string();
        let said = format!("{}: {detail}", pointer.trim_start_matches('/'));
        Self::new(ErrorClass::Invalid, "request/invalid-field", said).at(pointer, detail)
    }

    /// Nothing has this id.
    pub(crate) fn not_found(code: &'static str, what: &str, id: &str) -> Self {
        let id: String = id.chars().take(80).collect();
        Self::new(ErrorClass::NotFound, code, format!("there is no {what} {id}"))
    }

    /// A panic, or something else that a user can do nothing about; the cause is in the log only.
    pub(crate) fn internal(cause: &str) -> Self {
        tracing::error!(error = cause, "a request failed unexpectedly");
        Self::new(ErrorClass::Internal, "internal", INTERNAL)
    }

    /// The hub takes nothing new.
    pub(crate) fn stopping() -> Self {
        let detail = "the hub is stopping; send the request again when it is back";
        Self::new(ErrorClass::Unavailable, "hub/stopping", detail)
    }

    /// Points at the wrong part.
    pub(crate) fn at(mut self, pointer: &str, detail: impl Into<String>) -> Self {
        self.0.errors.push(FieldError { pointer: pointer.to_owned(), detail: detail.into() });
        self
    }

    /// Names the methods that the path answers.
    pub(crate) fn with_allow(mut self, allow: String) -> Self {
        self.0.allow = Some(allow);
        self
    }

    /// Whether the same question will be answered so again.
    pub(crate) fn is_lasting(&self) -> bool {
        self.0.status != StatusCode::SERVICE_UNAVAILABLE
    }
}

/// What users are told about failures that only the log can explain.
const INTERNAL: &str = "the request failed unexpectedly; the log of the hub has the cause under the id of this request";

impl<E: Classify> From<E> for Problem {
    fn from(error: E) -> Self {
        let (class, code) = (error.class(), error.code());
        let chain = chain(&error);
        match class {
            ErrorClass::Internal => {
                tracing::error!(error = %chain, error.code = code, "a request failed unexpectedly");
                return Self::new(class, code, INTERNAL);
            }
            ErrorClass::Unavailable | ErrorClass::Upstream | ErrorClass::Full => {
                tracing::warn!(error = %chain, error.code = code, "a request could not be served");
            }
            ErrorClass::Invalid
            | ErrorClass::NotFound
            | ErrorClass::Conflict
            | ErrorClass::Unauthorized => {
                tracing::debug!(error = %chain, error.code = code, "a request was refused");
            }
        }
        let mut problem = Self::new(class, code, error.to_string());
        problem.0.candidates = error.candidates().iter().map(Candidate::of).collect();
        problem.0.children = error.children().iter().map(ToString::to_string).collect();
        problem
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.0.code, self.0.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.0.status
    }

    fn error_response(&self) -> HttpResponse {
        let title = problem_page::title(&self.0.code)
            .or_else(|| self.0.status.canonical_reason())
            .unwrap_or("Error");
        let body = ProblemBody {
            kind: format!("/problems/{}", self.0.code),
            title,
            status: self.0.status.as_u16(),
            detail: &self.0.detail,
            instance: fence::request_id(),
            code: &self.0.code,
            errors: &self.0.errors,
            candidates: &self.0.candidates,
            children: &self.0.children,
        };
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = HttpResponse::build(self.0.status);
        response.content_type("application/problem+json");
        if let Some(allow) = &self.0.allow {
            response.insert_header((header::ALLOW, allow.as_str()));
        }
        if self.0.status == StatusCode::UNAUTHORIZED {
            response.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
        }
        if self.0.status == StatusCode::SERVICE_UNAVAILABLE {
            response.insert_header((header::RETRY_AFTER, RETRY_AFTER));
        }
        response.body(body)
    }
}

fn status_of(class: ErrorClass) -> StatusCode {
    match class {
        ErrorClass::Invalid => StatusCode::BAD_REQUEST,
        ErrorClass::NotFound => StatusCode::NOT_FOUND,
        ErrorClass::Conflict => StatusCode::CONFLICT,
        ErrorClass::Unauthorized => StatusCode::UNAUTHORIZED,
        ErrorClass::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorClass::Upstream => StatusCode::BAD_GATEWAY,
        ErrorClass::Full => StatusCode::INSUFFICIENT_STORAGE,
        ErrorClass::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// An error with all its causes.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use actix_web::body::to_bytes;
    use hub_ports::StoreError;
    use serde_json::Value;

    use super::*;

    async fn shown(problem: Problem) -> anyhow::Result<Value> {
        let body = to_bytes(problem.error_response().into_body()).await;
        let body = body.map_err(|error| anyhow::anyhow!("no body: {error}"))?;
        Ok(serde_json::from_slice(&body)?)
    }

    #[tokio::test]
    async fn internal_errors_never_leak_their_text() {
        let error = StoreError::Internal("password=hunter2 at 10.0.0.1".into());
        let body = shown(Problem::from(error)).await.unwrap();
        assert_eq!(body["status"], 500);
        assert_eq!(body["code"], "store/internal");
        assert!(!body.to_string().contains("hunter2"));
        let corrupt = StoreError::Corrupt("row 7 of vm_disks".to_owned());
        let body = shown(Problem::from(corrupt)).await.unwrap();
        assert!(!body.to_string().contains("row 7"));
    }

    #[tokio::test]
    async fn what_is_not_there_now_may_be_tried_again() {
        let problem = Problem::from(StoreError::Unavailable("down".into()));
        let response = problem.error_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(response.headers().contains_key(header::RETRY_AFTER));
        let kind = response.headers().get(header::CONTENT_TYPE);
        assert_eq!(kind.unwrap(), "application/problem+json");
    }

    #[test]
    fn every_class_has_a_status_of_its_own() {
        use ErrorClass::{
            Conflict, Full, Internal, Invalid, NotFound, Unauthorized, Unavailable, Upstream,
        };
        let classes =
            [Invalid, NotFound, Conflict, Unauthorized, Unavailable, Upstream, Full, Internal];
        let statuses: Vec<u16> =
            classes.into_iter().map(|class| status_of(class).as_u16()).collect();
        assert_eq!(statuses, [400, 404, 409, 401, 503, 502, 507, 500]);
    }
}
