//! The audit of change tracking: how much of what a source calls unchanged is read all the same, and what was found.

use std::num::NonZeroU32;

use crate::ids::BackupJobId;
use crate::time::Timestamp;

/// Within how many runs by changed areas every block of a disk is read once, though it was reported unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AuditRuns(NonZeroU32);

impl AuditRuns {
    /// A hundred runs; a chain leaves room for fewer, see
    /// [`audit_runs_in_chain`](crate::chain::audit_runs_in_chain).
    pub const DEFAULT: Self = Self(NonZeroU32::MIN.saturating_add(99));

    /// The highest number; beyond it nobody would live to see a lie found.
    pub const MAX: u32 = 10_000;

    /// A number between 1, which reads everything in every run, and [`MAX`](Self::MAX); there is no "never".
    pub fn new(runs: u32) -> Result<Self, InvalidAuditRuns> {
        let wrong = InvalidAuditRuns { given: runs };
        if runs > Self::MAX {
            return Err(wrong);
        }
        NonZeroU32::new(runs).map(Self).ok_or(wrong)
    }

    /// The number.
    pub const fn get(self) -> NonZeroU32 {
        self.0
    }
}

impl Default for AuditRuns {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Not a number of runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an audit takes between 1 and {} runs, and not {given}", AuditRuns::MAX)]
pub struct InvalidAuditRuns {
    /// What was given.
    pub given: u32,
}

/// The audit that a copy by changed areas is ordered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditOrder {
    /// How many runs it takes to get around the disk.
    pub runs: AuditRuns,
    /// Where on the disk it goes on, in bytes.
    pub from: u64,
}

/// How far the audit of a disk is after a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audited {
    /// Blocks that this run compared although they were reported unchanged.
    pub blocks: u64,
    /// Bytes of the disk that they are.
    pub bytes: u64,
    /// Where the next run goes on, in bytes; a run without an audit passes it on.
    pub next: u64,
}

/// A change that a source did not tell: a block that it called unchanged is not what the parent holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lie {
    /// First byte of the first such block.
    pub offset: u64,
    /// How many such blocks there were in the sample of the run.
    pub blocks: u64,
    /// Digest of that block in the parent, hexadecimal; zeroes for a block of zeroes.
    pub expected: String,
    /// Its digest at the source.
    pub found: String,
}

/// Why a chain is suspect: its source was caught leaving out a change, so other changes may be missing as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspicion {
    /// The backup whose audit found it; its own content was then compared as a whole.
    pub found_by: BackupJobId,
    /// When.
    pub found_at: Timestamp,
    /// What was found.
    pub lie: Lie,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audit_cannot_be_switched_off_by_a_number() {
        assert!(AuditRuns::new(0).is_err() && AuditRuns::new(AuditRuns::MAX + 1).is_err());
        assert_eq!(AuditRuns::new(100), Ok(AuditRuns::DEFAULT));
        assert_eq!(AuditRuns::default().get().get(), 100);
        let error = AuditRuns::new(0).unwrap_err().to_string();
        assert_eq!(error, "an audit takes between 1 and 10000 runs, and not 0");
    }
}
