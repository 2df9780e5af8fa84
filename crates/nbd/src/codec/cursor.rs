//! Reads numbers and strings from the front of a frame and never past its end.

use super::CodecError;

/// The unread rest of one frame.
pub(super) struct Cursor<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// Starts at the first byte; `what` names the frame in errors.
    pub(super) fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, rest: bytes }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let (front, rest) =
            self.rest.split_first_chunk().ok_or(CodecError::Truncated(self.what))?;
        self.rest = rest;
        Ok(*front)
    }

    pub(super) fn u16(&mut self) -> Result<u16, CodecError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, CodecError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, CodecError> {
        self.array().map(u64::from_be_bytes)
    }

    /// Reads the mark of a frame and refuses another one.
    pub(super) fn magic(&mut self, expected: u64) -> Result<(), CodecError> {
        let found = self.u64()?;
        if found == expected {
            Ok(())
        } else {
            Err(CodecError::BadMagic { what: self.what, found })
        }
    }

    /// Text of a given length, no longer than `limit` bytes.
    pub(super) fn text(&mut self, len: usize, limit: usize) -> Result<String, CodecError> {
        let what = self.what;
        if len > limit {
            return Err(CodecError::TooLong { what, len: len as u64, limit: limit as u64 });
        }
        let (front, rest) = self.rest.split_at_checked(len).ok_or(CodecError::Truncated(what))?;
        self.rest = rest;
        String::from_utf8(front.to_vec()).map_err(|_| CodecError::NotText(what))
    }

    /// How many bytes are unread.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    /// Refuses a frame that goes on.
    pub(super) fn end(self) -> Result<(), CodecError> {
        if self.rest.is_empty() { Ok(()) } else { Err(CodecError::Trailing(self.what)) }
    }
}

/// Appends text behind its length; the callers bound the text far below 4 GiB.
pub(super) fn put_text(frame: &mut Vec<u8>, text: &str) {
    frame.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend(text.as_bytes());
}
