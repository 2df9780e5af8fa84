//! What a server tells about an export during the handshake.

use super::cursor::Cursor;
use super::{CodecError, MAX_STRING};

/// Transmission flags of an export, as bits on the wire.
pub(crate) mod flags {
    /// Always set.
    pub(crate) const HAS_FLAGS: u16 = 1;
    /// Writes are refused.
    pub(crate) const READ_ONLY: u16 = 1 << 1;
    /// There is a flush.
    pub(crate) const SEND_FLUSH: u16 = 1 << 2;
    /// A write can be made durable by itself.
    pub(crate) const SEND_FUA: u16 = 1 << 3;
    /// Ranges can be zeroed without sending zeroes.
    pub(crate) const SEND_WRITE_ZEROES: u16 = 1 << 6;
    /// A read can be asked for in one piece.
    pub(crate) const SEND_DF: u16 = 1 << 7;
    /// A flush on one connection covers the completed writes of all.
    pub(crate) const CAN_MULTI_CONN: u16 = 1 << 8;
}

/// The number that asks for [`Info::Name`].
pub(crate) const NAME: u16 = 1;
/// The number that asks for [`Info::Description`].
pub(crate) const DESCRIPTION: u16 = 2;
/// The number that asks for [`Info::BlockSizes`].
pub(crate) const BLOCK_SIZES: u16 = 3;
const EXPORT: u16 = 0;

/// The sizes that requests should keep to, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockSizes {
    /// Offsets and lengths are multiples of this power of two.
    pub(crate) minimum: u32,
    /// What the server handles best.
    pub(crate) preferred: u32,
    /// The longest payload.
    pub(crate) maximum: u32,
}

impl Default for BlockSizes {
    /// What the protocol lets a client assume when the server does not say.
    fn default() -> Self {
        Self { minimum: 1, preferred: 4096, maximum: 32 << 20 }
    }
}

/// One piece of information.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Info {
    /// Size in bytes and transmission flags; always sent.
    Export {
        /// Size in bytes.
        size: u64,
        /// Bits of [`flags`].
        flags: u16,
    },
    /// The canonical name.
    Name(String),
    /// Text for people.
    Description(String),
    /// Limits of requests.
    BlockSizes(BlockSizes),
    /// Something this library does not know.
    Other(u16),
}

impl Info {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut cursor = Cursor::new("information on an export", bytes);
        let info = match cursor.u16()? {
            EXPORT => Self::Export { size: cursor.u64()?, flags: cursor.u16()? },
            NAME => Self::Name(cursor.text(cursor.left(), MAX_STRING)?),
            DESCRIPTION => Self::Description(cursor.text(cursor.left(), MAX_STRING)?),
            BLOCK_SIZES => {
                let (minimum, preferred) = (cursor.u32()?, cursor.u32()?);
                Self::BlockSizes(BlockSizes { minimum, preferred, maximum: cursor.u32()? })
            }
            other => return Ok(Self::Other(other)),
        };
        cursor.end()?;
        Ok(info)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut frame = Vec::new();
        match self {
            Self::Export { size, flags } => {
                frame.extend(EXPORT.to_be_bytes());
                frame.extend(size.to_be_bytes());
                frame.extend(flags.to_be_bytes());
            }
            Self::Name(text) => {
                frame.extend(NAME.to_be_bytes());
                frame.extend(text.as_bytes());
            }
            Self::Description(text) => {
                frame.extend(DESCRIPTION.to_be_bytes());
                frame.extend(text.as_bytes());
            }
            Self::BlockSizes(sizes) => {
                frame.extend(BLOCK_SIZES.to_be_bytes());
                for size in [sizes.minimum, sizes.preferred, sizes.maximum] {
                    frame.extend(size.to_be_bytes());
                }
            }
            Self::Other(kind) => frame.extend(kind.to_be_bytes()),
        }
        frame
    }
}

/// A metadata context that both ends agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Context {
    /// The number that block status answers carry.
    pub(crate) id: u32,
    /// For example `base:allocation`.
    pub(crate) name: String,
}

impl Context {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut cursor = Cursor::new("metadata context", bytes);
        let id = cursor.u32()?;
        let name = cursor.text(cursor.left(), MAX_STRING)?;
        Ok(Self { id, name })
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut frame = self.id.to_be_bytes().to_vec();
        frame.extend(self.name.as_bytes());
        frame
    }
}
