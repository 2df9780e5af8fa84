//! The header of a `COWD` extent: the delta of a snapshot on VMFS up to version 5, and thin disks of old.
//!
//! Source of the format: VMware, "Virtual Disk Format 5.0", section "ESX Server Sparse Extents".

use super::descriptor::SECTOR;
use super::field::word;
use super::layout::{Format, HeaderError, SparseLayout};

/// Every grain table has so many entries.
const TABLE_ENTRIES: u64 = 4096;

/// The fields of a header that matter, in sectors unless they count entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CowdHeader {
    /// Size of the extent.
    pub capacity: u32,
    grain: u32,
    directory: u32,
    directory_entries: u32,
}

impl CowdHeader {
    /// Whether a file that begins like this has such a header.
    pub fn is_one(head: &[u8]) -> bool {
        head.starts_with(b"COWD")
    }

    /// Parses the beginning of a file: magic, version, flags, capacity, grain size, directory and its entries,
    /// each of 4 bytes.
    pub fn parse(head: &[u8]) -> Result<Self, HeaderError> {
        if !Self::is_one(head) {
            return Err(HeaderError::malformed(0, "the magic of a sparse extent is missing"));
        }
        let cut = HeaderError::malformed(0, "it ends within its header");
        let (Some(version), Some(capacity), Some(grain), Some(directory), Some(directory_entries)) =
            (word(head, 4), word(head, 12), word(head, 16), word(head, 20), word(head, 24))
        else {
            return Err(cut);
        };
        if version != 1 {
            return Err(HeaderError::Unsupported(format!("COWD header version {version}")));
        }
        Ok(Self { capacity, grain, directory, directory_entries })
    }

    /// The geometry in a file of this length.
    pub fn layout(&self, file_len: u64) -> Result<SparseLayout, HeaderError> {
        let layout = SparseLayout {
            capacity: u64::from(self.capacity) * SECTOR,
            grain: u64::from(self.grain) * SECTOR,
            directory_at: u64::from(self.directory) * SECTOR,
            directory_entries: u64::from(self.directory_entries),
            table_entries: TABLE_ENTRIES,
            format: Format::Cowd,
        };
        layout.checked(file_len)
    }
}
