//! The protocol's frames as values: pure functions from bytes and to bytes, shared by both ends.
//!
//! The layouts are those of the NBD project's protocol description (`doc/proto.md`); all numbers are big-endian.

mod cursor;
pub(crate) mod info;
pub(crate) mod option;
pub(crate) mod reply;
pub(crate) mod request;
#[cfg(test)]
mod tests;

/// The longest export name or query that the protocol allows, and the longest message believed.
pub(crate) const MAX_STRING: usize = 4096;

/// A frame that does not follow the protocol.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CodecError {
    /// Bytes are missing at the end of a frame.
    #[error("the {0} ends too early")]
    Truncated(&'static str),
    /// Bytes are left over at the end of a frame.
    #[error("the {0} is longer than its content")]
    Trailing(&'static str),
    /// The frame does not start with the number that marks it.
    #[error("the {what} starts with {found:#x}, which is not its mark")]
    BadMagic {
        /// Which frame.
        what: &'static str,
        /// What stands in its place.
        found: u64,
    },
    /// A length or count over its limit.
    #[error("the {what} of {len} is over the limit of {limit}")]
    TooLong {
        /// Which field.
        what: &'static str,
        /// The length announced.
        len: u64,
        /// The most that is accepted.
        limit: u64,
    },
    /// Text that is not UTF-8.
    #[error("the {0} is not valid text")]
    NotText(&'static str),
    /// A value that the protocol does not allow at this place.
    #[error("{0}")]
    Invalid(&'static str),
}
