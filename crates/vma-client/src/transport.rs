//! One HTTP call: a deadline over all of it, a bound on the answer, and errors that say what to do.

use std::error::Error;
use std::io::ErrorKind;
use std::sync::OnceLock;
use std::time::Duration;

use hub_domain::access::VmaNode;
use hub_domain::fault::Fault;
use hub_ports::SourceError;
use hub_vma_api::Problem;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Method, Response, StatusCode, Url};
use secrecy::ExposeSecret;
use serde::Serialize;

/// Most characters of a VMA's own words that are kept.
const MAX_DETAIL: usize = 2000;

/// The HTTP client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No TLS provider is installed in this process, which the program has to do first.
    #[error("no TLS provider is installed: install one at the start of the program")]
    NoTlsProvider,
    /// The HTTP library refused its settings.
    #[error("the HTTP client could not be made")]
    Build(#[source] reqwest::Error),
}

/// Makes calls.
pub(crate) struct Transport {
    connect: Duration,
    plain: Client,
    /// Made at its first use: it loads the system's certificates, which takes time and may fail where there are none.
    secure: OnceLock<Client>,
}

/// One call.
pub(crate) struct Call<'a> {
    /// Below the node's base URL.
    pub(crate) path: &'a [&'a str],
    /// Query parameters.
    pub(crate) query: &'a [(&'a str, &'a str)],
    /// A JSON body makes it a POST.
    pub(crate) body: Option<Vec<u8>>,
    /// POST without a body.
    pub(crate) post: bool,
    /// Whether the node's token is shown.
    pub(crate) with_token: bool,
    /// From connect to the last byte.
    pub(crate) deadline: Duration,
    /// Largest answer in bytes.
    pub(crate) limit: usize,
}

impl Transport {
    /// Needs a TLS provider to be installed in the process.
    pub(crate) fn new(connect: Duration) -> Result<Self, ClientError> {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            return Err(ClientError::NoTlsProvider);
        }
        let plain = builder(connect).tls_certs_only([]).build().map_err(ClientError::Build)?;
        Ok(Self { connect, plain, secure: OnceLock::new() })
    }

    /// Makes a call and returns the body of its success.
    pub(crate) async fn call(
        &self,
        node: &VmaNode,
        call: Call<'_>,
    ) -> Result<Vec<u8>, SourceError> {
        let deadline = call.deadline;
        tokio::time::timeout(deadline, self.exchange(node, call)).await.unwrap_or_else(|_| {
            Err(unreachable(node, format!("no complete answer within {deadline:?}")))
        })
    }

    async fn exchange(&self, node: &VmaNode, call: Call<'_>) -> Result<Vec<u8>, SourceError> {
        let url = address(node, &call)?;
        let client = self.client(node, &url)?;
        let method = if call.post || call.body.is_some() { Method::POST } else { Method::GET };
        let mut request = client.request(method, url);
        if call.with_token {
            request = request.header(AUTHORIZATION, bearer(node)?);
        }
        if let Some(body) = call.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        let response = request.send().await.map_err(|error| lost(node, error))?;
        let status = response.status();
        if status.is_success() {
            return body(node, response, call.limit).await;
        }
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(SourceError::TokenRefused { url: node.url.clone() });
        }
        if status.is_redirection() {
            return Err(garbled(node, "it redirects, which the hub does not follow"));
        }
        let body = body(node, response, call.limit).await?;
        Err(refusal(node, status, &body))
    }

    fn client(&self, node: &VmaNode, url: &Url) -> Result<&Client, SourceError> {
        if url.scheme() == "http" {
            return Ok(&self.plain);
        }
        if let Some(client) = self.secure.get() {
            return Ok(client);
        }
        let client = builder(self.connect).build().map_err(|error| {
            unreachable(node, format!("no TLS client could be made: {}", innermost(&error)))
        })?;
        Ok(self.secure.get_or_init(|| client))
    }
}

/// The bytes of a JSON body.
pub(crate) fn json<T: Serialize>(node: &VmaNode, value: &T) -> Result<Vec<u8>, SourceError> {
    serde_json::to_vec(value).map_err(|_| garbled(node, "the request could not be written as JSON"))
}

/// An answer that breaks the contract.
pub(crate) fn garbled(node: &VmaNode, detail: impl Into<String>) -> SourceError {
    SourceError::Garbled { url: node.url.clone(), detail: shortened(&detail.into()) }
}

/// What a JSON error says, without the values in it: they may be anything, a secret included.
pub(crate) fn json_error(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Io => "it cannot be read",
        serde_json::error::Category::Syntax => "it is not JSON",
        serde_json::error::Category::Data => "a field is missing or of the wrong type",
        serde_json::error::Category::Eof => "it ends too early",
    };
    format!("{what} (line {}, column {})", error.line(), error.column())
}

/// Cuts a text of somebody else's to what is kept.
pub(crate) fn shortened(text: &str) -> String {
    text.chars().filter(|it| *it != '\0').take(MAX_DETAIL).collect()
}

fn builder(connect: Duration) -> reqwest::ClientBuilder {
    Client::builder()
        .user_agent(concat!("sendense-hub/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(connect)
        // Shorter than a VMA keeps an idle connection (5 s), or a request could meet its end.
        .pool_idle_timeout(Duration::from_secs(3))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .http1_only()
}

fn address(node: &VmaNode, call: &Call<'_>) -> Result<Url, SourceError> {
    let bad = || unreachable(node, "its address is not an http or https URL".to_owned());
    let mut url = Url::parse(&node.url).map_err(|_| bad())?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(bad());
    }
    url.set_query(None);
    url.set_fragment(None);
    url.path_segments_mut().map_err(|()| bad())?.pop_if_empty().extend(call.path);
    if !call.query.is_empty() {
        url.query_pairs_mut().extend_pairs(call.query);
    }
    Ok(url)
}

fn bearer(node: &VmaNode) -> Result<HeaderValue, SourceError> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", node.token.expose_secret()))
        .map_err(|_| SourceError::TokenRefused { url: node.url.clone() })?;
    value.set_sensitive(true);
    Ok(value)
}

async fn body(
    node: &VmaNode,
    mut response: Response,
    limit: usize,
) -> Result<Vec<u8>, SourceError> {
    let too_long = || garbled(node, format!("its answer is longer than {limit} bytes"));
    let announced = response.content_length().unwrap_or(0);
    if usize::try_from(announced).map_or(true, |announced| announced > limit) {
        return Err(too_long());
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| lost(node, error))? {
        if body.len() + chunk.len() > limit {
            return Err(too_long());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn refusal(node: &VmaNode, status: StatusCode, body: &[u8]) -> SourceError {
    if let Ok(problem) = serde_json::from_slice::<Problem>(body) {
        let code = if is_code(&problem.code) { problem.code } else { "vma/refused".to_owned() };
        let detail = problem.detail.unwrap_or(problem.title);
        return SourceError::Refused(Fault::new(code, shortened(&detail)));
    }
    if matches!(
        status,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    ) {
        return unreachable(node, format!("something before it answers with status {status}"));
    }
    garbled(node, format!("status {status} without a problem that says why"))
}

/// Codes are stored and shown as links, so only plain ones are taken over.
fn is_code(code: &str) -> bool {
    !code.is_empty()
        && code.len() <= 100
        && code
            .bytes()
            .all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || b"/-".contains(&it))
}

fn lost(node: &VmaNode, error: reqwest::Error) -> SourceError {
    let error = error.without_url();
    if is_cut_off(&error) {
        return unreachable(node, "the connection ended before the answer was complete".to_owned());
    }
    if error.is_decode() || is_parse_error(&error) {
        return garbled(node, "it does not speak HTTP as it should");
    }
    if error.is_timeout() {
        return unreachable(node, "no connection in time".to_owned());
    }
    unreachable(node, innermost(&error))
}

/// A node that dies while it answers is down; it has not broken the contract.
fn is_cut_off(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(cause) = next {
        let kind = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        if matches!(kind, Some(ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset)) {
            return true;
        }
        next = cause.source();
    }
    false
}

fn is_parse_error(error: &(dyn Error + 'static)) -> bool {
    let text = innermost(error);
    text.starts_with("invalid HTTP") || text.contains("invalid URI")
}

fn unreachable(node: &VmaNode, detail: String) -> SourceError {
    SourceError::Unreachable { url: node.url.clone(), detail: shortened(&detail) }
}

fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}
