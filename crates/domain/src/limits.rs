//! Limits that an operator sets: how many copies at a time, and how many bytes per second.

use std::num::{NonZeroU32, NonZeroU64};

/// Bytes per second that a copy, or all copies of a VMA, may send; never so few that a copy looks dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteRate(NonZeroU64);

impl ByteRate {
    /// The lowest rate, 64 KiB per second: below it one block would take longer than a second.
    pub const MIN: u64 = 64 * 1024;

    /// The highest rate, 1 TiB per second, which no link has.
    pub const MAX: u64 = 1 << 40;

    /// A rate between [`MIN`](Self::MIN) and [`MAX`](Self::MAX).
    pub fn new(bytes_per_second: u64) -> Result<Self, InvalidLimit> {
        let wrong = InvalidLimit::Rate { given: bytes_per_second };
        if !(Self::MIN..=Self::MAX).contains(&bytes_per_second) {
            return Err(wrong);
        }
        NonZeroU64::new(bytes_per_second).map(Self).ok_or(wrong)
    }

    /// Bytes per second.
    pub const fn bytes_per_second(self) -> u64 {
        self.0.get()
    }
}

/// How many copies may be at work at a time; a copy is one VM at one instant, however many disks it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CopyCount(NonZeroU32);

impl CopyCount {
    /// What a hub copies at a time unless it is told otherwise: four. One copy has two disks under way, and two such
    /// copies keep two cores busy; the others fill the pauses of slow sources, and each takes memory.
    pub const DEFAULT: Self = Self(NonZeroU32::MIN.saturating_add(3));

    /// The highest count.
    pub const MAX: u32 = 1000;

    /// A count between 1 and [`MAX`](Self::MAX); whoever wants none removes the VMA or the repository.
    pub fn new(copies: u32) -> Result<Self, InvalidLimit> {
        let wrong = InvalidLimit::Copies { given: copies };
        if copies > Self::MAX {
            return Err(wrong);
        }
        NonZeroU32::new(copies).map(Self).ok_or(wrong)
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

/// What a VMA may take; without a limit, the hub's own ones are all there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VmaLimits {
    /// Copies from it at a time.
    pub copies: Option<CopyCount>,
    /// What all its copies together may send.
    pub rate: Option<ByteRate>,
}

/// What a copy is told about how fast it may send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopyRates {
    /// By this copy.
    pub job: Option<ByteRate>,
    /// By all copies of its VMA together.
    pub vma: Option<ByteRate>,
    /// Tells the later of two such orders, in whatever order they arrive.
    pub read: RateReading,
}

/// When a VMA's limit was read in the catalogue, as a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateReading {
    /// The start of the hub that counts; numbers of two starts are not compared.
    pub epoch: u64,
    /// Counted up with each reading; 0 is older than every other.
    pub number: u64,
}

/// A limit that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLimit {
    /// Too low or too high a rate.
    #[error(
        "it is between {} (64 KiB) and {} bytes per second, not {given}",
        ByteRate::MIN,
        ByteRate::MAX
    )]
    Rate {
        /// What was given, in bytes per second.
        given: u64,
    },
    /// No copies, or too many.
    #[error("it is between 1 and {}, not {given}", CopyCount::MAX)]
    Copies {
        /// What was given.
        given: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_never_zero_nor_boundless() {
        for bad in [0, 1, ByteRate::MIN - 1, ByteRate::MAX + 1, u64::MAX] {
            assert_eq!(ByteRate::new(bad), Err(InvalidLimit::Rate { given: bad }));
        }
        for good in [ByteRate::MIN, 1_000_000, ByteRate::MAX] {
            assert_eq!(ByteRate::new(good).map(ByteRate::bytes_per_second), Ok(good));
        }
        for bad in [0, CopyCount::MAX + 1, u32::MAX] {
            assert_eq!(CopyCount::new(bad), Err(InvalidLimit::Copies { given: bad }));
        }
        assert_eq!(CopyCount::new(1).map(CopyCount::get), Ok(1));
    }
}
