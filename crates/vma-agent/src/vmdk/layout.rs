//! Where a sparse extent keeps its tables and grains: what all sparse formats have in common.
//!
//! A grain directory names grain tables, and a grain table names grains; both are arrays of little-endian numbers.

use super::descriptor::{MAX_CAPACITY, SECTOR};

/// The largest grain that is believed, in bytes; qemu sets the same limit.
const MAX_GRAIN: u64 = 1 << 30;

/// The largest compressed grain, in bytes; it has to be inflated in memory, and real ones have 64 KiB.
const MAX_PACKED_GRAIN: u64 = 1 << 20;

/// Why the header of a sparse extent is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// A variant of the format that is not read.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// A number or a mark that makes no sense.
    #[error("{what}, at byte {offset} of the file")]
    Malformed {
        /// Where it stands in the file.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
}

impl HeaderError {
    pub(super) const fn malformed(offset: u64, what: &'static str) -> Self {
        Self::Malformed { offset, what }
    }
}

/// The checked geometry of a sparse extent; all numbers are bytes unless they count entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SparseLayout {
    pub(super) capacity: u64,
    /// A power of two.
    pub(super) grain: u64,
    pub(super) directory_at: u64,
    pub(super) directory_entries: u64,
    pub(super) table_entries: u64,
    pub(super) format: Format,
}

/// What an entry means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// `KDMV`: entries of 4 bytes are sectors.
    Hosted {
        /// Whether entry 1 is a grain of zeroes.
        zero_grains: bool,
        /// Whether grains are compressed.
        packed: bool,
    },
    /// `COWD`: entries of 4 bytes are sectors.
    Cowd,
    /// Entries of 8 bytes whose first four bits say what they are; tables and grains are numbered.
    SeSparse { tables_at: u64, grains_at: u64 },
}

/// What a grain table says about a grain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grain {
    /// The parent has it; without a parent it reads as zeroes.
    Absent,
    /// It reads as zeroes, whatever the parent has.
    Zero,
    /// It begins at this byte of the file.
    At(u64),
}

impl SparseLayout {
    /// Admits a layout whose directory lies in a file of this length and covers the capacity.
    pub(super) fn checked(self, file_len: u64) -> Result<Self, HeaderError> {
        let refuse = |what| Err(HeaderError::malformed(0, what));
        if self.capacity == 0 || self.capacity > MAX_CAPACITY {
            return refuse("its header has a capacity of 0 or more than 1 PiB");
        }
        if !self.grain.is_power_of_two() || !(SECTOR..=MAX_GRAIN).contains(&self.grain) {
            return refuse("its grains have no size that is a power of two between 512 and 2^30");
        }
        if self.is_packed() && self.grain > MAX_PACKED_GRAIN {
            let what = format!("a compressed grain of {} bytes", self.grain);
            return Err(HeaderError::Unsupported(what));
        }
        if !(1..=4096).contains(&self.table_entries) {
            return refuse("its grain tables have not between 1 and 4096 entries");
        }
        if self.directory_entries < self.capacity.div_ceil(self.coverage()) {
            return refuse("its grain directory is too short for its capacity");
        }
        let len = self.directory_entries.checked_mul(self.entry_bytes());
        let end = len.and_then(|it| self.directory_at.checked_add(it));
        if self.directory_at < SECTOR || end.is_none_or(|it| it > file_len) {
            return Err(HeaderError::malformed(
                self.directory_at,
                "its grain directory lies outside the file or over the header",
            ));
        }
        Ok(self)
    }

    pub(super) const fn is_packed(&self) -> bool {
        matches!(self.format, Format::Hosted { packed: true, .. })
    }

    /// Bytes per entry of directory and tables.
    pub(super) const fn entry_bytes(&self) -> u64 {
        if matches!(self.format, Format::SeSparse { .. }) { 8 } else { 4 }
    }

    pub(super) const fn directory_len(&self) -> u64 {
        self.directory_entries.saturating_mul(self.entry_bytes())
    }

    pub(super) const fn table_len(&self) -> u64 {
        self.table_entries * self.entry_bytes()
    }

    /// How much of the disk one table describes.
    pub(super) const fn coverage(&self) -> u64 {
        self.table_entries * self.grain
    }

    /// How much of the grain that starts here belongs to the disk; the last grain may be cut.
    pub(super) fn used(&self, grain_start: u64) -> u64 {
        self.grain.min(self.capacity.saturating_sub(grain_start))
    }

    /// Where the table of a directory's entry begins; nothing where no table was needed so far.
    pub(super) fn table_at(&self, entry: u64) -> Result<Option<u64>, &'static str> {
        if entry == 0 {
            return Ok(None);
        }
        match self.format {
            Format::Hosted { .. } | Format::Cowd => Ok(Some(entry * SECTOR)),
            Format::SeSparse { tables_at, .. } => {
                if entry >> 32 != 0x1000_0000 {
                    return Err("an entry of the grain directory is of no known kind");
                }
                let number = entry & 0xffff_ffff;
                let at = tables_at.checked_add(number * self.table_len());
                at.map(Some).ok_or("an entry of the grain directory is out of range")
            }
        }
    }

    /// What an entry of a table says.
    pub(super) fn grain(&self, entry: u64) -> Result<Grain, &'static str> {
        match (self.format, entry) {
            (_, 0) => Ok(Grain::Absent),
            (Format::Hosted { zero_grains: true, .. }, 1) => Ok(Grain::Zero),
            (Format::Hosted { .. } | Format::Cowd, _) => Ok(Grain::At(entry * SECTOR)),
            (Format::SeSparse { grains_at, .. }, _) => match entry >> 60 {
                // Unmapped by the guest, or written with zeroes: both hide the parent.
                1 | 2 => Ok(Grain::Zero),
                3 => {
                    let number = (entry >> 48 & 0xfff) | (entry & 0x0000_ffff_ffff_ffff) << 12;
                    let at =
                        number.checked_mul(self.grain).and_then(|it| it.checked_add(grains_at));
                    at.map(Grain::At).ok_or("an entry of a grain table is out of range")
                }
                _ => Err("an entry of a grain table is of no known kind"),
            },
        }
    }

    /// Refuses a table or a grain that leaves the file, or that lies over the header or the directory.
    pub(super) fn check_place(&self, at: u64, len: u64, file_len: u64) -> Result<(), &'static str> {
        let end = at.checked_add(len).filter(|it| *it <= file_len);
        let end = end.ok_or("it lies beyond the end of the file")?;
        let directory_end = self.directory_at.saturating_add(self.directory_len());
        if at < SECTOR || (at < directory_end && self.directory_at < end) {
            return Err("it lies over the header or the grain directory");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn layout(format: Format) -> SparseLayout {
        SparseLayout {
            capacity: 1 << 30,
            grain: 4096,
            directory_at: 4096,
            directory_entries: 1 << 16,
            table_entries: 4096,
            format,
        }
    }

    const SE: Format = Format::SeSparse { tables_at: 1 << 20, grains_at: 1 << 30 };

    #[test]
    fn entries_of_four_bytes_are_sectors() {
        let hosted = |zero_grains| layout(Format::Hosted { zero_grains, packed: false });
        assert_eq!(hosted(true).grain(0), Ok(Grain::Absent));
        assert_eq!(hosted(true).grain(1), Ok(Grain::Zero));
        assert_eq!(hosted(false).grain(1), Ok(Grain::At(512)));
        assert_eq!(layout(Format::Cowd).grain(1), Ok(Grain::At(512)));
        assert_eq!(hosted(true).table_at(3), Ok(Some(1536)));
        assert_eq!(hosted(true).table_at(0), Ok(None));
    }

    #[test]
    fn entries_of_eight_bytes_say_what_they_are() {
        let it = layout(SE);
        assert_eq!(it.grain(0), Ok(Grain::Absent));
        assert_eq!(it.grain(1 << 60), Ok(Grain::Zero));
        assert_eq!(it.grain(2 << 60), Ok(Grain::Zero));
        assert_eq!(it.grain(3 << 60), Ok(Grain::At(1 << 30)));
        // The low twelve bits of a number stand above the others.
        assert_eq!(it.grain(3 << 60 | 5 << 48), Ok(Grain::At((1 << 30) + 5 * 4096)));
        assert_eq!(it.grain(3 << 60 | 1), Ok(Grain::At((1 << 30) + 4096 * 4096)));
        for bad in [1, 4 << 60, u64::MAX, 3 << 60 | 0xffff_ffff_ffff] {
            it.grain(bad).unwrap_err();
        }
        assert_eq!(it.table_at(0x1000_0000_0000_0002), Ok(Some((1 << 20) + 2 * 32_768)));
        for bad in [2, 0x2000_0000_0000_0002, 0x1000_0001_0000_0000] {
            it.table_at(bad).unwrap_err();
        }
    }

    #[test]
    fn a_layout_that_makes_no_sense_is_refused() {
        let good = || layout(Format::Cowd);
        good().checked(1 << 20).unwrap();
        let refused = |change: fn(&mut SparseLayout)| {
            let mut it = good();
            change(&mut it);
            it.checked(1 << 20).unwrap_err();
        };
        refused(|it| it.capacity = 0);
        refused(|it| it.capacity = u64::MAX);
        refused(|it| it.grain = 0);
        refused(|it| it.grain = 1536);
        refused(|it| it.grain = 256);
        refused(|it| it.grain = 1 << 31);
        refused(|it| it.table_entries = 0);
        refused(|it| it.table_entries = 4097);
        refused(|it| it.directory_entries = 63);
        refused(|it| it.directory_entries = u64::MAX);
        refused(|it| it.directory_at = 0);
        refused(|it| it.directory_at = u64::MAX - 3);
        refused(|it| it.directory_at = (1 << 20) - 4);
    }

    proptest! {
        #[test]
        fn no_entry_makes_it_panic(entry: u64, se: bool, packed: bool, zero_grains: bool) {
            let format = if se { SE } else { Format::Hosted { zero_grains, packed } };
            let it = layout(format);
            // An entry of four bytes is read as such.
            let entry = if se { entry } else { entry >> 32 };
            if let Ok(Some(at)) = it.table_at(entry) {
                let _ = it.check_place(at, it.table_len(), 1 << 20);
            }
            if let Ok(Grain::At(at)) = it.grain(entry) {
                let admitted = it.check_place(at, it.grain, 1 << 20).is_ok();
                prop_assert_eq!(admitted, at >= 512 && at.saturating_add(4096) <= 1 << 20
                    && (at + 4096 <= 4096 || at >= 4096 + it.directory_len()));
            }
        }
    }
}
