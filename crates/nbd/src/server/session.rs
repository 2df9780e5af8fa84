//! One connection in transmission: reads requests, works on several at once, ends in an orderly way.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use hub_block::BufferPool;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::admission::Rules;
use super::handshake::Agreed;
use super::options::ServerOptions;
use super::replies::{PIECE, Replies};
use crate::codec::CodecError;
use crate::codec::request::{Command, Request, flags};
use crate::wire::{discard, read_array};

/// Why a session ended before its client said goodbye.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error("the connection broke")]
    Io(#[from] io::Error),
    #[error("the client does not follow the protocol")]
    Codec(#[from] CodecError),
    #[error("the client was silent for too long")]
    Idle,
    #[error("a payload did not arrive in time")]
    Payload,
    #[error("a reply could not be sent, or was not taken in time")]
    Reply,
    #[error("the client announced a payload of {0} bytes")]
    PayloadTooLong(u32),
    #[error("a request died")]
    Request(#[source] JoinError),
}

/// Serves one client until it leaves, the export is withdrawn, or the server stops.
///
/// Requests that the device has begun are finished, within a deadline, before the place at the export is free again: a late write must not land after the client has come back by another connection.
pub(super) async fn serve<R, W>(
    reader: &mut R,
    writer: W,
    agreed: Agreed,
    options: &ServerOptions,
    pool: &BufferPool,
    stop: &CancellationToken,
) -> Result<(), SessionError>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let Agreed { slot, structured, allocation } = agreed;
    let Some(device) = slot.device() else { return Ok(()) };
    let rules = Rules {
        size: device.size(),
        read_only: device.read_only(),
        max_payload: options.max_payload,
        structured,
        allocation,
    };
    let replies = Arc::new(Replies {
        device,
        rules,
        writer: Mutex::new(writer),
        transfer_timeout: options.transfer_timeout,
        broken: CancellationToken::new(),
    });
    let mut intake = Intake::new(replies.clone(), options, pool.clone());
    let end = tokio::select! {
        biased;
        () = stop.cancelled() => Ok(()),
        () = slot.closing() => Ok(()),
        () = replies.broken.cancelled() => Err(SessionError::Reply),
        end = intake.run(reader) => end,
    };
    intake.drain().await;
    drop(intake);
    // Nothing is left to tell a client that does not listen any more.
    let _ = timeout(options.transfer_timeout, replies.writer.lock().await.shutdown()).await;
    drop(replies);
    drop(slot);
    end
}

/// The reading half of a session and the requests it has begun.
struct Intake<'a, W> {
    replies: Arc<Replies<W>>,
    options: &'a ServerOptions,
    pool: BufferPool,
    slots: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    begun: JoinSet<()>,
}

impl<'a, W: AsyncWrite + Unpin + Send + 'static> Intake<'a, W> {
    fn new(replies: Arc<Replies<W>>, options: &'a ServerOptions, pool: BufferPool) -> Self {
        Self {
            replies,
            options,
            pool,
            slots: Arc::new(Semaphore::new(options.in_flight)),
            bytes: Arc::new(Semaphore::new(options.in_flight_bytes as usize)),
            begun: JoinSet::new(),
        }
    }

    async fn run(&mut self, reader: &mut (impl AsyncRead + Unpin)) -> Result<(), SessionError> {
        while let Some(request) = self.next(reader).await? {
            if request.command == Command::Disconnect {
                return Ok(());
            }
            let admitted = self.replies.rules.admit(&request);
            let permits = self.room_for(&request).await;
            let payload = if request.command == Command::Write {
                let taken = self.payload(reader, &request, admitted.is_ok());
                timeout(self.options.transfer_timeout, taken)
                    .await
                    .map_err(|_| SessionError::Payload)??
            } else {
                Bytes::new()
            };
            let replies = self.replies.clone();
            self.begun.spawn(async move {
                match admitted {
                    Ok(()) => replies.answer(request, payload).await,
                    Err(refusal) => replies.refuse(request, refusal).await,
                }
                drop(permits);
            });
        }
        Ok(())
    }

    /// Waits for the next request and clears away finished ones meanwhile; `None` is a closed connection.
    async fn next(
        &mut self,
        reader: &mut (impl AsyncRead + Unpin),
    ) -> Result<Option<Request>, SessionError> {
        let header = read_array::<{ Request::LEN }>(reader);
        tokio::pin!(header);
        let quiet = sleep(self.options.idle_timeout);
        tokio::pin!(quiet);
        loop {
            tokio::select! {
                frame = &mut header => return match frame {
                    Ok(frame) => Ok(Some(Request::parse(&frame)?)),
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
                    Err(error) => Err(error.into()),
                },
                Some(done) = self.begun.join_next() => done.map_err(SessionError::Request)?,
                () = &mut quiet => {
                    if self.begun.is_empty() {
                        return Err(SessionError::Idle);
                    }
                    quiet.set(sleep(self.options.idle_timeout));
                }
            }
        }
    }

    /// Waits until the session may begin another request and hold its bytes.
    async fn room_for(&self, request: &Request) -> Option<[OwnedSemaphorePermit; 2]> {
        let chunked = self.replies.rules.structured && request.flags & flags::DF == 0;
        let bytes = match request.command {
            Command::Read if chunked => request.len.min(PIECE),
            Command::Read | Command::Write => request.len,
            Command::Disconnect
            | Command::Flush
            | Command::Trim
            | Command::Cache
            | Command::WriteZeroes
            | Command::BlockStatus
            | Command::Other(_) => 0,
        };
        let slot = self.slots.clone().acquire_owned().await.ok()?;
        let bytes = bytes.min(self.options.in_flight_bytes);
        Some([slot, self.bytes.clone().acquire_many_owned(bytes).await.ok()?])
    }

    async fn payload(
        &self,
        reader: &mut (impl AsyncRead + Unpin),
        request: &Request,
        wanted: bool,
    ) -> Result<Bytes, SessionError> {
        if request.len > self.options.max_payload {
            return Err(SessionError::PayloadTooLong(request.len));
        }
        if !wanted {
            discard(reader, u64::from(request.len)).await?;
            return Ok(Bytes::new());
        }
        let mut buffer = self.pool.take(request.len as usize);
        reader.read_exact(&mut buffer).await?;
        Ok(buffer.freeze())
    }

    /// Lets what was begun finish, and gives up on it after the deadline.
    async fn drain(&mut self) {
        let finish = async { while self.begun.join_next().await.is_some() {} };
        if timeout(self.options.drain_timeout, finish).await.is_err() {
            tracing::warn!(left = self.begun.len(), "nbd requests did not finish; giving them up");
            self.begun.shutdown().await;
        }
    }
}
