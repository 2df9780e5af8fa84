//! The listening port: accepts clients, bounds their number, and ends them all when told to.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use hub_block::BufferPool;
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::exports::Exports;
use super::options::ServerOptions;
use super::reception::receive;
use crate::errno::timed_out;
use crate::socket::prepare;
use crate::tls::ServerSecurity;

/// Payloads up to this size share one pool of buffers.
const POOLED_PAYLOAD: usize = 1 << 20;
/// Buffers kept for the next payload.
const POOLED_BUFFERS: usize = 16;
/// How long accepting rests after the system refused a connection, for example for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A peer that has said nothing for this long is asked whether it is there.
const PEER_SILENT: Duration = Duration::from_secs(30);
/// It is asked again after this time.
const PEER_ASKED_EVERY: Duration = Duration::from_secs(10);
/// So many questions without an answer end its connection.
const PEER_ASKED: u32 = 3;

/// An NBD server on one port.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    shared: Shared,
}

struct Shared {
    exports: Exports,
    options: ServerOptions,
    security: ServerSecurity,
    pool: BufferPool,
}

impl Server {
    /// Listens on an address; clients can connect from now on and are served once [`run`](Self::run) is polled.
    pub async fn bind(
        addr: SocketAddr,
        exports: Exports,
        options: ServerOptions,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let address = listener.local_addr()?;
        let options = options.bounded();
        let pool = BufferPool::new(POOLED_PAYLOAD, POOLED_BUFFERS);
        let shared = Shared { exports, options, security: ServerSecurity::default(), pool };
        Ok(Self { listener, address, shared })
    }

    /// Says which connections are encrypted; none are unless this is called.
    #[must_use]
    pub fn secured(mut self, security: ServerSecurity) -> Self {
        self.shared.security = security;
        self
    }

    /// The address that clients connect to, with the real port where 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is cancelled, then ends all sessions and returns when none is left.
    ///
    /// Requests in flight are finished within the drain timeout.
    /// Dropping the future instead aborts the sessions.
    pub async fn run(self, stop: CancellationToken) {
        let shared = Arc::new(self.shared);
        let mut sessions = JoinSet::new();
        let mut strangers = Strangers::default();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ended) = sessions.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "nbd session died");
                    }
                    if sessions.is_empty() {
                        shared.pool.release_idle();
                    }
                }
                accepted = self.listener.accept() => match accepted {
                    Ok((_, peer))
                        if sessions.len() >= shared.options.max_sessions
                            && !strangers.send_away_the_oldest() =>
                    {
                        tracing::warn!(%peer, "nbd connection closed, all sessions are in use");
                    }
                    Ok((stream, peer)) => {
                        let stranger = strangers.admit();
                        let (shared, stop) = (shared.clone(), stop.clone());
                        sessions.spawn(session(stream, peer, stranger, shared, stop));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "nbd connection not accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(self.listener);
        while sessions.join_next().await.is_some() {}
    }
}

/// Clients that have not chosen an export yet, the oldest first.
///
/// A handshake takes a few round trips, so that the oldest stranger is the least likely to know an export: silent
/// connections, which anybody can make, never keep away the clients that do.
#[derive(Default)]
struct Strangers {
    leave: VecDeque<Weak<CancellationToken>>,
}

impl Strangers {
    /// One more; a stranger is one as long as it holds what this returns, which tells it to leave.
    fn admit(&mut self) -> Arc<CancellationToken> {
        self.leave.retain(|it| it.strong_count() > 0);
        let leave = Arc::new(CancellationToken::new());
        self.leave.push_back(Arc::downgrade(&leave));
        leave
    }

    /// Makes room, if there is a stranger.
    fn send_away_the_oldest(&mut self) -> bool {
        let mut leave = std::iter::from_fn(|| self.leave.pop_front());
        let oldest = leave.find_map(|it| it.upgrade());
        oldest.inspect(|it| it.cancel()).is_some()
    }
}

async fn session(
    stream: TcpStream,
    peer: SocketAddr,
    stranger: Arc<CancellationToken>,
    shared: Arc<Shared>,
    stop: CancellationToken,
) {
    match converse(stream, peer, stranger, &shared, &stop).await {
        Ok(()) => tracing::debug!(%peer, "nbd session ended"),
        Err(error) => {
            let cause = std::error::Error::source(&*error).map(ToString::to_string);
            tracing::info!(%peer, %error, cause, "nbd session ended early");
        }
    }
}

/// Lets the system ask a silent peer whether it lives: one that vanished without a word keeps its place at an export
/// for a minute and not for as long as a session may be idle.
fn notice_a_dead_peer(stream: &TcpStream) -> io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, PEER_SILENT)?;
    sockopt::set_tcp_keepintvl(stream, PEER_ASKED_EVERY)?;
    sockopt::set_tcp_keepcnt(stream, PEER_ASKED)?;
    Ok(())
}

async fn converse(
    stream: TcpStream,
    peer: SocketAddr,
    stranger: Arc<CancellationToken>,
    shared: &Shared,
    stop: &CancellationToken,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    prepare(&stream)?;
    notice_a_dead_peer(&stream)?;
    let Shared { exports, options, security, pool } = shared;
    let handshake = receive(stream, peer, exports, options, security);
    let guest = tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(()),
        () = stranger.cancelled() => return Ok(()),
        guest = timeout(options.handshake_timeout, handshake) => {
            guest.map_err(|_| timed_out("the handshake", options.handshake_timeout))??
        }
    };
    drop(stranger);
    if let Some(guest) = guest {
        guest.serve(options, pool, stop).await?;
    }
    Ok(())
}
