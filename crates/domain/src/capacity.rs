//! The capacity of a disk: never 0, never beyond reason.

use std::fmt;
use std::num::NonZeroU64;

/// Bytes that a disk holds: a positive multiple of 512, at most 1 PiB.
///
/// The bound keeps sums over a whole inventory inside a signed 64-bit integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capacity(NonZeroU64);

impl Capacity {
    /// The largest capacity that is believed.
    pub const MAX: u64 = 1 << 50;

    /// Checks a number of bytes.
    pub fn new(bytes: u64) -> Result<Self, InvalidCapacity> {
        match NonZeroU64::new(bytes) {
            None => Err(InvalidCapacity::Zero),
            Some(_) if bytes > Self::MAX => Err(InvalidCapacity::TooLarge(bytes)),
            Some(_) if !bytes.is_multiple_of(512) => Err(InvalidCapacity::NotSectors(bytes)),
            Some(bytes) => Ok(Self(bytes)),
        }
    }

    /// The capacity in bytes.
    pub const fn bytes(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for Capacity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} bytes", self.0)
    }
}

/// Why a number of bytes is no capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCapacity {
    /// Nothing can be stored on it.
    #[error("the capacity is 0")]
    Zero,
    /// Beyond [`Capacity::MAX`].
    #[error("the capacity of {0} bytes is beyond 1 PiB")]
    TooLarge(u64),
    /// Disks consist of sectors.
    #[error("the capacity of {0} bytes is not a multiple of 512")]
    NotSectors(u64),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trap_d2_zero_is_no_capacity() {
        assert_eq!(Capacity::new(0), Err(InvalidCapacity::Zero));
    }

    #[test]
    fn odd_and_absurd_sizes_are_refused() {
        assert_eq!(Capacity::new(513), Err(InvalidCapacity::NotSectors(513)));
        assert!(matches!(Capacity::new(u64::MAX), Err(InvalidCapacity::TooLarge(_))));
        assert_eq!(Capacity::new(109_521_666_048).map(Capacity::bytes), Ok(109_521_666_048));
    }
}
