//! The numbers of the qcow2 format and the arithmetic of its clusters, in one place.
//!
//! Source: `docs/interop/qcow2.rst` of the QEMU project.

/// The first four bytes, `QFI` and 0xFB.
pub(crate) const MAGIC: u32 = 0x5146_49FB;
/// The entry's cluster has a refcount of exactly one (L1 and L2, bit 63).
pub(crate) const COPIED: u64 = 1 << 63;
/// The L2 entry describes a compressed cluster (bit 62).
pub(crate) const COMPRESSED: u64 = 1 << 62;
/// The L2 entry reads as zeroes (bit 0).
pub(crate) const ZERO: u64 = 1;
/// The bits of an L1 or L2 entry that hold a host offset (9 to 55).
pub(crate) const OFFSET: u64 = 0x00FF_FFFF_FFFF_FE00;
/// Compressed clusters are measured in sectors of this size.
pub(crate) const SECTOR: u64 = 512;
/// The largest L1 table that QEMU opens, in bytes.
pub(crate) const MAX_L1_BYTES: u64 = 32 << 20;
/// The largest refcount table that QEMU opens, in bytes.
pub(crate) const MAX_REFCOUNT_TABLE_BYTES: u64 = 8 << 20;
/// The longest backing file name, in bytes.
pub(crate) const MAX_BACKING_NAME: usize = 1023;
/// Refcounts of 16 bits, as `log2` of the bits.
pub(crate) const REFCOUNT_ORDER: u32 = 4;
/// The widest refcounts of the format have 64 bits.
pub(crate) const MAX_REFCOUNT_ORDER: u32 = 6;
/// The longest file, in clusters, whose use is tracked: the bitmap of it takes 256 MiB.
pub(crate) const MAX_HOST_CLUSTERS: u64 = 1 << 31;

const _: () = assert!(usize::BITS == 64, "offsets are used as indices");

/// A number that is known to be small as an index.
#[expect(clippy::cast_possible_truncation, reason = "usize has 64 bits, asserted above")]
pub(crate) const fn index(value: u64) -> usize {
    value as usize
}

/// How the compressed clusters of an image are compressed; an image has one way for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum CompressionType {
    /// Raw deflate, which every image has that does not say otherwise.
    #[default]
    Zlib,
    /// One frame of zstd for each cluster.
    Zstd,
}

/// How an image cuts its bytes into clusters and tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    cluster_bits: u32,
}

impl Geometry {
    /// Refuses what the format does not allow.
    pub(crate) fn new(cluster_bits: u32) -> Option<Self> {
        (9..=21).contains(&cluster_bits).then_some(Self { cluster_bits })
    }

    pub(crate) const fn cluster_bits(self) -> u32 {
        self.cluster_bits
    }

    pub(crate) const fn cluster_size(self) -> u64 {
        1 << self.cluster_bits
    }

    pub(crate) const fn cluster_len(self) -> usize {
        1 << self.cluster_bits
    }

    /// The lowest bit of the count of sectors in the entry of a compressed cluster.
    pub(crate) const fn sectors_shift(self) -> u32 {
        62 - (self.cluster_bits - 8)
    }

    /// Entries of one L2 table.
    pub(crate) const fn table_entries(self) -> u64 {
        self.cluster_size() / 8
    }

    /// Guest bytes that one L2 table describes.
    pub(crate) const fn table_span(self) -> u64 {
        self.cluster_size() * self.table_entries()
    }

    /// Host clusters that one refcount block describes.
    pub(crate) const fn refcounts_per_block(self) -> u64 {
        self.cluster_size() / 2
    }

    /// L1 entries that a disk of this size needs.
    pub(crate) const fn l1_entries(self, virtual_size: u64) -> u64 {
        virtual_size.div_ceil(self.table_span())
    }

    /// Whether tables of the format's largest sizes can describe a full disk of this size, and the file
    /// that holds it: its own tables take less than an eighth more.
    pub(crate) const fn allows(self, virtual_size: u64) -> bool {
        let data = self.clusters(virtual_size);
        let counted = MAX_REFCOUNT_TABLE_BYTES / 8 * self.refcounts_per_block();
        let most = if counted < MAX_HOST_CLUSTERS { counted } else { MAX_HOST_CLUSTERS };
        self.l1_entries(virtual_size) * 8 <= MAX_L1_BYTES
            && data.saturating_add(data / 8).saturating_add(16) <= most
    }

    /// Clusters that hold so many bytes.
    pub(crate) const fn clusters(self, bytes: u64) -> u64 {
        bytes.div_ceil(self.cluster_size())
    }

    pub(crate) const fn is_aligned(self, offset: u64) -> bool {
        offset.is_multiple_of(self.cluster_size())
    }

    /// Cuts a range of guest bytes at cluster boundaries.
    pub(crate) fn parts(self, offset: u64, len: u64) -> impl Iterator<Item = Part> {
        let mut done = 0;
        std::iter::from_fn(move || {
            if done == len {
                return None;
            }
            let at = offset + done;
            let start = at % self.cluster_size();
            let part = Part {
                cluster: at >> self.cluster_bits,
                start,
                len: (len - done).min(self.cluster_size() - start),
                at: done,
            };
            done += part.len;
            Some(part)
        })
    }
}

/// The part of a range that lies in one cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Number of the guest cluster.
    pub(crate) cluster: u64,
    /// First byte within the cluster.
    pub(crate) start: u64,
    /// Number of bytes.
    pub(crate) len: u64,
    /// First byte within the range.
    pub(crate) at: u64,
}

/// A block of zeroes that stays in the processor's first cache while others are compared with it.
static ZEROES: [u8; 4096] = [0; 4096];

/// Whether every single byte is zero; nothing is sampled.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(ZEROES.len()).all(|chunk| chunk == &ZEROES[..chunk.len()])
}

/// The big-endian words of a table.
pub(crate) fn words(bytes: &[u8]) -> Box<[u64]> {
    bytes
        .chunks_exact(8)
        .map(|word| word.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_cut_at_cluster_boundaries() {
        let geometry = Geometry::new(9).unwrap();
        let parts: Vec<_> = geometry.parts(500, 600).collect();
        assert_eq!(
            parts,
            [
                Part { cluster: 0, start: 500, len: 12, at: 0 },
                Part { cluster: 1, start: 0, len: 512, at: 12 },
                Part { cluster: 2, start: 0, len: 76, at: 524 },
            ]
        );
        assert_eq!(geometry.parts(7, 0).count(), 0);
    }

    #[test]
    fn disks_that_tables_cannot_describe_are_known_before() {
        let allows = |bits, size| Geometry::new(bits).unwrap().allows(size);
        assert!(allows(16, 8 << 40) && allows(16, 64 << 40) && allows(12, 4 << 40));
        assert!(!allows(16, 128 << 40) && !allows(12, 8 << 40) && !allows(16, u64::MAX));
        assert!(allows(9, 100 << 30) && !allows(9, 128 << 30));
    }

    /// Trap C1: one byte anywhere makes a block data.
    #[test]
    fn a_single_byte_anywhere_is_not_zero() {
        let mut bytes = vec![0; 10_000];
        assert!(is_zero(&bytes));
        for at in [0, 1, 4095, 4096, 8191, 8192, 9_999] {
            bytes[at] = 1;
            assert!(!is_zero(&bytes), "byte {at}");
            bytes[at] = 0;
        }
    }
}
