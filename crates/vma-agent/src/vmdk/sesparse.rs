//! The headers of a space-efficient sparse extent (`seSparse`): the delta of a snapshot on VMFS 6.
//!
//! VMware has not published the format; what is known is what qemu reads, which is what ESXi 6.5 and later write.
//! Whatever differs from that is refused, because guessing would serve wrong bytes.

use super::descriptor::SECTOR;
use super::field::long;
use super::layout::{Format, HeaderError, SparseLayout};

/// Bytes of each header.
pub(super) const HEADER_LEN: u64 = SECTOR;

const MAGIC: u64 = 0xcafe_babe;
const VOLATILE_MAGIC: u64 = 0xcafe_cafe;

/// Version 2.1.
const VERSION: u64 = 0x2_0000_0001;

/// Sectors of a grain.
const GRAIN: u64 = 8;

/// Sectors of a grain table.
const TABLE: u64 = 64;

/// The fields of the constant header that matter, in sectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeSparseHeader {
    /// Size of the extent.
    pub capacity: u64,
    /// Where the volatile header lies.
    pub volatile_start: u64,
    directory: u64,
    directory_sectors: u64,
    tables: u64,
    grains: u64,
}

impl SeSparseHeader {
    /// Whether a file that begins like this has such a header.
    pub fn is_one(head: &[u8]) -> bool {
        long(head, 0) == Some(MAGIC)
    }

    /// Parses the first sector of a file: 26 numbers of 8 bytes, then zeroes.
    pub fn parse(head: &[u8]) -> Result<Self, HeaderError> {
        if !Self::is_one(head) {
            return Err(HeaderError::malformed(0, "the magic of a sparse extent is missing"));
        }
        let cut = || HeaderError::malformed(0, "it ends within its header");
        let head = head.get(..512).ok_or_else(cut)?;
        let long = |at| long(head, at).ok_or_else(cut);
        let known = |at, value, name: &str| match long(at)? {
            found if found == value => Ok(()),
            found => {
                Err(HeaderError::Unsupported(format!("a seSparse extent with {name} {found:#x}")))
            }
        };
        known(8, VERSION, "version")?;
        known(24, GRAIN, "grain size")?;
        known(32, TABLE, "grain table size")?;
        for at in [40, 48, 56, 64, 72] {
            known(at, 0, "flags")?;
        }
        if head.iter().skip(26 * 8).any(|it| *it != 0) {
            return Err(HeaderError::Unsupported(
                "a seSparse extent with a longer header".to_owned(),
            ));
        }
        Ok(Self {
            capacity: long(16)?,
            volatile_start: long(80)?,
            directory: long(128)?,
            directory_sectors: long(136)?,
            tables: long(144)?,
            grains: long(192)?,
        })
    }

    /// Refuses an extent whose journal was not written back into its tables.
    pub fn check_volatile(&self, sector: &[u8]) -> Result<(), HeaderError> {
        let offset = self.volatile_start.saturating_mul(SECTOR);
        if long(sector, 0) != Some(VOLATILE_MAGIC) {
            return Err(HeaderError::malformed(offset, "its volatile header is damaged"));
        }
        if long(sector, 24) != Some(0) {
            let what = "a seSparse extent with a journal to replay (start and shut down the VM, or consolidate its snapshots)";
            return Err(HeaderError::Unsupported(what.to_owned()));
        }
        Ok(())
    }

    /// The geometry in a file of this length.
    pub fn layout(&self, file_len: u64) -> Result<SparseLayout, HeaderError> {
        let bytes = |sectors: u64| {
            let out_of_range = HeaderError::malformed(0, "a number in its header is out of range");
            sectors.checked_mul(SECTOR).ok_or(out_of_range)
        };
        let format =
            Format::SeSparse { tables_at: bytes(self.tables)?, grains_at: bytes(self.grains)? };
        let layout = SparseLayout {
            capacity: bytes(self.capacity)?,
            grain: GRAIN * SECTOR,
            directory_at: bytes(self.directory)?,
            directory_entries: bytes(self.directory_sectors)? / 8,
            table_entries: TABLE * SECTOR / 8,
            format,
        };
        layout.checked(file_len)
    }
}
