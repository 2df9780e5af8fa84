//! One connection in transmission: sends requests in order, several in flight, each with a deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hub_block::BlockError;
use tokio::io::AsyncWriteExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::endpoint::{ReadHalf, WriteHalf};
use super::pending::{Answer, Expect, Fate, Pending, Waiting};
use super::pulse::{Pulse, Pulsing, Quiet};
use super::reader::read_replies;
use crate::codec::request::{Command, Request};
use crate::wire::write_frame;

/// A request may take this many I/O timeouts while bytes of others move, and a flush in silence.
const PATIENCE: u32 = 10;

/// A connection that requests are handed to; its two tasks belong to the client's task set.
pub(super) struct Connection {
    outgoing: mpsc::Sender<Outgoing>,
    pending: Arc<Pending>,
    places: Arc<Semaphore>,
    next_cookie: AtomicU64,
    fate: Arc<Fate>,
    pulse: Arc<Pulse>,
}

/// A request on its way to the stream; a task writes it, so that a caller that gives up leaves no half request behind.
struct Outgoing {
    request: Request,
    payload: Bytes,
}

/// A request whose answer has not been awaited yet.
pub(super) struct Ticket {
    answer: oneshot::Receiver<Result<Answer, BlockError>>,
    fate: Arc<Fate>,
    pulse: Arc<Pulse>,
}

impl Connection {
    /// Starts the tasks of a connection that has finished its handshake.
    pub(super) fn start(
        (reader, writer): (ReadHalf, WriteHalf),
        structured: bool,
        (in_flight, io_timeout): (usize, Duration),
        fate: Arc<Fate>,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        // Two more than the requests in flight, so that a farewell never waits.
        let (outgoing, queue) = mpsc::channel(in_flight + 2);
        let pulse = Arc::new(Pulse::new(io_timeout));
        let mut reader = Pulsing::new(reader, pulse.clone());
        let writer = Pulsing::new(writer, pulse.clone());
        let pending = Arc::new(Pending::new());
        let places = Arc::new(Semaphore::new(in_flight));
        let connection = Self {
            outgoing,
            pending: pending.clone(),
            places: places.clone(),
            next_cookie: AtomicU64::new(1),
            fate: fate.clone(),
            pulse,
        };
        tasks.spawn(write_requests(writer, queue, fate.clone()));
        tasks.spawn(async move {
            tokio::select! {
                ended = read_replies(&mut reader, &pending, structured) => {
                    if let Err(error) = ended {
                        fate.end(&error.to_string());
                    }
                }
                () = fate.ended() => {}
            }
            places.close();
            pending.end();
        });
        connection
    }

    /// A place in flight, if one is free right now.
    pub(super) fn free_place(&self) -> Option<OwnedSemaphorePermit> {
        self.places.clone().try_acquire_owned().ok()
    }

    /// Waits for a place in flight.
    pub(super) async fn place(&self) -> Result<OwnedSemaphorePermit, BlockError> {
        match self.pulse.guard(self.places.clone().acquire_owned()).await {
            Ok(place) => place.map_err(|_| self.fate.error()),
            Err(Quiet) => Err(silent(&self.fate, self.pulse.limit())),
        }
    }

    /// Hands a request to the stream; the cookie is chosen here.
    pub(super) async fn submit(
        &self,
        place: OwnedSemaphorePermit,
        mut request: Request,
        payload: Bytes,
        expect: Expect,
    ) -> Result<Ticket, BlockError> {
        let (reply, answer) = oneshot::channel();
        request.cookie = self.next_cookie.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting { expect, failure: None, reply, place };
        if !self.pending.put(request.cookie, waiting) {
            return Err(self.fate.error());
        }
        // The queue has room for every place in flight, so this does not wait.
        if self.outgoing.send(Outgoing { request, payload }).await.is_err() {
            self.pending.take(request.cookie);
            return Err(self.fate.error());
        }
        Ok(Ticket { answer, fate: self.fate.clone(), pulse: self.pulse.clone() })
    }

    /// Says goodbye; the tasks end once it is written.
    pub(super) async fn disconnect(&self) {
        let request =
            Request { flags: 0, command: Command::Disconnect, cookie: 0, offset: 0, len: 0 };
        // A connection that has ended needs no farewell.
        let _ = self.outgoing.send(Outgoing { request, payload: Bytes::new() }).await;
    }
}

impl Ticket {
    /// Waits for the answer; a server that is silent, or forgets the request, ends the client.
    pub(super) async fn answer(self) -> Result<Answer, BlockError> {
        let limit = self.pulse.limit();
        match timeout(limit * PATIENCE, self.pulse.guard(self.answer)).await {
            Ok(Ok(Ok(answer))) => answer,
            Ok(Ok(Err(_))) => Err(self.fate.error()),
            Ok(Err(Quiet)) => Err(silent(&self.fate, limit)),
            Err(_) => Err(silent(&self.fate, limit * PATIENCE)),
        }
    }

    /// Waits for the answer to a flush. It may come out of a long silence: a server can have gigabytes of a
    /// copy to write out, and neither end knows how many.
    pub(super) async fn flushed(self) -> Result<(), BlockError> {
        let patience = self.pulse.limit() * PATIENCE;
        match timeout(patience, self.answer).await {
            Ok(Ok(answer)) => answer.map(drop),
            Ok(Err(_)) => Err(self.fate.error()),
            Err(_) => Err(silent(&self.fate, patience)),
        }
    }
}

fn silent(fate: &Fate, after: Duration) -> BlockError {
    fate.end(&format!("no answer within {after:?}"));
    BlockError::TimedOut(after)
}

async fn write_requests(
    mut writer: Pulsing<WriteHalf>,
    mut queue: mpsc::Receiver<Outgoing>,
    fate: Arc<Fate>,
) {
    let write = async {
        while let Some(Outgoing { request, payload }) = queue.recv().await {
            write_frame(&mut writer, &request.encode(), &payload).await?;
            if request.command == Command::Disconnect {
                return writer.shutdown().await;
            }
        }
        Ok(())
    };
    tokio::select! {
        written = write => {
            if let Err(error) = written {
                fate.end(&format!("the connection broke: {error}"));
            }
        }
        () = fate.ended() => {}
    }
}
