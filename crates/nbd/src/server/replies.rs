//! Does what admitted requests ask for and sends the replies, one at a time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hub_block::{BlockDevice, BlockError, ExtentKind};
use tokio::io::AsyncWrite;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::admission::{Refusal, Rules};
use super::handshake::ALLOCATION_ID;
use crate::codec::reply::{ChunkKind, Failure, Hole, ReplyHeader, Status};
use crate::codec::request::{Command, Request, flags};
use crate::errno::{Errno, words};
use crate::wire::write_frame;

/// A longer read is answered in chunks of this size, so that few bytes wait in memory.
pub(super) const PIECE: u32 = 2 << 20;
/// The device is asked for the extents of this many bytes at a time.
const STATUS_STEP: u64 = 256 << 20;
/// An answer to a block status request ends after about this many extents; the client asks again from there.
const STATUS_RUNS: usize = 16 * 1024;
/// The allocation flags of an extent that reads as zeroes.
///
/// The block seam does not tell a hole from stored zeroes, so such an extent is called both.
const HOLE_AND_ZERO: u32 = 1 | 2;

/// What the requests of one session share.
pub(super) struct Replies<W> {
    pub(super) device: Arc<dyn BlockDevice>,
    pub(super) rules: Rules,
    pub(super) writer: Mutex<W>,
    pub(super) transfer_timeout: Duration,
    /// Cancelled when a reply could not be sent; the stream is of no use after that.
    pub(super) broken: CancellationToken,
}

/// The client is gone; nothing more can be told to it.
struct Gone;

impl<W: AsyncWrite + Unpin + Send> Replies<W> {
    /// Answers one request; `payload` is what a write carries.
    pub(super) async fn answer(&self, request: Request, payload: Bytes) {
        // A client that is gone was noticed by `send`, which ends the session.
        let _ = match request.command {
            Command::Read if self.rules.structured => self.read_in_chunks(&request).await,
            Command::Read => self.read_simple(&request).await,
            Command::BlockStatus => self.block_status(&request).await,
            Command::Write | Command::WriteZeroes | Command::Flush => {
                match self.change(&request, payload).await {
                    Ok(()) => self.success(&request).await,
                    Err(error) => self.failure(&request, &error).await,
                }
            }
            // The rules admit none of these.
            Command::Disconnect | Command::Trim | Command::Cache | Command::Other(_) => {
                self.error(&request, Errno::Invalid, "this command is not offered").await
            }
        };
    }

    /// Answers a request that was not admitted.
    pub(super) async fn refuse(&self, request: Request, refusal: Refusal) {
        // As in `answer`.
        let _ = self.error(&request, refusal.errno, refusal.words).await;
    }

    async fn change(&self, request: &Request, payload: Bytes) -> Result<(), BlockError> {
        if request.command == Command::Flush {
            return self.device.flush().await;
        }
        if request.command == Command::Write {
            self.device.write_at(request.offset, payload).await?;
        } else {
            self.device.write_zeroes(request.offset, u64::from(request.len)).await?;
        }
        if request.flags & flags::FUA != 0 { self.device.flush().await } else { Ok(()) }
    }

    async fn read_simple(&self, request: &Request) -> Result<(), Gone> {
        match self.read(request.offset, request.len).await {
            Ok(data) => {
                let head = ReplyHeader::Simple { error: 0, cookie: request.cookie };
                self.send(&head.encode(), &data).await
            }
            Err(error) => self.failure(request, &error).await,
        }
    }

    async fn read_in_chunks(&self, request: &Request) -> Result<(), Gone> {
        if request.len == 0 {
            return self.success(request).await;
        }
        let whole = request.flags & flags::DF != 0;
        let (mut at, mut left) = (request.offset, request.len);
        while left > 0 {
            let len = if whole { left } else { left.min(PIECE) };
            let done = len == left;
            if !whole && self.is_hole(at, len).await {
                let hole = Hole { offset: at, len }.encode();
                self.chunk(request, done, ChunkKind::OffsetHole, &hole, &[]).await?;
            } else {
                match self.read(at, len).await {
                    Ok(data) => {
                        let offset = at.to_be_bytes();
                        self.chunk(request, done, ChunkKind::OffsetData, &offset, &data).await?;
                    }
                    Err(error) => return self.failure(request, &error).await,
                }
            }
            at += u64::from(len);
            left -= len;
        }
        Ok(())
    }

    /// Whether a range need not be read at all.
    ///
    /// A client that asks for block status skips holes by itself, so only for the others the question is worth its time.
    async fn is_hole(&self, offset: u64, len: u32) -> bool {
        if self.rules.allocation {
            return false;
        }
        let extents = self.device.extents(offset, u64::from(len)).await;
        extents.is_ok_and(|it| it.iter().all(|extent| extent.kind == ExtentKind::Zero))
    }

    async fn read(&self, offset: u64, len: u32) -> Result<Bytes, BlockError> {
        let data = self.device.read_at(offset, len).await?;
        if data.len() == len as usize {
            return Ok(data);
        }
        // The header has promised a length; a device that breaks its word must not break the stream.
        Err(BlockError::Corrupt { offset, what: format!("{} bytes of {len}", data.len()) })
    }

    async fn block_status(&self, request: &Request) -> Result<(), Gone> {
        match self.runs(request).await {
            Ok(runs) => {
                let status = Status { context: ALLOCATION_ID, runs }.encode();
                self.chunk(request, true, ChunkKind::BlockStatus, &status, &[]).await
            }
            Err(error) => self.failure(request, &error).await,
        }
    }

    async fn runs(&self, request: &Request) -> Result<Vec<(u32, u32)>, BlockError> {
        let one = request.flags & flags::REQ_ONE != 0;
        let end = request.offset + u64::from(request.len);
        let mut at = request.offset;
        let mut runs: Vec<(u32, u32)> = Vec::new();
        while at < end && runs.len() < STATUS_RUNS {
            for extent in self.device.extents(at, (end - at).min(STATUS_STEP)).await? {
                let zero = extent.kind == ExtentKind::Zero;
                let bits = if zero { HOLE_AND_ZERO } else { 0 };
                // No sum exceeds the request's length, which has 32 bits.
                let len = u32::try_from(extent.len).unwrap_or(u32::MAX);
                match runs.last_mut() {
                    Some(last) if last.1 == bits => last.0 = last.0.saturating_add(len),
                    Some(_) if one => return Ok(runs),
                    _ => runs.push((len, bits)),
                }
                at = extent.end();
            }
        }
        runs.truncate(STATUS_RUNS);
        Ok(runs)
    }

    async fn success(&self, request: &Request) -> Result<(), Gone> {
        if self.rules.structured {
            return self.chunk(request, true, ChunkKind::None, &[], &[]).await;
        }
        let head = ReplyHeader::Simple { error: 0, cookie: request.cookie };
        self.send(&head.encode(), &[]).await
    }

    async fn failure(&self, request: &Request, error: &BlockError) -> Result<(), Gone> {
        let words = words(error);
        tracing::debug!(command = ?request.command, offset = request.offset, error = %words, "nbd request failed");
        self.error(request, Errno::of(error), &words).await
    }

    async fn error(&self, request: &Request, errno: Errno, words: &str) -> Result<(), Gone> {
        if self.rules.structured {
            let failure = Failure { errno: errno.code(), message: words.to_owned() }.encode();
            return self.chunk(request, true, ChunkKind::Error, &failure, &[]).await;
        }
        let head = ReplyHeader::Simple { error: errno.code(), cookie: request.cookie };
        self.send(&head.encode(), &[]).await
    }

    async fn chunk(
        &self,
        request: &Request,
        done: bool,
        kind: ChunkKind,
        front: &[u8],
        data: &[u8],
    ) -> Result<(), Gone> {
        // Chunks are bounded by the maximum payload and a few bytes more.
        let len = u32::try_from(front.len() + data.len()).unwrap_or(u32::MAX);
        let mut head = ReplyHeader::Chunk { done, kind, cookie: request.cookie, len }.encode();
        head.extend_from_slice(front);
        self.send(&head, data).await
    }

    async fn send(&self, head: &[u8], payload: &[u8]) -> Result<(), Gone> {
        let mut writer = self.writer.lock().await;
        if self.broken.is_cancelled() {
            return Err(Gone);
        }
        let write = write_frame(&mut *writer, head, payload);
        if let Ok(Ok(())) = timeout(self.transfer_timeout, write).await {
            return Ok(());
        }
        self.broken.cancel();
        Err(Gone)
    }
}
