//! L2 entries: what the format says about one guest cluster.

use std::ops::Range;

use hub_block::BlockError;

use crate::format::{COMPRESSED, COPIED, Geometry, OFFSET, SECTOR, ZERO};

/// What one L2 entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mapping {
    /// Nothing here; the backing file answers, or zeroes.
    Absent,
    /// Reads as zeroes; a host cluster may be kept for later.
    Zero {
        /// Offset of the kept cluster.
        host: Option<u64>,
    },
    /// The bytes lie at this offset of the file.
    Data {
        /// Offset of the cluster.
        host: u64,
    },
    /// The bytes lie compressed in the file.
    Compressed {
        /// Offset of the first compressed byte, which may be any byte behind the header's cluster.
        host: u64,
        /// Most bytes that they take, which is never more than two clusters: to the end of their last
        /// sector of 512 bytes, whose tail is not theirs, nor need it lie within the file.
        len: u64,
    },
}

/// Why an L2 entry cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryFault {
    /// It makes no sense.
    Corrupt(&'static str),
}

impl EntryFault {
    /// The error of a device, with the place of the entry and the file it stands in.
    pub(crate) fn at(self, offset: u64, file: &str) -> BlockError {
        match self {
            Self::Corrupt(what) => {
                BlockError::Corrupt { offset, what: format!("{what} in {file}") }
            }
        }
    }
}

impl Mapping {
    /// Reads an entry; host clusters must be aligned, behind the header and begin before `file_end`.
    pub(crate) fn decode(raw: u64, geometry: Geometry, file_end: u64) -> Result<Self, EntryFault> {
        if raw & COMPRESSED != 0 {
            return Self::decode_compressed(raw, geometry, file_end);
        }
        if raw & !(COPIED | OFFSET | ZERO) != 0 {
            return Err(EntryFault::Corrupt("reserved bits are set in an L2 entry"));
        }
        let host = raw & OFFSET;
        if host == 0 {
            return match raw {
                0 => Ok(Self::Absent),
                ZERO => Ok(Self::Zero { host: None }),
                _ => Err(EntryFault::Corrupt("an L2 entry is flagged but has no cluster")),
            };
        }
        if !geometry.is_aligned(host) {
            return Err(EntryFault::Corrupt("an L2 entry is not aligned to a cluster"));
        }
        if host >= file_end {
            return Err(EntryFault::Corrupt("an L2 entry points behind the end of the file"));
        }
        if raw & ZERO == 0 { Ok(Self::Data { host }) } else { Ok(Self::Zero { host: Some(host) }) }
    }

    fn decode_compressed(raw: u64, geometry: Geometry, file_end: u64) -> Result<Self, EntryFault> {
        if raw & COPIED != 0 {
            return Err(EntryFault::Corrupt("a compressed L2 entry says that its refcount is one"));
        }
        let shift = geometry.sectors_shift();
        let host = raw & ((1 << shift) - 1);
        // The first sector is not counted.
        let further = (raw & !COMPRESSED) >> shift;
        if host < geometry.cluster_size() {
            return Err(EntryFault::Corrupt("a compressed L2 entry points to the header"));
        }
        if host >= file_end {
            return Err(EntryFault::Corrupt("an L2 entry points behind the end of the file"));
        }
        Ok(Self::Compressed { host, len: (further + 1) * SECTOR - host % SECTOR })
    }

    /// The mapping of a stream of `len` bytes at `host`, if an entry can say it.
    pub(crate) fn compressed(host: u64, len: u64, geometry: Geometry) -> Option<Self> {
        let end = host.checked_add(len)?.checked_next_multiple_of(SECTOR)?;
        let shift = geometry.sectors_shift();
        let further = end / SECTOR - host / SECTOR;
        let fits = len > 0 && end <= 1 << shift && further <= geometry.cluster_size() / 256;
        fits.then_some(Self::Compressed { host, len: end - host })
    }

    /// The entry for it; every host cluster that is not compressed has a refcount of one.
    pub(crate) const fn encode(self, geometry: Geometry) -> u64 {
        match self {
            Self::Absent => 0,
            Self::Zero { host: None } => ZERO,
            Self::Zero { host: Some(host) } => host | COPIED | ZERO,
            Self::Data { host } => host | COPIED,
            Self::Compressed { host, len } => {
                let further = (host + len - 1) / SECTOR - host / SECTOR;
                COMPRESSED | further << geometry.sectors_shift() | host
            }
        }
    }

    /// Numbers of the host clusters that an entry of our own making refers to.
    pub(crate) fn referred(raw: u64, geometry: Geometry) -> Range<u64> {
        Self::decode(raw, geometry, u64::MAX).map_or(0..0, |it| it.host_clusters(geometry))
    }

    /// Numbers of the host clusters that it takes: one of its own, or those that hold a part of the
    /// compressed bytes, which it shares with others.
    pub(crate) fn host_clusters(self, geometry: Geometry) -> Range<u64> {
        let size = geometry.cluster_size();
        match self {
            Self::Absent | Self::Zero { host: None } => 0..0,
            Self::Zero { host: Some(host) } | Self::Data { host } => host / size..host / size + 1,
            Self::Compressed { host, len } => host / size..(host + len).div_ceil(size),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn entries_come_back() {
        let geometry = Geometry::new(16).unwrap();
        for mapping in [
            Mapping::Absent,
            Mapping::Zero { host: None },
            Mapping::Zero { host: Some(0x1_0000) },
            Mapping::Data { host: 0x7_0000 },
        ] {
            assert_eq!(Mapping::decode(mapping.encode(geometry), geometry, 0x8_0000), Ok(mapping));
        }
    }

    /// The format's own example of an entry: at 64 KiB, the offset has 54 bits and the count 8.
    #[test]
    fn a_compressed_entry_has_the_bits_of_the_format() {
        let geometry = Geometry::new(16).unwrap();
        let raw = 1 << 62 | 2 << 54 | 0x1_23F0;
        let mapping = Mapping::Compressed { host: 0x1_23F0, len: 0x10 + 1024 };
        assert_eq!(Mapping::decode(raw, geometry, 0x2_0000), Ok(mapping));
        assert_eq!(Mapping::compressed(0x1_23F0, 0x10 + 513, geometry), Some(mapping));
        assert_eq!(mapping.encode(geometry), raw);
        assert_eq!(mapping.host_clusters(geometry), 1..2);
        let across = Mapping::compressed(0x1_FFFF, 2, geometry).unwrap();
        assert_eq!(across.host_clusters(geometry), 1..3);
        assert_eq!(
            Mapping::compressed(0x1_FFFF, 1, geometry).unwrap().host_clusters(geometry),
            1..2
        );
    }

    #[test]
    fn senseless_entries_are_refused() {
        let geometry = Geometry::new(16).unwrap();
        let compressed = [
            COMPRESSED,
            COMPRESSED | 0xFFFF,
            COMPRESSED | 0x8_0000,
            COMPRESSED | COPIED | 0x1_0000,
        ];
        for raw in [COPIED, 2, 0x1_0200, 0x8_0000, 1 << 56].into_iter().chain(compressed) {
            let decoded = Mapping::decode(raw, geometry, 0x8_0000);
            assert!(matches!(decoded, Err(EntryFault::Corrupt(_))), "{raw:#x}");
        }
        assert_eq!(Mapping::compressed(0x1_0000, 0, geometry), None);
        assert_eq!(Mapping::compressed(1 << 54, 1, geometry), None);
        assert_eq!(Mapping::compressed(u64::MAX, 1, geometry), None);
        assert_eq!(Mapping::compressed(0x1_0000, 0x3_0000, geometry), None);
    }

    proptest! {
        #[test]
        fn compressed_entries_come_back(
            bits in 9_u32..=21, host in 1_u64 << 21..1 << 45, len in 1_u64..1 << 21
        ) {
            let geometry = Geometry::new(bits).unwrap();
            let len = len.min(geometry.cluster_size());
            let mapping = Mapping::compressed(host, len, geometry).unwrap();
            let Mapping::Compressed { host: begins, len: taken } = mapping else { panic!("{mapping:?}") };
            prop_assert!(begins == host && taken >= len && taken < len + SECTOR);
            prop_assert_eq!(Mapping::decode(mapping.encode(geometry), geometry, u64::MAX), Ok(mapping));
            let clusters = mapping.host_clusters(geometry);
            prop_assert_eq!(clusters.start, host >> bits);
            prop_assert_eq!(clusters.end, ((host + len - 1) >> bits) + 1);
        }

        /// Whatever an entry holds, it is refused or bounded by the file and two clusters.
        #[test]
        fn any_entry_is_bounded(bits in 9_u32..=21, raw in any::<u64>(), end in any::<u64>()) {
            let geometry = Geometry::new(bits).unwrap();
            match Mapping::decode(raw, geometry, end) {
                Ok(Mapping::Compressed { host, len }) => {
                    prop_assert!(host < end && len > 0 && len <= 2 * geometry.cluster_size());
                    let again = Mapping::Compressed { host, len }.encode(geometry);
                    prop_assert_eq!(again, raw);
                }
                Ok(mapping) => prop_assert!(mapping.host_clusters(geometry).all(|it| it << bits < end)),
                Err(EntryFault::Corrupt(_)) => (),
            }
        }
    }
}
