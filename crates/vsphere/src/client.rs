//! A session with a server: opened, used, renewed when it ends, closed.

mod login;

use std::fmt;
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::StatusCode;
use reqwest::header::HeaderValue;
use roxmltree::Node;

use crate::about::{About, ServiceContent};
use crate::endpoint::{Endpoint, Login};
use crate::error::VsphereError;
use crate::fault::MethodFault;
use crate::soap::{self, ACTION, NoResult, Request};
use crate::transport::{Answer, Content, Exchange, Transport};
use crate::trust::Trust;

/// How long things may take, and how large they may be.
#[derive(Clone, Copy, Debug)]
pub struct ClientOptions {
    /// To connect.
    pub connect: Duration,
    /// For one call, from connect to the last byte.
    pub call: Duration,
    /// For a task, such as the removal of a snapshot.
    pub task: Duration,
    /// For all answers about the changes of one disk; then it is read as a whole.
    pub areas: Duration,
    /// How often a read is sent at most.
    pub attempts: u32,
    /// Before the second attempt; doubled before each further one.
    pub backoff: Duration,
    /// VMs in one page.
    pub page: usize,
    /// Largest answer in bytes.
    pub answer_limit: usize,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            call: Duration::from_secs(120),
            task: Duration::from_secs(4 * 60 * 60),
            areas: Duration::from_secs(10 * 60),
            attempts: 4,
            backoff: Duration::from_millis(250),
            page: 100,
            answer_limit: 64 << 20,
        }
    }
}

/// A session with a vCenter or ESXi host.
///
/// Concurrency: any number of calls at once.
/// Cancellation: dropping a call ends its connection; what the server has begun, it goes on with.
pub struct Client {
    transport: Transport,
    login: Login,
    options: ClientOptions,
    content: ServiceContent,
    session: Mutex<Session>,
    renewing: tokio::sync::Mutex<()>,
}

/// The cookie, how often there was a new one, and whether the account is refused by now.
#[derive(Clone, Default)]
struct Session {
    cookie: Option<HeaderValue>,
    generation: u64,
    refused: bool,
}

impl fmt::Debug for Client {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Client")
            .field("endpoint", self.transport.endpoint())
            .field("username", &self.login.username)
            .field("about", &self.content.about)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Logs in.
    pub async fn connect(
        endpoint: Endpoint,
        trust: &Trust,
        login: Login,
        options: ClientOptions,
    ) -> Result<Self, VsphereError> {
        let transport = Transport::new(endpoint, trust, options.connect)?;
        let content = login::content(&transport, None, &options).await?;
        let client = Self {
            transport,
            login,
            options,
            content,
            session: Mutex::default(),
            renewing: tokio::sync::Mutex::default(),
        };
        client.log_in().await?;
        Ok(client)
    }

    /// What the server says of itself.
    pub fn about(&self) -> &About {
        &self.content.about
    }

    /// Where the server is.
    pub fn endpoint(&self) -> &Endpoint {
        self.transport.endpoint()
    }

    /// The account behind the session, for a program that has to log in by itself.
    pub fn login(&self) -> &Login {
        &self.login
    }

    /// Uses the session, so that the server does not end it for idleness; renews it where it has ended.
    pub async fn keep_alive(&self) -> Result<(), VsphereError> {
        let manager = self.content.session_manager.clone();
        self.properties(&manager.kind, std::slice::from_ref(&manager), &["currentSession"], |_| {
            Ok(())
        })
        .await
        .map(drop)
    }

    /// Ends the session; it ends by itself after a while where this is not called.
    pub async fn log_out(&self) -> Result<(), VsphereError> {
        let cookie = self.session.lock().cookie.take();
        match cookie {
            Some(cookie) => self.end(cookie).await,
            None => Ok(()),
        }
    }

    pub(crate) fn content(&self) -> &ServiceContent {
        &self.content
    }

    pub(crate) fn error_of(&self, method: &'static str, fault: MethodFault) -> VsphereError {
        typed(&self.transport, method, fault)
    }

    pub(crate) fn options(&self) -> &ClientOptions {
        &self.options
    }

    /// Calls a method and decodes its response.
    ///
    /// A read is sent again after a loss; a session that has ended is renewed, and then anything is sent again, because
    /// a server that does not know the caller has done nothing.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        request: &Request,
        decode: impl Fn(Node<'_, '_>) -> Result<T, NoResult> + Clone + Send + 'static,
    ) -> Result<T, VsphereError> {
        let mut attempt = 1;
        let mut renewed = false;
        loop {
            let Session { cookie, generation, .. } = self.session.lock().clone();
            let sent = exchange(&self.transport, request, cookie, &self.options).await;
            let done = match sent {
                Ok(answer) => read(&self.transport, request, answer, decode.clone()).await,
                Err(error) => Err(error),
            };
            let error = match done {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            if matches!(error, VsphereError::SessionLost(_)) && !renewed {
                renewed = true;
                self.renew(generation).await?;
                continue;
            }
            let again =
                request.repeatable && error.is_transient() && attempt < self.options.attempts;
            if !again {
                return Err(error);
            }
            tracing::debug!(method = request.method, error = %error, attempt, "a read is sent again");
            pause(&self.options, attempt).await;
            attempt += 1;
        }
    }

    /// Reads of datastore files go with the same session.
    pub(crate) async fn fetch(
        &self,
        method: &'static str,
        url: reqwest::Url,
        range: Option<(u64, u64)>,
        limit: usize,
    ) -> Result<Answer, VsphereError> {
        let mut attempt = 1;
        let mut renewed = false;
        loop {
            let Session { cookie, generation, .. } = self.session.lock().clone();
            let content = range.map_or(Content::Head, |(first, last)| Content::Range(first, last));
            let (url, deadline) = (url.clone(), self.options.call);
            let it = Exchange { method, url, cookie, content, deadline, limit };
            let sent = self.transport.exchange(it).await;
            let error = match sent {
                Ok(answer) if answer.status == StatusCode::UNAUTHORIZED => {
                    let endpoint = self.transport.endpoint().authority();
                    if renewed {
                        return Err(VsphereError::SessionLost(endpoint));
                    }
                    renewed = true;
                    self.renew(generation).await?;
                    continue;
                }
                Ok(answer) => match unavailable(&self.transport, answer.status) {
                    None => return Ok(answer),
                    Some(error) => error,
                },
                Err(error) => error,
            };
            if !error.is_transient() || attempt >= self.options.attempts {
                return Err(error);
            }
            pause(&self.options, attempt).await;
            attempt += 1;
        }
    }
}

/// Sends a SOAP message.
async fn exchange(
    transport: &Transport,
    request: &Request,
    cookie: Option<HeaderValue>,
    options: &ClientOptions,
) -> Result<Answer, VsphereError> {
    let content = Content::Message { envelope: request.envelope(), action: ACTION };
    let exchange = Exchange {
        method: request.method,
        url: transport.endpoint().url(&["sdk"]),
        cookie,
        content,
        deadline: options.call,
        limit: options.answer_limit,
    };
    transport.exchange(exchange).await
}

/// Decodes the answer to a SOAP message, or names what is wrong.
///
/// A long answer takes its time, which those who share this thread do not wait for.
async fn read<T: Send + 'static>(
    transport: &Transport,
    request: &Request,
    answer: Answer,
    decode: impl Fn(Node<'_, '_>) -> Result<T, NoResult> + Send + 'static,
) -> Result<T, VsphereError> {
    if let Some(error) = unavailable(transport, answer.status) {
        return Err(error);
    }
    let method = request.method;
    let garbled = |detail: String| VsphereError::Garbled { method, detail };
    // A fault comes with status 500 and a body.
    if answer.status != StatusCode::OK && answer.status != StatusCode::INTERNAL_SERVER_ERROR {
        return Err(garbled(format!("HTTP status {}", answer.status.as_u16())));
    }
    let decoded = tokio::task::spawn_blocking(move || {
        let xml = std::str::from_utf8(&answer.body);
        let xml = xml.map_err(|_| NoResult::garbled("it is not UTF-8"))?;
        soap::parse(xml).and_then(|document| decode(soap::response(&document, method)?))
    });
    match decoded.await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(NoResult::Garbled(detail))) => Err(garbled(detail)),
        Ok(Err(NoResult::Fault(fault))) => Err(typed(transport, method, fault)),
        Err(_) => Err(garbled("reading it has not ended".to_owned())),
    }
}

/// The faults that callers tell apart have errors of their own.
fn typed(transport: &Transport, method: &'static str, fault: MethodFault) -> VsphereError {
    match fault.kind.as_str() {
        "NotAuthenticated" => VsphereError::SessionLost(transport.endpoint().authority()),
        "NoPermission" => VsphereError::NotPermitted {
            privilege: fault.privilege.unwrap_or_else(|| "that it does not name".to_owned()),
            object: fault.object.unwrap_or_else(|| "an object".to_owned()),
        },
        "ManagedObjectNotFound" => {
            VsphereError::NotFound(fault.object.unwrap_or_else(|| "the object".to_owned()))
        }
        _ => VsphereError::Fault { method, fault: Box::new(fault) },
    }
}

/// Statuses of a server, or of what stands before it, that does not serve at the moment.
fn unavailable(transport: &Transport, status: StatusCode) -> Option<VsphereError> {
    let status = status.as_u16();
    let endpoint = transport.endpoint().authority();
    matches!(status, 429 | 502 | 503 | 504)
        .then_some(VsphereError::Unavailable { endpoint, status })
}

async fn pause(options: &ClientOptions, attempt: u32) {
    let doubled = options.backoff.saturating_mul(1 << attempt.saturating_sub(1).min(6));
    tokio::time::sleep(doubled).await;
}
