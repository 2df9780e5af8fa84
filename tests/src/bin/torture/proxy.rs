//! A TCP proxy that cuts, stalls or delays what passes through it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What happens to the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// After so many bytes in either direction, all connections are reset.
    Reset(u64),
    /// After so many bytes nothing passes for this long; then it goes on.
    Stall(u64, Duration),
    /// After so many bytes every connection is closed in order, in the middle of whatever it carries.
    Close(u64),
}

/// A proxy in front of one address; dropping it cuts everything.
pub(crate) struct Proxy {
    passed: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Listens and passes on; the fault comes once, over all connections together.
    pub(crate) async fn start(
        listen: SocketAddr,
        target: SocketAddr,
        fault: Fault,
    ) -> Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let passed = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, target, fault, passed.clone()));
        Ok(Self { passed, _tasks: tasks })
    }

    /// Bytes that have passed so far.
    pub(crate) fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, fault: Fault, passed: Arc<AtomicU64>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let Ok(server) = TcpStream::connect(target).await else { continue };
        for socket in [&client, &server] {
            // A reset and not an end in order, where the fault says so; small messages are not held back.
            drop(socket.set_nodelay(true));
            if matches!(fault, Fault::Reset(_)) {
                drop(socket.set_zero_linger());
            }
        }
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let (there, back) = (passed.clone(), passed.clone());
        connections.spawn(async move {
            tokio::select! {
                () = pass(from_client, to_server, fault, there) => (),
                () = pass(from_server, to_client, fault, back) => (),
            }
        });
    }
}

/// Passes bytes on until the fault comes or a side ends.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    fault: Fault,
    passed: Arc<AtomicU64>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count) = from.read(&mut buffer).await {
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { return };
        let len = u64::try_from(count).unwrap_or(0);
        let before = passed.fetch_add(len, Ordering::Relaxed);
        let due = |at: u64| (before..before + len).contains(&at);
        match fault {
            Fault::Reset(at) | Fault::Close(at) if due(at) => return,
            Fault::Stall(at, time) if due(at) => tokio::time::sleep(time).await,
            Fault::Reset(_) | Fault::Close(_) | Fault::Stall(..) => (),
        }
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}
