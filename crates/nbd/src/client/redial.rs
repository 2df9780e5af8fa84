//! A client that outlives its connections: what was in flight when they were lost is sent again over new ones.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hub_block::{BlockDevice, BlockError, Extent};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

use super::device::NbdClient;
use super::endpoint::{ClientOptions, Endpoint};
use super::handshake::{Agreed, ConnectError};
use crate::codec::info::flags;

/// How long, and how often, a lost server is dialled again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedialOptions {
    /// How long nothing may have succeeded, from the moment a loss is noticed, until the server is given up.
    pub patience: Duration,
    /// The first pause between two attempts; each later one is twice as long, and all are shortened at random.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
}

impl Default for RedialOptions {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(60),
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(5),
        }
    }
}

/// What lost connections have cost; read at any time.
#[derive(Debug, Default)]
pub struct RedialCounts {
    redials: AtomicU64,
    bytes_again: AtomicU64,
}

impl RedialCounts {
    /// How often the connections were lost and made again.
    pub fn redials(&self) -> u64 {
        self.redials.load(Ordering::Relaxed)
    }

    /// Bytes of data that were sent once more because nobody had said that they arrived.
    pub fn bytes_again(&self) -> u64 {
        self.bytes_again.load(Ordering::Relaxed)
    }
}

/// Why a server is not dialled any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GivenUp {
    /// The server answers and does not have the export any more, or has another one under its name.
    #[error("{peer} does not offer the export any more")]
    Gone {
        /// The server.
        peer: String,
    },
    /// Nothing succeeded for as long as patience lasted.
    #[error("{loss}, and nothing succeeded for {patience:?} after that; at last: {last}")]
    Lost {
        /// How it began; names the server.
        loss: String,
        /// The last thing that went wrong.
        last: String,
        /// How long was waited.
        patience: Duration,
    },
    /// The server does not promise that a flush on one connection covers writes on another.
    #[error(
        "{loss}; it cannot be dialled again, since the server makes no promise across connections"
    )]
    NoPromise {
        /// How it was lost; names the server.
        loss: String,
    },
}

/// An [`NbdClient`] that dials again when its connections break or fall silent, and sends again only what was in
/// flight and unanswered; what the server has acknowledged is not sent twice.
///
/// **A name is one instance**: the server must never offer other content under the same name, because writes that one
/// instance acknowledged and did not flush are not in the next. An unguessable name that dies with its process is such
/// a name. An export that is gone, or shows another size, is not dialled again.
/// **Twice is once**: a request that is sent again may meet its first copy, still at work at the server. Both carry
/// the same bytes; the caller must not change a range again before its last change has returned.
/// **Flush**: covers acknowledged writes of earlier connections, which the server has to promise by allowing several
/// connections; one that does not is given up at the first loss, unless the export is read-only.
/// After [`GivenUp`] every call fails as [`BlockError::Disconnected`] with its text.
pub struct RedialingClient {
    endpoint: Endpoint,
    export: String,
    options: ClientOptions,
    redial: RedialOptions,
    agreed: Agreed,
    current: Mutex<Current>,
    /// Held by the one that dials; the others wait for what it brings.
    dialling: tokio::sync::Mutex<()>,
    counts: Arc<RedialCounts>,
}

struct Current {
    client: Option<Arc<NbdClient>>,
    /// Counts the clients there have been.
    number: u64,
    /// The first loss since anything succeeded, and when it was noticed.
    lost: Option<(Instant, String)>,
    given_up: Option<GivenUp>,
}

impl RedialingClient {
    /// Connects for the first time, which is tried once; counts what losses will cost in `counts`.
    pub async fn connect(
        endpoint: &Endpoint,
        export: &str,
        options: ClientOptions,
        redial: RedialOptions,
        counts: Arc<RedialCounts>,
    ) -> Result<Self, ConnectError> {
        let client = NbdClient::connect(endpoint, export, options.clone()).await?;
        Ok(Self {
            endpoint: endpoint.clone(),
            export: export.to_owned(),
            options,
            redial,
            agreed: client.agreed.clone(),
            current: Mutex::new(Current {
                client: Some(Arc::new(client)),
                number: 0,
                lost: None,
                given_up: None,
            }),
            dialling: tokio::sync::Mutex::default(),
            counts,
        })
    }

    /// Why the server was given up, if it was.
    pub fn given_up(&self) -> Option<GivenUp> {
        self.current.lock().given_up.clone()
    }

    /// Says goodbye on the connections there are; see [`NbdClient::close`].
    pub async fn close(self) {
        let client = self.current.into_inner().client;
        if let Some(client) = client.and_then(Arc::into_inner) {
            client.close().await;
        }
    }

    /// Runs a request to its end, whatever happens to connections; `payload` is what it sends.
    async fn steadily<T, F>(
        &self,
        payload: u64,
        request: impl Fn(Arc<NbdClient>) -> F,
    ) -> Result<T, BlockError>
    where
        F: Future<Output = Result<T, BlockError>>,
    {
        loop {
            let (number, client) = self.client()?;
            let Some(client) = client else {
                // Somebody dials already, or was dropped while dialling.
                self.redial(number, None).await?;
                continue;
            };
            match request(client).await {
                Err(error @ (BlockError::Disconnected(_) | BlockError::TimedOut(_))) => {
                    self.redial(number, Some(told(&error, &self.endpoint))).await?;
                    self.counts.bytes_again.fetch_add(payload, Ordering::Relaxed);
                }
                answered => {
                    self.current.lock().answered(number);
                    return answered;
                }
            }
        }
    }

    /// The present client; nothing while one is being made.
    fn client(&self) -> Result<(u64, Option<Arc<NbdClient>>), BlockError> {
        let current = self.current.lock();
        match &current.given_up {
            Some(reason) => Err(BlockError::Disconnected(reason.to_string())),
            None => Ok((current.number, current.client.clone())),
        }
    }

    /// Replaces the client with this number, unless somebody has done so already.
    async fn redial(&self, number: u64, reason: Option<String>) -> Result<(), BlockError> {
        let _turn = self.dialling.lock().await;
        let (since, loss) = {
            let mut current = self.current.lock();
            if let Some(given_up) = &current.given_up {
                return Err(BlockError::Disconnected(given_up.to_string()));
            }
            if current.number != number {
                return Ok(());
            }
            // Requests that are still on it fail by themselves; its connections close with the last of them.
            current.client = None;
            let loss = reason.clone().unwrap_or_else(|| format!("{}: lost", self.endpoint));
            current.lost.get_or_insert_with(|| (Instant::now(), loss)).clone()
        };
        if !self.covers_all_connections() {
            return Err(self.give_up(GivenUp::NoPromise { loss }));
        }
        let reason = reason.unwrap_or_else(|| loss.clone());
        tracing::warn!(peer = %self.endpoint, reason, "an NBD server was lost and is dialled again");
        match self.dial(since, &loss, reason).await {
            Ok(client) => {
                let mut current = self.current.lock();
                current.client = Some(Arc::new(client));
                current.number += 1;
                drop(current);
                let redials = self.counts.redials.fetch_add(1, Ordering::Relaxed) + 1;
                tracing::info!(peer = %self.endpoint, redials, "an NBD server answers again");
                Ok(())
            }
            Err(given_up) => Err(self.give_up(given_up)),
        }
    }

    /// Dials until the same export answers or patience is at its end.
    async fn dial(&self, since: Instant, loss: &str, reason: String) -> Result<NbdClient, GivenUp> {
        let deadline = since + self.redial.patience;
        let mut last = reason;
        let mut pause = self.redial.first_pause;
        while Instant::now() < deadline {
            let dialled = NbdClient::connect(&self.endpoint, &self.export, self.options.clone());
            match timeout_at(deadline, dialled).await {
                Ok(Ok(client)) if client.agreed == self.agreed => return Ok(client),
                Ok(Ok(_) | Err(ConnectError::UnknownExport { .. })) => {
                    return Err(GivenUp::Gone { peer: self.endpoint.to_string() });
                }
                Ok(Err(error)) => last = with_causes(&error),
                Err(_) => break,
            }
            let pause_now = pause.mul_f64(rand::random_range(0.5..1.0));
            tokio::time::sleep_until(deadline.min(Instant::now() + pause_now)).await;
            pause = (pause * 2).min(self.redial.longest_pause);
        }
        let (loss, patience) = (loss.to_owned(), self.redial.patience);
        Err(GivenUp::Lost { loss, last, patience })
    }

    fn covers_all_connections(&self) -> bool {
        self.agreed.flags & (flags::CAN_MULTI_CONN | flags::READ_ONLY) != 0
    }

    fn give_up(&self, reason: GivenUp) -> BlockError {
        let error = BlockError::Disconnected(reason.to_string());
        self.current.lock().given_up = Some(reason);
        error
    }
}

impl Current {
    /// Something succeeded, or was refused by a server that lives: patience begins anew.
    fn answered(&mut self, number: u64) {
        if self.number == number && self.client.is_some() {
            self.lost = None;
        }
    }
}

/// The error in one line that names the server.
fn told(error: &BlockError, peer: &Endpoint) -> String {
    if let BlockError::Disconnected(reason) = error {
        return reason.clone();
    }
    format!("{peer}: {error}")
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

#[async_trait]
impl BlockDevice for RedialingClient {
    fn size(&self) -> u64 {
        self.agreed.size
    }

    fn read_only(&self) -> bool {
        self.agreed.flags & flags::READ_ONLY != 0
    }

    async fn read_at(&self, offset: u64, len: u32) -> Result<Bytes, BlockError> {
        self.steadily(0, |client| async move { client.read_at(offset, len).await }).await
    }

    async fn write_at(&self, offset: u64, data: Bytes) -> Result<(), BlockError> {
        let len = data.len() as u64;
        let request = |client: Arc<NbdClient>| {
            let data = data.clone();
            async move { client.write_at(offset, data).await }
        };
        self.steadily(len, request).await
    }

    async fn write_zeroes(&self, offset: u64, len: u64) -> Result<(), BlockError> {
        self.steadily(0, |client| async move { client.write_zeroes(offset, len).await }).await
    }

    async fn extents(&self, offset: u64, len: u64) -> Result<Vec<Extent>, BlockError> {
        self.steadily(0, |client| async move { client.extents(offset, len).await }).await
    }

    async fn flush(&self) -> Result<(), BlockError> {
        self.steadily(0, |client| async move { client.flush().await }).await
    }
}

impl fmt::Debug for RedialingClient {
    /// Names the server; the export's name is a capability.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("RedialingClient")
            .field("peer", &self.endpoint.to_string())
            .field("size", &self.agreed.size)
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}
