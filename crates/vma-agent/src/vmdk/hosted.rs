//! The header of a hosted sparse extent (`KDMV`): monolithic, split, and compressed ones.
//!
//! Source of the format: VMware, "Virtual Disk Format 5.0", section "Hosted Sparse Extents".

use super::descriptor::SECTOR;
use super::field::{long, short, word};
use super::layout::{Format, HeaderError, SparseLayout};

/// Bytes of a header, and of each marker.
pub(super) const HEADER_LEN: u64 = SECTOR;

/// Bytes at the end of a file that has its directory at the end: footer marker, footer, end of stream.
pub(super) const FOOTER_LEN: u64 = 3 * SECTOR;

/// What a header has in place of the directory's sector when a footer knows it.
const AT_END: u64 = u64::MAX;

/// Marker type of a footer.
const FOOTER: u32 = 3;

const VALID_NEWLINES: u32 = 1;
const ZERO_GRAINS: u32 = 1 << 2;
const COMPRESSED: u32 = 1 << 16;
const MARKERS: u32 = 1 << 17;

/// The fields of a header, in sectors unless they count entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostedHeader {
    /// Size of the extent.
    pub capacity: u64,
    /// Where an embedded descriptor begins.
    pub descriptor_start: u64,
    /// Its length; 0 where there is none.
    pub descriptor_sectors: u64,
    grain: u64,
    table_entries: u32,
    directory: u64,
    overhead: u64,
    zero_grains: bool,
    packed: bool,
}

impl HostedHeader {
    /// Whether a file that begins like this has such a header.
    pub fn is_one(head: &[u8]) -> bool {
        head.starts_with(b"KDMV")
    }

    /// Parses the first sector of a file.
    pub fn parse(head: &[u8]) -> Result<Self, HeaderError> {
        let malformed = HeaderError::malformed;
        if !Self::is_one(head) {
            return Err(malformed(0, "the magic of a sparse extent is missing"));
        }
        let cut = || malformed(0, "it ends within its header");
        let word = |at| word(head, at).ok_or_else(cut);
        let long = |at| long(head, at).ok_or_else(cut);
        let version = word(4)?;
        if !(1..=3).contains(&version) {
            return Err(HeaderError::Unsupported(format!("sparse header version {version}")));
        }
        let flags = word(8)?;
        let method = short(head, 77).ok_or_else(cut)?;
        if flags & VALID_NEWLINES != 0 && head.get(73..77) != Some(b"\n \r\n") {
            return Err(malformed(73, "it was altered by a transfer as text"));
        }
        let packed = match (method, flags & COMPRESSED != 0) {
            (0, false) => false,
            (1, true) if flags & MARKERS != 0 => true,
            _ => {
                let what = format!("compression method {method} with flags {flags:#x}");
                return Err(HeaderError::Unsupported(what));
            }
        };
        let table_entries = word(44)?;
        if !(1..=512).contains(&table_entries) {
            return Err(malformed(44, "its grain tables have not between 1 and 512 entries"));
        }
        Ok(Self {
            capacity: long(12)?,
            grain: long(20)?,
            descriptor_start: long(28)?,
            descriptor_sectors: long(36)?,
            table_entries,
            directory: long(56)?,
            overhead: long(64)?,
            zero_grains: flags & ZERO_GRAINS != 0,
            packed,
        })
    }

    /// Parses the last three sectors of a file whose header says that the directory is at the end.
    pub fn parse_footer(&self, tail: &[u8]) -> Result<Self, HeaderError> {
        let refuse =
            || HeaderError::malformed(0, "it has no footer, so it was not written to its end");
        let sector = |number: usize| tail.get(number * 512..(number + 1) * 512).ok_or_else(refuse);
        let (marker, footer, end) = (sector(0)?, sector(1)?, sector(2)?);
        let is_footer = word(marker, 8) == Some(0) && word(marker, 12) == Some(FOOTER);
        let is_end = end.iter().take(16).all(|it| *it == 0);
        if !is_footer || !is_end {
            return Err(refuse());
        }
        let footer = Self::parse(footer)?;
        if footer.directory == AT_END || footer.capacity != self.capacity {
            return Err(HeaderError::malformed(0, "its footer does not fit its header"));
        }
        Ok(footer)
    }

    /// Whether the footer has to be asked where the directory is.
    pub const fn has_footer(&self) -> bool {
        self.directory == AT_END
    }

    /// The geometry in a file of this length.
    pub fn layout(&self, file_len: u64) -> Result<SparseLayout, HeaderError> {
        let bytes = |sectors: u64| {
            let out_of_range = HeaderError::malformed(0, "a number in its header is out of range");
            sectors.checked_mul(SECTOR).ok_or(out_of_range)
        };
        if bytes(self.overhead)? > file_len {
            return Err(HeaderError::malformed(file_len, "the file is cut off"));
        }
        let (capacity, grain) = (bytes(self.capacity)?, bytes(self.grain)?);
        let table_entries = u64::from(self.table_entries);
        let coverage = grain.checked_mul(table_entries).filter(|it| *it > 0);
        let coverage =
            coverage.ok_or(HeaderError::malformed(20, "its grain size is 0 or out of range"))?;
        let layout = SparseLayout {
            capacity,
            grain,
            directory_at: bytes(self.directory)?,
            directory_entries: capacity.div_ceil(coverage),
            table_entries,
            format: Format::Hosted { zero_grains: self.zero_grains, packed: self.packed },
        };
        layout.checked(file_len)
    }
}
