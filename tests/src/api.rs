//! A client of the hub's REST API that shows every answer as it is, refusals included.

mod fields;
mod jobs;

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

pub use fields::{Fields, encoded};

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(180);

/// A client with a token.
#[derive(Clone, Debug)]
pub struct Api {
    http: reqwest::Client,
    base: String,
    token: String,
}

/// What the hub answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`, where there is one.
    pub content_type: String,
    /// The `Location` of a job that was accepted.
    pub location: Option<String>,
    /// The body; null when it is empty or no JSON.
    pub body: Value,
    /// The body as it came.
    pub text: String,
}

impl Api {
    /// A client of the hub at `url` (`http://127.0.0.1:PORT`).
    pub fn new(url: &str, token: &str) -> Result<Self> {
        // An error only says that a provider is installed already.
        drop(rustls::crypto::ring::default_provider().install_default());
        // Judges block the thread for seconds, in which a kept connection would die unseen.
        let builder = reqwest::Client::builder().timeout(TIMEOUT).pool_max_idle_per_host(0);
        let http = builder.no_proxy().build()?;
        Ok(Self { http, base: url.trim_end_matches('/').to_owned(), token: token.to_owned() })
    }

    /// The same hub with another token.
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: token.to_owned(), ..self.clone() }
    }

    /// `GET`; paths begin with a slash and stand below `/api/v1`, unless they name it themselves.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.send(self.http.get(self.url(path))).await
    }

    /// `POST` with a body.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(self.http.post(self.url(path)).json(body)).await
    }

    /// `PUT` with a body.
    pub async fn put(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(self.http.put(self.url(path)).json(body)).await
    }

    /// `PATCH` with a body.
    pub async fn patch(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(self.http.patch(self.url(path)).json(body)).await
    }

    /// `DELETE`.
    pub async fn delete(&self, path: &str) -> Result<Answer> {
        self.send(self.http.delete(self.url(path))).await
    }

    fn url(&self, path: &str) -> String {
        let prefix = if path.starts_with("/api/") { "" } else { "/api/v1" };
        format!("{}{prefix}{path}", self.base)
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Answer> {
        let response = request.bearer_auth(&self.token).send().await.context("no answer")?;
        let header = |name: &str| {
            response.headers().get(name).and_then(|it| it.to_str().ok()).map(str::to_owned)
        };
        let (content_type, location) = (header("content-type"), header("location"));
        let status = response.status().as_u16();
        let text = response.text().await?;
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        let content_type = content_type.unwrap_or_default();
        Ok(Answer { status, content_type, location, body, text })
    }
}

impl Answer {
    /// The body of an answer with a status of success; anything else is an error that quotes the refusal.
    pub fn ok(self) -> Result<Value> {
        if (200..300).contains(&self.status) {
            return Ok(self.body);
        }
        bail!("the hub answers {}: {:#}", self.status, self.body)
    }

    /// The `code` of a problem.
    pub fn code(&self) -> &str {
        self.body.get("code").and_then(Value::as_str).unwrap_or_default()
    }

    /// Fails unless this is a problem with exactly this status and code, in the one error shape.
    pub fn refused(self, status: u16, code: &str) -> Result<Value> {
        let shape = self.content_type.starts_with("application/problem+json");
        let same = self.body.get("status").and_then(Value::as_u64) == Some(u64::from(status));
        if self.status == status && self.code() == code && shape && same {
            return Ok(self.body);
        }
        bail!(
            "expected {status} {code} as problem+json, got {} {}: {:#}",
            self.status,
            self.content_type,
            self.body
        )
    }
}
