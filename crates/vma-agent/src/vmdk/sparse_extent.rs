//! A sparse extent: looks up grains in its tables, some of which are kept in memory.

use std::ops::Range;
use std::sync::Arc;

use hub_block::BlockError;

use super::VmdkError;
use super::cowd::CowdHeader;
use super::descriptor::SECTOR;
use super::field::{long, word};
use super::hosted::{self, HostedHeader};
use super::layout::{Grain, HeaderError, SparseLayout};
use super::open_file::OpenFile;
use super::packed_grain::{MARKER_LEN, PackedGrain};
use super::sesparse::{self, SeSparseHeader};
use super::table_cache::{TableCache, TableKey};

/// The directory is read in pages of so many bytes.
const DIRECTORY_PAGE: u64 = 4096;

/// An open extent with grain tables.
#[derive(Debug)]
pub(super) struct SparseExtent {
    pub(super) file: OpenFile,
    layout: SparseLayout,
    /// Its number among all extents of the disk.
    number: u32,
}

/// A table and where it lies in the file.
type PlacedTable = (u64, Arc<[u8]>);

/// What an extent says about a run of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing; the parent has it.
    Absent,
    /// Zeroes.
    Zero,
    /// The bytes lie in the file from here on.
    At(u64),
    /// They are a part of this grain, from this byte of it on.
    Packed(PackedGrain, usize),
}

impl SparseExtent {
    /// Reads the headers and checks that they fit the descriptor, which gives the extent this many bytes.
    pub(super) fn open(file: OpenFile, capacity: u64, number: u32) -> Result<Self, VmdkError> {
        let layout = read_layout(&file)?;
        if layout.capacity != capacity {
            return Err(VmdkError::BadExtent { file: file.name, what: "its capacity differs" });
        }
        Ok(Self { file, layout, number })
    }

    /// Tells `each` about a range of the extent, in order and without gaps.
    pub(super) fn runs(
        &self,
        cache: &TableCache,
        range: Range<u64>,
        each: &mut dyn FnMut(Range<u64>, Found) -> Result<(), BlockError>,
    ) -> Result<(), BlockError> {
        let coverage = self.layout.coverage();
        // What is absent is asked of the parent, so it is told in one piece.
        let mut absent: Option<Range<u64>> = None;
        let mut joined = |run: Range<u64>, found| match (&mut absent, found) {
            (Some(before), Found::Absent) => {
                before.end = run.end;
                Ok(())
            }
            (None, Found::Absent) => {
                absent = Some(run);
                Ok(())
            }
            _ => {
                absent.take().map_or(Ok(()), |it| each(it, Found::Absent))?;
                each(run, found)
            }
        };
        let mut at = range.start;
        while at < range.end {
            let index = at / coverage;
            let stop = range.end.min((index + 1) * coverage);
            match self.table(cache, index)? {
                None => joined(at..stop, Found::Absent)?,
                Some((table_at, table)) => {
                    self.table_runs(&table, table_at, at..stop, &mut joined)?;
                }
            }
            at = stop;
        }
        absent.map_or(Ok(()), |it| each(it, Found::Absent))
    }

    fn table_runs(
        &self,
        table: &[u8],
        table_at: u64,
        range: Range<u64>,
        each: &mut dyn FnMut(Range<u64>, Found) -> Result<(), BlockError>,
    ) -> Result<(), BlockError> {
        let layout = &self.layout;
        let mut at = range.start;
        while at < range.end {
            let start = at / layout.grain * layout.grain;
            let stop = range.end.min(start + layout.grain);
            let index = at % layout.coverage() / layout.grain;
            let place = table_at + index * layout.entry_bytes();
            let broken = |what| self.file.corrupt(place, what);
            let found = match layout.grain(self.entry(table, index)).map_err(broken)? {
                Grain::Absent => Found::Absent,
                Grain::Zero => Found::Zero,
                Grain::At(stored) if layout.is_packed() => {
                    let least = MARKER_LEN as u64;
                    layout.check_place(stored, least, self.file.len).map_err(broken)?;
                    let grain = self.packed(stored, start);
                    Found::Packed(grain, usize::try_from(at - start).unwrap_or(usize::MAX))
                }
                Grain::At(stored) => {
                    let used = layout.used(start);
                    layout.check_place(stored, used, self.file.len).map_err(broken)?;
                    Found::At(stored + (at - start))
                }
            };
            each(at..stop, found)?;
            at = stop;
        }
        Ok(())
    }

    fn packed(&self, at: u64, start: u64) -> PackedGrain {
        let bytes = |it| usize::try_from(it).unwrap_or(usize::MAX);
        let (grain, used) = (bytes(self.layout.grain), bytes(self.layout.used(start)));
        PackedGrain { at, start, grain, used }
    }

    /// The table that describes a stretch of the disk, and where it lies; nothing when the directory has none.
    fn table(&self, cache: &TableCache, index: u64) -> Result<Option<PlacedTable>, BlockError> {
        let layout = &self.layout;
        let entry_at = index * layout.entry_bytes();
        let page = entry_at / DIRECTORY_PAGE * DIRECTORY_PAGE;
        let page_len = DIRECTORY_PAGE.min(layout.directory_len() - page);
        let directory = self.read(cache, layout.directory_at + page, page_len)?;
        let entry = self.entry(&directory, (entry_at - page) / layout.entry_bytes());
        let broken = |what| self.file.corrupt(layout.directory_at + entry_at, what);
        let Some(at) = layout.table_at(entry).map_err(broken)? else { return Ok(None) };
        layout.check_place(at, layout.table_len(), self.file.len).map_err(broken)?;
        Ok(Some((at, self.read(cache, at, layout.table_len())?)))
    }

    fn read(&self, cache: &TableCache, at: u64, len: u64) -> Result<Arc<[u8]>, BlockError> {
        cache.get(TableKey { extent: self.number, at }, || {
            let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
            self.file.read(at, &mut bytes)?;
            Ok(bytes.into())
        })
    }

    fn entry(&self, table: &[u8], index: u64) -> u64 {
        let at = usize::try_from(index * self.layout.entry_bytes()).unwrap_or(usize::MAX);
        let entry = if self.layout.entry_bytes() == 8 {
            long(table, at)
        } else {
            word(table, at).map(u64::from)
        };
        entry.unwrap_or(0)
    }
}

/// Finds out by its magic what an extent is, and reads its headers.
fn read_layout(file: &OpenFile) -> Result<SparseLayout, VmdkError> {
    let refuse = |source| VmdkError::Header { file: file.name.clone(), source };
    let sectors = |at: u64, len: u64| {
        let mut bytes = vec![0; usize::try_from(len.min(file.len.saturating_sub(at))).unwrap_or(0)];
        match file.read(at, &mut bytes) {
            Ok(()) => Ok(bytes),
            Err(BlockError::Io(source)) => Err(VmdkError::io(&file.name, source)),
            Err(_) => Err(refuse(HeaderError::malformed(at, "the file is cut off"))),
        }
    };
    let head = sectors(0, SECTOR)?;
    if HostedHeader::is_one(&head) {
        let header = HostedHeader::parse(&head).map_err(refuse)?;
        if !header.has_footer() {
            return header.layout(file.len).map_err(refuse);
        }
        let tail_at = file.len.saturating_sub(hosted::FOOTER_LEN);
        let footer = header.parse_footer(&sectors(tail_at, hosted::FOOTER_LEN)?);
        return footer.and_then(|it| it.layout(file.len)).map_err(refuse);
    }
    if CowdHeader::is_one(&head) {
        return CowdHeader::parse(&head).and_then(|it| it.layout(file.len)).map_err(refuse);
    }
    let header = SeSparseHeader::parse(&head).map_err(refuse)?;
    let volatile_at = header.volatile_start.saturating_mul(SECTOR);
    header.check_volatile(&sectors(volatile_at, sesparse::HEADER_LEN)?).map_err(refuse)?;
    header.layout(file.len).map_err(refuse)
}
