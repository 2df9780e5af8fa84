//! A network in the middle that breaks in the ways networks do: it cuts, half-closes and swallows.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use hub_nbd::Endpoint;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What happens to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Both ends see the connection end.
    Cut,
    /// The server sees the client's end; what the server says still arrives.
    HalfClose,
    /// Nothing moves any more, and nobody is told.
    Swallow,
}

/// A proxy in front of a server; dropping it cuts everything.
pub(crate) struct Proxy {
    pub(crate) addr: SocketAddr,
    plan: Arc<Plan>,
    _tasks: JoinSet<()>,
}

struct Plan {
    /// Faults to come, each after so many more bytes from clients.
    faults: Mutex<Vec<(u64, Fault)>>,
    happened: Mutex<Vec<Fault>>,
    /// While this is set, no byte moves on any connection, new ones included.
    black_hole: watch::Sender<bool>,
}

impl Proxy {
    /// Passes everything on to `server` until the first of the faults.
    pub(crate) async fn start(server: SocketAddr, mut faults: Vec<(u64, Fault)>) -> Result<Self> {
        faults.reverse();
        let plan = Arc::new(Plan {
            faults: Mutex::new(faults),
            happened: Mutex::default(),
            black_hole: watch::Sender::new(false),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let mut tasks = JoinSet::new();
        let shared = plan.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let plan = shared.clone();
                connections.spawn(async move {
                    // Whatever ends a connection here is what the test is about.
                    drop(carry(client, server, &plan).await);
                });
            }
        });
        Ok(Self { addr, plan, _tasks: tasks })
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::Tcp { host: self.addr.ip().to_string(), port: self.addr.port() }
    }

    /// The faults that have happened.
    pub(crate) fn happened(&self) -> Vec<Fault> {
        self.plan.happened.lock().clone()
    }

    /// From now on nothing moves and nobody is told, or everything moves again.
    pub(crate) fn set_black_hole(&self, swallow: bool) {
        self.plan.black_hole.send_replace(swallow);
    }
}

impl Plan {
    /// The fault that is due after `len` more bytes from clients.
    fn due(&self, len: u64) -> Option<Fault> {
        let mut faults = self.faults.lock();
        let (left, fault) = faults.last_mut()?;
        *left = left.saturating_sub(len);
        if *left > 0 {
            return None;
        }
        let fault = *fault;
        faults.pop();
        self.happened.lock().push(fault);
        Some(fault)
    }
}

async fn carry(client: TcpStream, server: SocketAddr, plan: &Plan) -> Result<()> {
    let server = TcpStream::connect(server).await?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let upwards = upwards(&mut from_client, &mut to_server, plan);
    let downwards = pump(&mut from_server, &mut to_client, plan);
    tokio::select! {
        ended = upwards => ended,
        ended = downwards => ended,
    }
}

async fn upwards(
    client: &mut (impl AsyncRead + Unpin),
    server: &mut (impl AsyncWrite + Unpin),
    plan: &Plan,
) -> Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let len = client.read(&mut buffer).await?;
        if len == 0 {
            server.shutdown().await?;
            return std::future::pending().await;
        }
        pass(plan).await?;
        match plan.due(len as u64) {
            // Half of what was read still goes through: cuts fall into the middle of requests.
            Some(fault) => {
                server.write_all(&buffer[..len / 2]).await?;
                match fault {
                    Fault::Cut => return Ok(()),
                    Fault::HalfClose => server.shutdown().await?,
                    Fault::Swallow => (),
                }
                return std::future::pending().await;
            }
            None => server.write_all(&buffer[..len]).await?,
        }
    }
}

async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    plan: &Plan,
) -> Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let len = from.read(&mut buffer).await?;
        if len == 0 {
            return Ok(());
        }
        pass(plan).await?;
        to.write_all(&buffer[..len]).await?;
    }
}

/// Waits while everything is swallowed.
async fn pass(plan: &Plan) -> Result<()> {
    plan.black_hole.subscribe().wait_for(|swallow| !swallow).await?;
    Ok(())
}
