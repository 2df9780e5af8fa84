//! Error numbers on the wire, and what they mean as errors of a device.

use std::io;
use std::time::Duration;

use hub_block::BlockError;

use crate::codec::option::wire_numbers;

wire_numbers! {
    /// The error numbers that the protocol knows; they are those of Linux.
    Errno: u32 {
        /// No error.
        Success = 0,
        /// Writing is not permitted.
        NotPermitted = 1,
        /// Input or output failed.
        Io = 5,
        /// Not enough memory.
        NoMemory = 12,
        /// The request makes no sense.
        Invalid = 22,
        /// No space left, or a write beyond the end.
        NoSpace = 28,
        /// A value is too large.
        Overflow = 75,
        /// Not supported.
        NotSupported = 95,
        /// The server is going down.
        Shutdown = 108,
    }
}

impl Errno {
    /// The number that tells a client about a failed operation.
    ///
    /// A write beyond the end is "no space" and any other range "invalid"; sessions check ranges first, so here it is a device of changing size.
    pub(crate) fn of(error: &BlockError) -> Self {
        match error {
            BlockError::NoSpace => Self::NoSpace,
            BlockError::ReadOnly => Self::NotPermitted,
            BlockError::OutOfRange { .. } => Self::Invalid,
            BlockError::Unsupported(_) => Self::NotSupported,
            BlockError::Corrupt { .. }
            | BlockError::Disconnected(_)
            | BlockError::TimedOut(_)
            | BlockError::Io(_)
            | _ => Self::Io,
        }
    }

    /// The error of a device that a number from a server stands for, with the server's words.
    pub(crate) fn into_block_error(self, message: &str) -> BlockError {
        let text = |fallback: &str| {
            let words: String = message.chars().filter(|it| !it.is_control()).take(300).collect();
            if words.is_empty() { fallback.to_owned() } else { format!("the server says: {words}") }
        };
        match self {
            Self::NotPermitted => BlockError::ReadOnly,
            Self::NoSpace => BlockError::NoSpace,
            Self::NotSupported => BlockError::Unsupported(text("the server does not support it")),
            Self::Shutdown => BlockError::Disconnected(text("the server is shutting down")),
            Self::NoMemory => io_error(io::ErrorKind::OutOfMemory, text("the server lacks memory")),
            Self::Invalid | Self::Overflow => {
                io_error(io::ErrorKind::InvalidInput, text("the server calls the request invalid"))
            }
            Self::Success | Self::Io | Self::Other(_) => {
                let number = format!("the server reports error {}", self.code());
                io_error(io::ErrorKind::Other, text(&number))
            }
        }
    }
}

fn io_error(kind: io::ErrorKind, text: String) -> BlockError {
    BlockError::Io(io::Error::new(kind, text))
}

/// The words sent with a failure: all of its causes, in one line, for the client's log.
pub(crate) fn words(error: &BlockError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text.chars().take(1000).collect()
}

/// The error for a wait that was too long, as an I/O error.
pub(crate) fn timed_out(what: &str, after: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("{what} took longer than {after:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_repository_stays_one_across_the_wire() {
        let errors = [BlockError::NoSpace, BlockError::ReadOnly];
        for error in errors {
            let number = Errno::from(Errno::of(&error).code());
            let back = number.into_block_error("");
            assert_eq!(std::mem::discriminant(&back), std::mem::discriminant(&error));
        }
    }

    #[test]
    fn words_of_a_server_are_cut_and_cleaned() {
        let error = Errno::Io.into_block_error(&format!("bad\n\u{1b}[31m{}", "x".repeat(4000)));
        let text = words(&error);
        assert!(text.contains("the server says: bad[31mxxx"), "{text}");
        assert!(text.len() < 400);
    }
}
