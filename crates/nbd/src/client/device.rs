//! The client itself: connecting, block status, and saying goodbye.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use hub_block::{BlockError, BufferPool, check_range};
use tokio::sync::RwLock;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::alignment::Grain;
use super::connection::Connection;
use super::endpoint::{ClientOptions, Endpoint, ReadHalf, WriteHalf, dial};
use super::handshake::{ALLOCATION, Agreed, ConnectError, negotiate};
use super::pending::{Answer, Expect, Fate};
use crate::codec::MAX_STRING;
use crate::codec::info::{Context, flags};
use crate::codec::request::Command;

/// More extra contexts than this in the options are a mistake.
const MAX_EXTRA_CONTEXTS: usize = 16;
/// More connections or requests in flight help nobody.
const MAX_CONNECTIONS: usize = 64;
const MAX_IN_FLIGHT: usize = 1024;
/// Block status is asked for at most this many bytes at once.
const STATUS_STEP: u32 = 1 << 30;
/// Buffers kept for the next read.
const POOLED_BUFFERS: usize = 64;

/// A block device on an NBD server, over one or several connections.
///
/// Requests are spread over the connections and may complete in any order.
/// A wait on a server that is silent for the I/O timeout ends as [`BlockError::TimedOut`]; then, and when a connection breaks, the whole client has ended and all its requests fail as [`BlockError::Disconnected`].
/// Dropping it ends its tasks and closes the connections; [`close`](Self::close) says goodbye first.
pub struct NbdClient {
    pub(super) connections: Vec<Connection>,
    /// Where the next request looks for a free connection first.
    pub(super) next: AtomicUsize,
    pub(super) agreed: Agreed,
    pub(super) grain: Grain,
    pub(super) pool: BufferPool,
    /// Held shared by writes, and alone by what must see all of them done: a flush, and the read-modify-write of a block that is written in part.
    pub(super) barrier: RwLock<()>,
    /// What is sent to a server that cannot zero by itself.
    pub(super) zeroes: Bytes,
    peer: String,
    fate: Arc<Fate>,
    options: ClientOptions,
    tasks: JoinSet<()>,
}

/// A run of bytes with the flags of one metadata context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusExtent {
    /// First byte.
    pub offset: u64,
    /// Number of bytes; never 0.
    pub len: u64,
    /// What the context says about them, for example 1 for a hole and 2 for zeroes in `base:allocation`.
    pub flags: u32,
}

impl NbdClient {
    /// Connects to an export, with several connections where the server allows it.
    pub async fn connect(
        endpoint: &Endpoint,
        export: &str,
        options: ClientOptions,
    ) -> Result<Self, ConnectError> {
        let contexts = wanted_contexts(export, &options)?;
        let (stream, agreed) = open(endpoint, export, &options, &contexts, 1).await?;
        let fate = Arc::new(Fate::new(endpoint.to_string()));
        let mut tasks = JoinSet::new();
        let limits = (options.in_flight.clamp(1, MAX_IN_FLIGHT), options.io_timeout);
        let start = |stream, tasks: &mut JoinSet<()>| {
            Connection::start(stream, agreed.structured, limits, fate.clone(), tasks)
        };
        let mut connections = vec![start(stream, &mut tasks)];
        let several = agreed.flags & flags::CAN_MULTI_CONN != 0;
        for number in 2..=if several { options.connections.min(MAX_CONNECTIONS) } else { 1 } {
            let (stream, same) = open(endpoint, export, &options, &contexts, number).await?;
            if same != agreed {
                let reason = "its connections do not show the same export".to_owned();
                return Err(ConnectError::Protocol { endpoint: endpoint.to_string(), reason });
            }
            connections.push(start(stream, &mut tasks));
        }
        let grain = grain(&agreed, &options);
        let zeroes = agreed.flags & flags::SEND_WRITE_ZEROES == 0;
        Ok(Self {
            connections,
            next: AtomicUsize::new(0),
            grain,
            pool: BufferPool::new(grain.maximum as usize, POOLED_BUFFERS),
            barrier: RwLock::new(()),
            zeroes: Bytes::from(vec![0; if zeroes { grain.maximum as usize } else { 0 }]),
            peer: endpoint.to_string(),
            agreed,
            fate,
            options,
            tasks,
        })
    }

    /// Whether the server describes ranges by this metadata context.
    pub fn has_context(&self, context: &str) -> bool {
        self.context(context).is_some()
    }

    pub(super) fn context(&self, name: &str) -> Option<&Context> {
        self.agreed.contexts.iter().find(|it| it.name == name)
    }

    /// Describes a range by one metadata context: in order, without gaps, equal neighbours joined.
    ///
    /// Asks as often as the server's answers need to cover the range.
    /// A context that was not agreed on is [`BlockError::Unsupported`].
    pub async fn block_status(
        &self,
        context: &str,
        offset: u64,
        len: u64,
    ) -> Result<Vec<StatusExtent>, BlockError> {
        check_range(offset, len, self.agreed.size)?;
        let id = self.context(context).map(|it| it.id).ok_or_else(|| {
            BlockError::Unsupported(format!("{} does not offer {context}", self.peer))
        })?;
        let mut extents: Vec<StatusExtent> = Vec::new();
        let (mut at, end) = (offset, offset + len);
        while at < end {
            let (start, wide) = self.grain.widen(at, end - at);
            let Some((_, ask)) = self.grain.pieces_of(start, wide, STATUS_STEP).next() else {
                break;
            };
            let expect = Expect::Status { context: id, runs: Vec::new() };
            let ticket =
                self.submit(Command::BlockStatus, start, ask, Bytes::new(), expect).await?;
            let Answer::Status(runs) = ticket.answer().await? else { break };
            let (mut run_start, stop) = (start, end.min(start + u64::from(ask)));
            for (run, flags) in runs {
                let run_end = run_start + u64::from(run);
                let (from, to) = (run_start.max(at), run_end.min(stop));
                if from < to {
                    append(&mut extents, StatusExtent { offset: from, len: to - from, flags });
                }
                run_start = run_end;
            }
            let covered = run_start.min(stop);
            if covered <= at {
                let what = "a block status that does not move on".to_owned();
                return Err(BlockError::Corrupt { offset: at, what });
            }
            at = covered;
        }
        Ok(extents)
    }

    /// Says goodbye on all connections and waits, within the connect timeout, until the server has hung up.
    pub async fn close(self) {
        let Self { connections, fate, mut tasks, options, .. } = self;
        fate.leave();
        let farewell = async {
            for connection in connections {
                connection.disconnect().await;
            }
            while tasks.join_next().await.is_some() {}
        };
        if timeout(options.connect_timeout, farewell).await.is_err() {
            tracing::debug!("nbd server did not hang up in time");
        }
    }
}

impl fmt::Debug for NbdClient {
    /// Names the server; the export's name is a capability and not kept.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("NbdClient")
            .field("peer", &self.peer)
            .field("size", &self.agreed.size)
            .field("connections", &self.connections.len())
            .finish_non_exhaustive()
    }
}

fn append(extents: &mut Vec<StatusExtent>, extent: StatusExtent) {
    match extents.last_mut() {
        Some(last) if last.flags == extent.flags => last.len += extent.len,
        _ => extents.push(extent),
    }
}

fn wanted_contexts(export: &str, options: &ClientOptions) -> Result<Vec<String>, ConnectError> {
    let invalid = |text: &str| Err(ConnectError::InvalidOptions(text.to_owned()));
    if export.len() > MAX_STRING {
        return invalid("the export's name is too long");
    }
    if options.extra_contexts.len() > MAX_EXTRA_CONTEXTS {
        return invalid("too many extra contexts");
    }
    if options.extra_contexts.iter().any(|it| it.is_empty() || it.len() > 256) {
        return invalid("the name of an extra context has 1 to 256 bytes");
    }
    let mut contexts = vec![ALLOCATION.to_owned()];
    contexts.extend(options.extra_contexts.iter().cloned());
    Ok(contexts)
}

/// The server's block sizes under the client's own limit.
fn grain(agreed: &Agreed, options: &ClientOptions) -> Grain {
    let minimum = agreed.sizes.minimum;
    let maximum = options.max_request.min(agreed.sizes.maximum).max(minimum);
    Grain { minimum, maximum: maximum & !(minimum - 1), size: agreed.size }
}

/// Opens one connection, with one deadline over everything.
async fn open(
    endpoint: &Endpoint,
    export: &str,
    options: &ClientOptions,
    contexts: &[String],
    connection: usize,
) -> Result<((ReadHalf, WriteHalf), Agreed), ConnectError> {
    let opening = async {
        let (mut reader, mut writer) = dial(endpoint, &options.security)
            .await
            .map_err(|failure| failure.at(endpoint.to_string()))?;
        let agreed = negotiate(&mut reader, &mut writer, export, contexts)
            .await
            .map_err(|failure| failure.at(endpoint.to_string()))?;
        Ok(((reader, writer), agreed))
    };
    let after = options.connect_timeout;
    timeout(after, opening).await.unwrap_or_else(|_| {
        Err(ConnectError::TimedOut { endpoint: endpoint.to_string(), connection, after })
    })
}
