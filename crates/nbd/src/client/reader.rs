//! Reads replies and gives each to the request it belongs to.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

use super::pending::{Answer, Expect, Pending, Waiting};
use crate::codec::CodecError;
use crate::codec::reply::{ChunkKind, Failure, Hole, MAX_ERROR, MAX_STATUS, ReplyHeader, Status};
use crate::errno::Errno;
use crate::wire::{discard, read_array, read_bytes};

/// Why no more replies can be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReplyError {
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    #[error("the server broke the protocol: {0}")]
    Codec(#[from] CodecError),
    #[error("the server broke the protocol: {0}")]
    Invalid(&'static str),
}

/// Reads replies until the stream ends or makes no sense.
pub(super) async fn read_replies(
    reader: &mut (impl AsyncRead + Unpin),
    pending: &Pending,
    structured: bool,
) -> Result<(), ReplyError> {
    loop {
        let start = read_array::<{ ReplyHeader::SIMPLE_LEN }>(reader).await?;
        let mut frame = [0; ReplyHeader::CHUNK_LEN];
        let len = ReplyHeader::full_len(&start)?;
        frame[..start.len()].copy_from_slice(&start);
        reader.read_exact(&mut frame[start.len()..len]).await?;
        match ReplyHeader::parse(&frame[..len])? {
            ReplyHeader::Simple { error, cookie } => {
                simple(reader, taken(pending, cookie)?, Errno::from(error), structured).await?;
            }
            ReplyHeader::Chunk { .. } if !structured => {
                return Err(ReplyError::Invalid("structured replies were not agreed on"));
            }
            ReplyHeader::Chunk { done, kind, cookie, len } => {
                let mut waiting = taken(pending, cookie)?;
                chunk(reader, &mut waiting, kind, len).await?;
                if done {
                    finish(waiting)?;
                } else {
                    // False means that the connection has ended, which drops the request as it must.
                    pending.put(cookie, waiting);
                }
            }
        }
    }
}

fn taken(pending: &Pending, cookie: u64) -> Result<Waiting, ReplyError> {
    pending.take(cookie).ok_or(ReplyError::Invalid("a reply to no request"))
}

async fn simple(
    reader: &mut (impl AsyncRead + Unpin),
    mut waiting: Waiting,
    errno: Errno,
    structured: bool,
) -> Result<(), ReplyError> {
    if errno != Errno::Success {
        waiting.failure = Some(errno.into_block_error(""));
    } else if let Expect::Data { offset, buffer, arrived } = &mut waiting.expect {
        if structured {
            return Err(ReplyError::Invalid("a simple reply with data"));
        }
        reader.read_exact(buffer).await?;
        arrived.add(*offset, buffer.len() as u64);
    }
    finish(waiting)
}

async fn chunk(
    reader: &mut (impl AsyncRead + Unpin),
    waiting: &mut Waiting,
    kind: ChunkKind,
    len: u32,
) -> Result<(), ReplyError> {
    match kind {
        ChunkKind::None if len == 0 => Ok(()),
        ChunkKind::OffsetData => data(reader, waiting, len).await,
        ChunkKind::OffsetHole if len as usize == Hole::LEN => {
            let hole = Hole::parse(&read_array::<{ Hole::LEN }>(reader).await?)?;
            place(waiting, hole.offset, u64::from(hole.len))?.fill(0);
            Ok(())
        }
        ChunkKind::BlockStatus if len <= MAX_STATUS => {
            let status = Status::parse(&read_bytes(reader, len as usize).await?)?;
            let Expect::Status { context, runs } = &mut waiting.expect else {
                return Err(ReplyError::Invalid("block status that was not asked for"));
            };
            if status.context == *context {
                *runs = status.runs;
            }
            Ok(())
        }
        kind if kind.is_error() && len <= MAX_ERROR => {
            let failure = Failure::parse(&read_bytes(reader, len as usize).await?)?;
            let error = Errno::from(failure.errno).into_block_error(&failure.message);
            waiting.failure.get_or_insert(error);
            Ok(())
        }
        ChunkKind::None
        | ChunkKind::OffsetHole
        | ChunkKind::BlockStatus
        | ChunkKind::Error
        | ChunkKind::ErrorOffset
        | ChunkKind::Other(_) => Err(ReplyError::Invalid("a chunk of unknown kind or length")),
    }
}

async fn data(
    reader: &mut (impl AsyncRead + Unpin),
    waiting: &mut Waiting,
    len: u32,
) -> Result<(), ReplyError> {
    let Some(len) = len.checked_sub(8) else {
        return Err(ReplyError::Invalid("a data chunk without an offset"));
    };
    let offset = u64::from_be_bytes(read_array(reader).await?);
    if waiting.failure.is_some() {
        // The request has failed already; its buffer is of no use.
        return Ok(discard(reader, u64::from(len)).await?);
    }
    reader.read_exact(place(waiting, offset, u64::from(len))?).await?;
    Ok(())
}

/// The part of a read's buffer for a chunk, which must lie inside the request and be new.
fn place(waiting: &mut Waiting, at: u64, len: u64) -> Result<&mut [u8], ReplyError> {
    const OUTSIDE: ReplyError = ReplyError::Invalid("data outside of what was asked for");
    let Expect::Data { offset, buffer, arrived } = &mut waiting.expect else {
        return Err(ReplyError::Invalid("data that was not asked for"));
    };
    let start = at.checked_sub(*offset).ok_or(OUTSIDE)?;
    let end = start.checked_add(len).filter(|end| *end <= buffer.len() as u64).ok_or(OUTSIDE)?;
    if !arrived.add(at, len) {
        return Err(ReplyError::Invalid("data that is empty or arrives twice"));
    }
    let (Ok(start), Ok(end)) = (usize::try_from(start), usize::try_from(end)) else {
        return Err(OUTSIDE);
    };
    Ok(&mut buffer[start..end])
}

/// Gives the caller its answer; one that is gone does not mind.
fn finish(waiting: Waiting) -> Result<(), ReplyError> {
    let Waiting { expect, failure, reply, place } = waiting;
    let answer = match (failure, expect) {
        (Some(error), _) => Err(error),
        (None, Expect::Done) => Ok(Answer::Done),
        (None, Expect::Data { offset, buffer, arrived }) => {
            if !arrived.is_whole(offset, buffer.len() as u64) {
                return Err(ReplyError::Invalid("a read with bytes missing"));
            }
            Ok(Answer::Data(buffer.freeze()))
        }
        (None, Expect::Status { runs, .. }) => {
            if runs.is_empty() {
                return Err(ReplyError::Invalid("no block status of the context asked for"));
            }
            Ok(Answer::Status(runs))
        }
    };
    drop(place);
    let _ = reply.send(answer);
    Ok(())
}

#[cfg(test)]
mod tests;
