//! One HTTP exchange: a deadline over all of it, a bound on the answer, and errors without secrets.

use std::error::Error;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{COOKIE, HeaderMap, HeaderValue, RANGE, SET_COOKIE};
use reqwest::{Client, Method, Response, StatusCode, Url};

use crate::endpoint::Endpoint;
use crate::error::VsphereError;
use crate::trust::{Refused, Trust};

/// The name of the session's cookie.
const COOKIE_NAME: &str = "vmware_soap_session=";

/// Sends and receives.
#[derive(Clone)]
pub(crate) struct Transport {
    endpoint: Endpoint,
    client: Client,
}

/// What is sent.
pub(crate) struct Exchange<'a> {
    /// For errors.
    pub(crate) method: &'static str,
    /// Where to.
    pub(crate) url: Url,
    /// The session.
    pub(crate) cookie: Option<HeaderValue>,
    /// What.
    pub(crate) content: Content<'a>,
    /// From connect to the last byte.
    pub(crate) deadline: Duration,
    /// Largest answer in bytes.
    pub(crate) limit: usize,
}

/// The body of an [`Exchange`], or what it asks for.
pub(crate) enum Content<'a> {
    /// A SOAP message with its action.
    Message { envelope: String, action: &'a str },
    /// Bytes of a file, first and last.
    Range(u64, u64),
    /// The length of a file.
    Head,
}

/// What came back, whatever its status.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The session that the server opened.
    pub(crate) fn session(&self) -> Option<HeaderValue> {
        let cookies = self.headers.get_all(SET_COOKIE).iter();
        let mut texts = cookies.filter_map(|it| it.to_str().ok());
        let cookie = texts.find(|it| it.starts_with(COOKIE_NAME))?;
        let pair = cookie.split(';').next().unwrap_or(cookie);
        let mut value = HeaderValue::from_str(pair).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl Transport {
    /// A client that believes whom it is told to.
    pub(crate) fn new(
        endpoint: Endpoint,
        trust: &Trust,
        connect: Duration,
    ) -> Result<Self, VsphereError> {
        let tls = trust.config().map_err(|error| VsphereError::Setup(error.to_string()))?;
        let client = Client::builder()
            .user_agent(concat!("sendense-hub/", env!("CARGO_PKG_VERSION")))
            .tls_backend_preconfigured(tls)
            .connect_timeout(connect)
            .pool_idle_timeout(Duration::from_secs(20))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .http1_only()
            .build();
        let client = client.map_err(|error| VsphereError::Setup(innermost(&error)))?;
        Ok(Self { endpoint, client })
    }

    /// Where it sends to.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// One exchange.
    pub(crate) async fn exchange(&self, it: Exchange<'_>) -> Result<Answer, VsphereError> {
        let (method, after) = (it.method, it.deadline);
        let done = tokio::time::timeout(after, self.send(it)).await;
        done.unwrap_or(Err(VsphereError::TimedOut { method, after }))
    }

    async fn send(&self, it: Exchange<'_>) -> Result<Answer, VsphereError> {
        let request = match it.content {
            Content::Message { envelope, action } => self
                .client
                .request(Method::POST, it.url)
                .header("Content-Type", "text/xml; charset=utf-8")
                .header("SOAPAction", format!("\"{action}\""))
                .body(envelope),
            Content::Range(first, last) => self
                .client
                .request(Method::GET, it.url)
                .header(RANGE, format!("bytes={first}-{last}")),
            Content::Head => self.client.request(Method::HEAD, it.url),
        };
        let request = match it.cookie {
            Some(cookie) => request.header(COOKIE, cookie),
            None => request,
        };
        let response = request.send().await.map_err(|error| self.lost(error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = self.body(it.method, response, it.limit).await?;
        Ok(Answer { status, headers, body })
    }

    async fn body(
        &self,
        method: &'static str,
        mut response: Response,
        limit: usize,
    ) -> Result<Bytes, VsphereError> {
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.lost(error))? {
            if body.len() + chunk.len() > limit {
                let detail = format!("the answer is longer than {limit} bytes");
                return Err(VsphereError::Garbled { method, detail });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    fn lost(&self, error: reqwest::Error) -> VsphereError {
        let (endpoint, error) = (self.endpoint.authority(), error.without_url());
        if let Some(Refused { seen, detail }) = refused(&error) {
            let (seen, detail) = (seen.clone(), detail.clone());
            return VsphereError::Untrusted { endpoint, detail, seen };
        }
        let detail =
            if error.is_timeout() { "no connection in time".to_owned() } else { innermost(&error) };
        VsphereError::Unreachable { endpoint, detail }
    }
}

/// The refusal of a certificate, which lies below several libraries' errors.
fn refused<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Refused> {
    let mut next = Some(error);
    while let Some(cause) = next {
        let wrapped = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls = wrapped
            .and_then(|it| it.downcast_ref::<rustls::Error>())
            .or_else(|| cause.downcast_ref::<rustls::Error>());
        if let Some(rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other))) = tls
        {
            return other.0.downcast_ref();
        }
        // An I/O error says that its source is the source of what it wraps.
        next = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => cause.source(),
        };
    }
    None
}

fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}
