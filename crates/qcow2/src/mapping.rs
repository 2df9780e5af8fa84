//! L2 entries: what the format says about one guest cluster.

use hub_block::BlockError;

use crate::format::{COMPRESSED, COPIED, Geometry, OFFSET, ZERO};

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
}

/// Why an L2 entry cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryFault {
    /// It makes no sense.
    Corrupt(&'static str),
    /// It is a compressed cluster, which this crate does not read.
    Compressed,
}

impl EntryFault {
    /// The error of a device, with the place of the entry and the file it stands in.
    pub(crate) fn at(self, offset: u64, file: &str) -> BlockError {
        match self {
            Self::Corrupt(what) => {
                BlockError::Corrupt { offset, what: format!("{what} in {file}") }
            }
            Self::Compressed => BlockError::Unsupported(format!(
                "the compressed cluster that the entry at offset {offset} of {file} describes"
            )),
        }
    }
}

impl Mapping {
    /// Reads an entry; host clusters must be aligned, behind the header and begin before `file_end`.
    pub(crate) fn decode(raw: u64, geometry: Geometry, file_end: u64) -> Result<Self, EntryFault> {
        if raw & COMPRESSED != 0 {
            return Err(EntryFault::Compressed);
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

    /// The entry for it; every host cluster of ours has a refcount of one.
    pub(crate) const fn encode(self) -> u64 {
        match self {
            Self::Absent => 0,
            Self::Zero { host: None } => ZERO,
            Self::Zero { host: Some(host) } => host | COPIED | ZERO,
            Self::Data { host } => host | COPIED,
        }
    }

    /// The host cluster it occupies.
    pub(crate) const fn host(self) -> Option<u64> {
        match self {
            Self::Absent => None,
            Self::Zero { host } => host,
            Self::Data { host } => Some(host),
        }
    }
}

#[cfg(test)]
mod tests {
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
            assert_eq!(Mapping::decode(mapping.encode(), geometry, 0x8_0000), Ok(mapping));
        }
    }

    #[test]
    fn senseless_entries_are_refused() {
        let geometry = Geometry::new(16).unwrap();
        for raw in [COPIED, 2, 0x1_0200, 0x8_0000, 1 << 56] {
            let decoded = Mapping::decode(raw, geometry, 0x8_0000);
            assert!(matches!(decoded, Err(EntryFault::Corrupt(_))), "{raw:#x}");
        }
        assert_eq!(Mapping::decode(COMPRESSED, geometry, 1), Err(EntryFault::Compressed));
    }
}
