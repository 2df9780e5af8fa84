//! Requests that wait for their reply, and the one reason for which all of them may fail.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use hub_block::{BlockError, PooledBuffer};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio_util::sync::CancellationToken;

use super::coverage::Coverage;

/// What the reply to a request shall bring.
#[derive(Debug)]
pub(super) enum Expect {
    /// That it is done.
    Done,
    /// The bytes at `offset`.
    Data { offset: u64, buffer: PooledBuffer, arrived: Coverage },
    /// Extents of one context.
    Status { context: u32, runs: Vec<(u32, u32)> },
}

/// What a reply brought.
#[derive(Debug)]
pub(super) enum Answer {
    Done,
    Data(Bytes),
    Status(Vec<(u32, u32)>),
}

/// A request without its reply.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) expect: Expect,
    /// The first failure that a chunk told of.
    pub(super) failure: Option<BlockError>,
    pub(super) reply: oneshot::Sender<Result<Answer, BlockError>>,
    /// Frees the place in flight when the reply is complete, not when the caller loses interest.
    pub(super) place: OwnedSemaphorePermit,
}

/// The requests in flight on one connection, by cookie; `None` once the connection has ended.
#[derive(Debug)]
pub(super) struct Pending(Mutex<Option<HashMap<u64, Waiting>>>);

impl Pending {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Some(HashMap::new())))
    }

    /// Adds a request; false when the connection has ended.
    pub(super) fn put(&self, cookie: u64, waiting: Waiting) -> bool {
        match &mut *self.0.lock() {
            Some(map) => map.insert(cookie, waiting).is_none(),
            None => false,
        }
    }

    pub(super) fn take(&self, cookie: u64) -> Option<Waiting> {
        self.0.lock().as_mut().and_then(|map| map.remove(&cookie))
    }

    /// Drops all requests, which tells their callers, and takes no more.
    pub(super) fn end(&self) {
        let all = self.0.lock().take();
        drop(all);
    }
}

/// Whether a client is alive; one dead connection ends the client, because a flush has to cover them all.
#[derive(Debug)]
pub(super) struct Fate {
    peer: String,
    reason: Mutex<Option<String>>,
    ended: CancellationToken,
    leaving: AtomicBool,
}

impl Fate {
    pub(super) fn new(peer: String) -> Self {
        Self {
            peer,
            reason: Mutex::new(None),
            ended: CancellationToken::new(),
            leaving: AtomicBool::new(false),
        }
    }

    /// From now on a connection that ends is what was wanted, and leaves the others time for their farewell.
    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Ends the client; the first reason stays.
    pub(super) fn end(&self, reason: &str) {
        if self.leaving.load(Ordering::Relaxed) {
            return;
        }
        let mut slot = self.reason.lock();
        if slot.is_none() {
            tracing::debug!(peer = %self.peer, reason, "nbd client ended");
            *slot = Some(format!("{}: {reason}", self.peer));
        }
        self.ended.cancel();
    }

    /// Returns when the client has ended.
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// The error of every request from the end on.
    pub(super) fn error(&self) -> BlockError {
        let reason = self.reason.lock().clone();
        BlockError::Disconnected(reason.unwrap_or_else(|| format!("{}: closed", self.peer)))
    }
}
