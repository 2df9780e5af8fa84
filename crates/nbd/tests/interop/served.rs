//! A server on a free port, and devices to put behind it.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use async_trait::async_trait;
use bytes::Bytes;
use hub_block::{BlockDevice, BlockError, Extent, MemoryDevice};
use hub_nbd::{ClientOptions, Endpoint, Export, ExportHandle, Exports, NbdClient};
use hub_nbd::{Server, ServerOptions, ServerSecurity};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A running server; dropping it ends it.
pub(crate) struct Served {
    pub(crate) addr: SocketAddr,
    pub(crate) exports: Exports,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Served {
    pub(crate) async fn start(options: ServerOptions) -> Result<Self> {
        Self::secured(options, ServerSecurity::Plain).await
    }

    pub(crate) async fn secured(options: ServerOptions, security: ServerSecurity) -> Result<Self> {
        Self::listening(([127, 0, 0, 1], 0).into(), options, security).await
    }

    pub(crate) async fn listening(
        on: SocketAddr,
        options: ServerOptions,
        security: ServerSecurity,
    ) -> Result<Self> {
        let exports = Exports::new();
        let server = Server::bind(on, exports.clone(), options).await?.secured(security);
        let (addr, stop) = (server.local_addr(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(server.run(stop.clone()));
        Ok(Self { addr, exports, stop, tasks })
    }

    pub(crate) fn offer(&self, name: &str, device: Arc<dyn BlockDevice>) -> Result<ExportHandle> {
        self.offer_to(name, device, 8)
    }

    pub(crate) fn offer_to(
        &self,
        name: &str,
        device: Arc<dyn BlockDevice>,
        max_connections: usize,
    ) -> Result<ExportHandle> {
        let export = Export { device, description: "a disk".to_owned(), max_connections };
        Ok(self.exports.add(name.to_owned(), export)?)
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::Tcp { host: self.addr.ip().to_string(), port: self.addr.port() }
    }

    pub(crate) fn uri(&self, name: &str) -> String {
        format!("nbd://{}/{name}", self.addr)
    }

    pub(crate) async fn client(&self, name: &str) -> Result<NbdClient> {
        Ok(NbdClient::connect(&self.endpoint(), name, ClientOptions::default()).await?)
    }

    /// Stops the server and waits until it is gone.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.stop.cancel();
        let ended = within("the server to stop", self.tasks.join_next()).await?;
        Ok(ended.context("no server")??)
    }
}

/// Waits for something that must happen, with a deadline that only a bug reaches.
pub(crate) async fn within<F: Future>(what: &str, work: F) -> Result<F::Output> {
    let waited = tokio::time::timeout(Duration::from_secs(60), work).await;
    waited.with_context(|| format!("waited too long for {what}"))
}

/// Polls until a condition holds, with the same deadline.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) -> Result<()> {
    within(what, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

/// Bytes that tell their place: a function of the offset that does not repeat soon.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_u32;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[1]
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// A zeroed device in memory.
pub(crate) fn memory(len: usize) -> Arc<MemoryDevice> {
    Arc::new(MemoryDevice::new(vec![0; len]))
}

/// A device whose calls wait until the test lets them pass.
pub(crate) struct Gated {
    pub(crate) inner: Arc<MemoryDevice>,
    pub(crate) gate: Semaphore,
    pub(crate) waiting: Semaphore,
}

impl Gated {
    pub(crate) fn new(len: usize) -> Arc<Self> {
        let (gate, waiting) = (Semaphore::new(0), Semaphore::new(0));
        Arc::new(Self { inner: memory(len), gate, waiting })
    }

    /// Returns when another call has arrived at the gate.
    pub(crate) async fn arrival(&self) -> Result<()> {
        within("a request to arrive", self.waiting.acquire()).await??.forget();
        Ok(())
    }

    async fn pass(&self) -> Result<(), BlockError> {
        self.waiting.add_permits(1);
        let passed = self.gate.acquire().await;
        passed.map_err(|_| BlockError::Unsupported("the gate is closed".to_owned()))?.forget();
        Ok(())
    }
}

#[async_trait]
impl BlockDevice for Gated {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn read_only(&self) -> bool {
        false
    }

    async fn read_at(&self, offset: u64, len: u32) -> Result<Bytes, BlockError> {
        self.pass().await?;
        self.inner.read_at(offset, len).await
    }

    async fn write_at(&self, offset: u64, data: Bytes) -> Result<(), BlockError> {
        self.pass().await?;
        self.inner.write_at(offset, data).await
    }

    async fn write_zeroes(&self, offset: u64, len: u64) -> Result<(), BlockError> {
        self.pass().await?;
        self.inner.write_zeroes(offset, len).await
    }

    async fn extents(&self, offset: u64, len: u64) -> Result<Vec<Extent>, BlockError> {
        self.inner.extents(offset, len).await
    }

    async fn flush(&self) -> Result<(), BlockError> {
        self.pass().await
    }
}
