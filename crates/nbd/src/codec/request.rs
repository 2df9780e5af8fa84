//! Requests: what a client asks for once data flows.

use super::CodecError;
use super::cursor::Cursor;
use super::option::wire_numbers;

const REQUEST: u32 = 0x2560_9513;

/// Command flags, as bits on the wire.
pub(crate) mod flags {
    /// The write is durable when the reply comes.
    pub(crate) const FUA: u16 = 1;
    /// Zeroes stay allocated.
    pub(crate) const NO_HOLE: u16 = 1 << 1;
    /// The read comes in one piece.
    pub(crate) const DF: u16 = 1 << 2;
    /// Block status answers one extent per context.
    pub(crate) const REQ_ONE: u16 = 1 << 3;
}

wire_numbers! {
    /// What a request asks for.
    Command: u16 {
        /// Read a range.
        Read = 0,
        /// Write a range; the payload follows.
        Write = 1,
        /// End after the requests in flight; has no reply.
        Disconnect = 2,
        /// Make completed writes durable.
        Flush = 3,
        /// Forget the content of a range.
        Trim = 4,
        /// Read a range ahead.
        Cache = 5,
        /// Zero a range.
        WriteZeroes = 6,
        /// Describe a range.
        BlockStatus = 7,
    }
}

/// One request, without its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// Bits of [`flags`].
    pub(crate) flags: u16,
    pub(crate) command: Command,
    /// Chosen by the client; comes back with the reply.
    pub(crate) cookie: u64,
    pub(crate) offset: u64,
    pub(crate) len: u32,
}

impl Request {
    pub(crate) const LEN: usize = 28;

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut cursor = Cursor::new("request", bytes);
        let magic = cursor.u32()?;
        if magic != REQUEST {
            return Err(CodecError::BadMagic { what: "request", found: u64::from(magic) });
        }
        let (flags, command) = (cursor.u16()?, cursor.u16()?.into());
        let (cookie, offset) = (cursor.u64()?, cursor.u64()?);
        let request = Self { flags, command, cookie, offset, len: cursor.u32()? };
        cursor.end()?;
        Ok(request)
    }

    pub(crate) fn encode(&self) -> [u8; Self::LEN] {
        let mut frame = [0; Self::LEN];
        frame[..4].copy_from_slice(&REQUEST.to_be_bytes());
        frame[4..6].copy_from_slice(&self.flags.to_be_bytes());
        frame[6..8].copy_from_slice(&self.command.code().to_be_bytes());
        frame[8..16].copy_from_slice(&self.cookie.to_be_bytes());
        frame[16..24].copy_from_slice(&self.offset.to_be_bytes());
        frame[24..].copy_from_slice(&self.len.to_be_bytes());
        frame
    }
}
