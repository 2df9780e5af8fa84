//! Decides, without doing anything, whether a request may go to the device.

use crate::codec::request::{Command, Request, flags};
use crate::errno::Errno;

/// What a session knows when a request arrives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) size: u64,
    pub(super) read_only: bool,
    pub(super) max_payload: u32,
    /// Structured replies were agreed on.
    pub(super) structured: bool,
    /// Block status of `base:allocation` was agreed on.
    pub(super) allocation: bool,
}

/// The answer to a request that does not reach the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) errno: Errno,
    pub(super) words: &'static str,
}

const fn refuse(errno: Errno, words: &'static str) -> Result<(), Refusal> {
    Err(Refusal { errno, words })
}

impl Rules {
    /// Admits a request or says why not; the payload of a refused write still has to be read.
    pub(super) fn admit(&self, request: &Request) -> Result<(), Refusal> {
        let known = match request.command {
            Command::Read if self.structured => flags::FUA | flags::DF,
            Command::WriteZeroes => flags::FUA | flags::NO_HOLE,
            Command::BlockStatus => flags::FUA | flags::REQ_ONE,
            Command::Read | Command::Write | Command::Flush | Command::Disconnect => flags::FUA,
            Command::Trim | Command::Cache | Command::Other(_) => {
                return refuse(Errno::Invalid, "this command is not offered");
            }
        };
        if request.flags & !known != 0 {
            return refuse(Errno::Invalid, "a flag is not offered for this command");
        }
        let writes = matches!(request.command, Command::Write | Command::WriteZeroes);
        if writes && self.read_only {
            return refuse(Errno::NotPermitted, "the export is read-only");
        }
        let carries = matches!(request.command, Command::Read | Command::Write);
        if carries && request.len > self.max_payload {
            return refuse(Errno::Overflow, "the request is longer than the maximum block size");
        }
        if request.command == Command::BlockStatus && (!self.allocation || request.len == 0) {
            return refuse(Errno::Invalid, "block status of an empty range or without a context");
        }
        if matches!(request.command, Command::Flush | Command::Disconnect) {
            return Ok(());
        }
        match request.offset.checked_add(u64::from(request.len)) {
            Some(end) if end <= self.size => Ok(()),
            _ if writes => refuse(Errno::NoSpace, "the range leaves the export"),
            _ => refuse(Errno::Invalid, "the range leaves the export"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules {
        size: 1 << 20,
        read_only: false,
        max_payload: 1 << 16,
        structured: true,
        allocation: true,
    };

    fn errno(rules: Rules, command: Command, flags: u16, offset: u64, len: u32) -> Option<Errno> {
        let request = Request { flags, command, cookie: 1, offset, len };
        rules.admit(&request).err().map(|it| it.errno)
    }

    #[test]
    fn ranges_end_at_the_end() {
        let end = 1 << 20;
        assert_eq!(errno(RULES, Command::Read, 0, end - 8, 8), None);
        assert_eq!(errno(RULES, Command::Read, 0, end - 8, 9), Some(Errno::Invalid));
        assert_eq!(errno(RULES, Command::Read, 0, u64::MAX, 1), Some(Errno::Invalid));
        assert_eq!(errno(RULES, Command::Write, 0, end, 1), Some(Errno::NoSpace));
        assert_eq!(errno(RULES, Command::WriteZeroes, 0, 0, u32::MAX), Some(Errno::NoSpace));
        assert_eq!(errno(RULES, Command::BlockStatus, 0, 1, 1 << 20), Some(Errno::Invalid));
        assert_eq!(errno(RULES, Command::Flush, 0, u64::MAX, 7), None);
    }

    #[test]
    fn lengths_flags_and_commands_are_bounded() {
        assert_eq!(errno(RULES, Command::Write, 0, 0, (1 << 16) + 1), Some(Errno::Overflow));
        assert_eq!(errno(RULES, Command::WriteZeroes, 0, 0, 1 << 20), None);
        assert_eq!(errno(RULES, Command::BlockStatus, 0, 0, 0), Some(Errno::Invalid));
        assert_eq!(errno(RULES, Command::Write, flags::DF, 0, 1), Some(Errno::Invalid));
        assert_eq!(errno(RULES, Command::WriteZeroes, 1 << 4, 0, 1), Some(Errno::Invalid));
        assert_eq!(errno(RULES, Command::Trim, 0, 0, 1), Some(Errno::Invalid));
        assert_eq!(errno(RULES, Command::Other(900), 0, 0, 1), Some(Errno::Invalid));
    }

    #[test]
    fn what_was_not_agreed_on_is_refused() {
        let plain = Rules { structured: false, allocation: false, ..RULES };
        assert_eq!(errno(plain, Command::BlockStatus, 0, 0, 1), Some(Errno::Invalid));
        assert_eq!(errno(plain, Command::Read, flags::DF, 0, 1), Some(Errno::Invalid));
        let fixed = Rules { read_only: true, ..RULES };
        assert_eq!(errno(fixed, Command::Write, 0, 0, 1), Some(Errno::NotPermitted));
        assert_eq!(errno(fixed, Command::WriteZeroes, 0, 0, 1), Some(Errno::NotPermitted));
        assert_eq!(errno(fixed, Command::Read, 0, 0, 1), None);
    }
}
