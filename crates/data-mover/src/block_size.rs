//! The unit of digests: how large a block is, and which size suits a disk.

use crate::digest_table::MAX_TABLE_BYTES;

/// The size of a block in bytes: a power of two from 4 KiB to 16 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockSize(u32);

/// A number that is no block size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no block size; it has to be a power of two from 4096 to 16777216")]
pub struct InvalidBlockSize(pub u32);

impl BlockSize {
    /// The smallest block: 4 KiB.
    pub const MIN: Self = Self(4 << 10);
    /// What disks up to 4 TiB use: 64 KiB.
    pub const USUAL: Self = Self(64 << 10);
    /// The largest block: 16 MiB.
    pub const MAX: Self = Self(16 << 20);

    /// Accepts a number of bytes that is a block size.
    pub fn new(bytes: u32) -> Result<Self, InvalidBlockSize> {
        let fits = (Self::MIN.0..=Self::MAX.0).contains(&bytes) && bytes.is_power_of_two();
        if fits { Ok(Self(bytes)) } else { Err(InvalidBlockSize(bytes)) }
    }

    /// The size for a disk: 64 KiB up to 4 TiB, then doubled as often as it takes to keep the digest
    /// table within 2 GiB; above 1 PiB no size can, and [`DigestTable`](crate::DigestTable) refuses.
    pub fn for_capacity(capacity: u64) -> Self {
        let mut size = Self::USUAL;
        while size < Self::MAX && size.blocks(capacity).saturating_mul(32) > MAX_TABLE_BYTES {
            size = Self(size.0 * 2);
        }
        size
    }

    /// The size in bytes.
    pub const fn get(self) -> u32 {
        self.0
    }

    pub(crate) const fn bytes(self) -> u64 {
        self.0 as u64
    }

    /// Blocks of a disk, the last and perhaps shorter one included.
    pub const fn blocks(self, capacity: u64) -> u64 {
        capacity.div_ceil(self.bytes())
    }
}

impl TryFrom<u32> for BlockSize {
    type Error = InvalidBlockSize;

    fn try_from(bytes: u32) -> Result<Self, Self::Error> {
        Self::new(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_powers_of_two_in_range_are_sizes() {
        for good in [4096, 65_536, 16 << 20] {
            assert_eq!(BlockSize::new(good).map(BlockSize::get), Ok(good));
        }
        for bad in [0, 1, 2048, 4097, 65_535, 32 << 20, u32::MAX] {
            assert_eq!(BlockSize::new(bad), Err(InvalidBlockSize(bad)));
        }
    }

    #[test]
    fn a_table_stays_within_two_gibibytes() {
        let tib = 1_u64 << 40;
        assert_eq!(BlockSize::for_capacity(0).get(), 65_536);
        assert_eq!(BlockSize::for_capacity(4 * tib).get(), 65_536);
        assert_eq!(BlockSize::for_capacity(4 * tib + 1).get(), 131_072);
        assert_eq!(BlockSize::for_capacity(8 * tib).get(), 131_072);
        assert_eq!(BlockSize::for_capacity(1024 * tib), BlockSize::MAX);
        assert_eq!(BlockSize::for_capacity(u64::MAX), BlockSize::MAX);
        for capacity in [tib, 5 * tib, 100 * tib, 1024 * tib] {
            let blocks = BlockSize::for_capacity(capacity).blocks(capacity);
            assert!(blocks * 32 <= MAX_TABLE_BYTES);
        }
    }
}
