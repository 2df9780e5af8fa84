//! Replies: what a server answers once data flows, in the simple and in the structured form.

use super::cursor::Cursor;
use super::option::wire_numbers;
use super::{CodecError, MAX_STRING};

/// The longest answer to a block status request that is read into memory: 131,072 extents.
pub(crate) const MAX_STATUS: u32 = 4 + 8 * 131_072;
/// The longest error chunk that is read into memory.
pub(crate) const MAX_ERROR: u32 = 4096 + 16;

const SIMPLE: u32 = 0x6744_6698;
const STRUCTURED: u32 = 0x668e_33ef;
const DONE: u16 = 1;
const ERROR_BIT: u16 = 1 << 15;

wire_numbers! {
    /// What a chunk of a structured reply holds.
    ChunkKind: u16 {
        /// Nothing.
        None = 0,
        /// An offset and data.
        OffsetData = 1,
        /// An offset and a number of zeroes.
        OffsetHole = 2,
        /// Extents of one metadata context.
        BlockStatus = 5,
        /// An error.
        Error = ERROR_BIT + 1,
        /// An error at an offset.
        ErrorOffset = ERROR_BIT + 2,
    }
}

impl ChunkKind {
    /// Whether the chunk tells of a failure, even one without a name here.
    pub(crate) const fn is_error(self) -> bool {
        self.code() & ERROR_BIT != 0
    }
}

/// What a reply starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplyHeader {
    /// The whole reply; data follows when it answers a read that succeeded.
    Simple {
        /// 0 is success.
        error: u32,
        cookie: u64,
    },
    /// One chunk of a reply; its payload of `len` bytes follows.
    Chunk {
        /// Whether it is the last chunk of its reply.
        done: bool,
        kind: ChunkKind,
        cookie: u64,
        len: u32,
    },
}

impl ReplyHeader {
    /// Length of the shorter header, enough to tell which one it is.
    pub(crate) const SIMPLE_LEN: usize = 16;
    /// Length of the header of a chunk.
    pub(crate) const CHUNK_LEN: usize = 20;

    /// How long the header is that starts with these bytes.
    pub(crate) fn full_len(start: &[u8; Self::SIMPLE_LEN]) -> Result<usize, CodecError> {
        match Cursor::new("reply", start).u32()? {
            SIMPLE => Ok(Self::SIMPLE_LEN),
            STRUCTURED => Ok(Self::CHUNK_LEN),
            other => Err(CodecError::BadMagic { what: "reply", found: u64::from(other) }),
        }
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut cursor = Cursor::new("reply", bytes);
        let header = match cursor.u32()? {
            SIMPLE => Self::Simple { error: cursor.u32()?, cookie: cursor.u64()? },
            STRUCTURED => {
                let (flags, kind) = (cursor.u16()?, cursor.u16()?.into());
                let (cookie, len) = (cursor.u64()?, cursor.u32()?);
                Self::Chunk { done: flags & DONE != 0, kind, cookie, len }
            }
            other => {
                return Err(CodecError::BadMagic { what: "reply", found: u64::from(other) });
            }
        };
        cursor.end()?;
        Ok(header)
    }

    pub(crate) fn encode(self) -> Vec<u8> {
        let mut frame = Vec::with_capacity(Self::CHUNK_LEN + 8);
        match self {
            Self::Simple { error, cookie } => {
                frame.extend(SIMPLE.to_be_bytes());
                frame.extend(error.to_be_bytes());
                frame.extend(cookie.to_be_bytes());
            }
            Self::Chunk { done, kind, cookie, len } => {
                frame.extend(STRUCTURED.to_be_bytes());
                frame.extend(if done { DONE } else { 0 }.to_be_bytes());
                frame.extend(kind.code().to_be_bytes());
                frame.extend(cookie.to_be_bytes());
                frame.extend(len.to_be_bytes());
            }
        }
        frame
    }
}

/// The payload of [`ChunkKind::OffsetHole`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hole {
    pub(crate) offset: u64,
    pub(crate) len: u32,
}

impl Hole {
    pub(crate) const LEN: usize = 12;

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut cursor = Cursor::new("hole", bytes);
        let hole = Self { offset: cursor.u64()?, len: cursor.u32()? };
        cursor.end()?;
        Ok(hole)
    }

    pub(crate) fn encode(self) -> Vec<u8> {
        let mut frame = self.offset.to_be_bytes().to_vec();
        frame.extend(self.len.to_be_bytes());
        frame
    }
}

/// The payload of [`ChunkKind::BlockStatus`]: runs from the request's offset on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    /// The context's number from the handshake.
    pub(crate) context: u32,
    /// Length in bytes and flags of each run.
    pub(crate) runs: Vec<(u32, u32)>,
}

impl Status {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut cursor = Cursor::new("block status", bytes);
        let context = cursor.u32()?;
        let mut runs = Vec::with_capacity(cursor.left() / 8);
        while cursor.left() > 0 {
            let run = (cursor.u32()?, cursor.u32()?);
            if run.0 == 0 {
                return Err(CodecError::Invalid("the block status holds an empty extent"));
            }
            runs.push(run);
        }
        if runs.is_empty() {
            return Err(CodecError::Invalid("the block status holds no extent"));
        }
        Ok(Self { context, runs })
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut frame = Vec::with_capacity(4 + 8 * self.runs.len());
        frame.extend(self.context.to_be_bytes());
        for (len, flags) in &self.runs {
            frame.extend(len.to_be_bytes());
            frame.extend(flags.to_be_bytes());
        }
        frame
    }
}

/// The payload of an error chunk; what follows the message is of no use to the client and left unread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) errno: u32,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut cursor = Cursor::new("error", bytes);
        let errno = cursor.u32()?;
        let len = usize::from(cursor.u16()?);
        Ok(Self { errno, message: cursor.text(len, MAX_STRING)? })
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut frame = self.errno.to_be_bytes().to_vec();
        frame.extend(u16::try_from(self.message.len()).unwrap_or(u16::MAX).to_be_bytes());
        frame.extend(self.message.as_bytes());
        frame
    }
}
