//! Changed areas: what the server answers is checked here before anybody relies on it.

use std::ops::Range;
use std::time::Duration;

/// The most areas that are kept; a disk with more is read as a whole, which costs less than the list.
const MAX_AREAS: u64 = 1 << 20;

/// The same for a disk whose size allows less: finer than this no change tracking is.
const AREA_BYTES: u64 = 4096;

/// The most answers about one disk.
const MAX_PAGES: u64 = 10_000;

/// What an answer covers at least, where there are many: two thousand areas, each with a gap behind it.
const PAGE_BYTES: u64 = 2000 * 2 * AREA_BYTES;

/// So many answers and areas a disk may have, however small it is.
const FEW_PAGES: u64 = 64;
const FEW_AREAS: u64 = 1024;

/// One answer, as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AreaPage {
    /// Where it begins.
    pub start: i64,
    /// How much of the disk it covers.
    pub length: i64,
    /// Offset and length of each changed area.
    pub areas: Vec<(i64, i64)>,
}

/// An answer that nobody may rely on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadAreas {
    /// It is not about the place that was asked for.
    #[error("the answer about changes begins at {found} and not at {asked}")]
    WrongStart {
        /// What was asked for.
        asked: u64,
        /// What came.
        found: i64,
    },
    /// Asking on would never end.
    #[error("the answer about changes covers {0} bytes and leads nowhere")]
    NoProgress(i64),
    /// It covers what the disk does not have.
    #[error("the answer about changes goes beyond the end of the disk")]
    BeyondEnd,
    /// An area is empty, negative, or outside what the answer covers.
    #[error("the changed area at {start} of {length} bytes lies outside of its answer")]
    Outside {
        /// Where it begins.
        start: i64,
        /// How long it is.
        length: i64,
    },
    /// The answers end before the disk does.
    #[error("the answers about changes end before the disk does")]
    Incomplete,
    /// The list would cost more than reading the disk.
    #[error("the changes are too scattered to list")]
    TooMany,
    /// The answers are too small to get anywhere.
    #[error("the answers about changes are too many: {0} have not come to the end of the disk")]
    TooManyPages(u64),
    /// The answers come too slowly.
    #[error("the answers about changes have not come to the end of the disk within {} s", .0.as_secs_f64())]
    TooSlow(Duration),
}

/// Collects the answers about one disk, from its beginning to its end.
///
/// Within one answer areas may come in any order and overlap: reading a byte too many is no fault.
/// Whatever could mean that a change is missing is refused.
#[derive(Clone, Debug)]
pub struct AreaPlanner {
    capacity: u64,
    next: u64,
    pages: u64,
    areas: Vec<Range<u64>>,
}

impl AreaPlanner {
    /// A planner for a disk of so many bytes.
    pub const fn new(capacity: u64) -> Self {
        Self { capacity, next: 0, pages: 0, areas: Vec::new() }
    }

    /// Where to ask next; none at the end, where a server would refuse the question.
    pub const fn next_start(&self) -> Option<u64> {
        if self.next < self.capacity { Some(self.next) } else { None }
    }

    /// Takes the answer to the question at [`next_start`](Self::next_start).
    pub fn take(&mut self, page: &AreaPage) -> Result<(), BadAreas> {
        let asked = self.next;
        if u64::try_from(page.start) != Ok(asked) {
            return Err(BadAreas::WrongStart { asked, found: page.start });
        }
        let length = u64::try_from(page.length).ok().filter(|it| *it > 0);
        let length = length.ok_or(BadAreas::NoProgress(page.length))?;
        let end = asked.checked_add(length).filter(|it| *it <= self.capacity);
        let end = end.ok_or(BadAreas::BeyondEnd)?;
        let most = (self.capacity / AREA_BYTES).clamp(FEW_AREAS, MAX_AREAS);
        if (self.areas.len() + page.areas.len()) as u64 > most {
            return Err(BadAreas::TooMany);
        }
        let pages = self.pages + 1;
        if end < self.capacity && pages >= self.most_pages() {
            return Err(BadAreas::TooManyPages(pages));
        }
        let mut found = Vec::with_capacity(page.areas.len());
        for &(start, length) in &page.areas {
            found.push(area(start, length, asked..end)?);
        }
        found.sort_unstable_by_key(|it| it.start);
        for area in found {
            match self.areas.last_mut() {
                Some(last) if area.start <= last.end => last.end = last.end.max(area.end),
                _ => self.areas.push(area),
            }
        }
        self.next = end;
        self.pages = pages;
        Ok(())
    }

    /// A server that advances by a sector at a time keeps every deadline, and would be asked for years.
    fn most_pages(&self) -> u64 {
        (FEW_PAGES + self.capacity / PAGE_BYTES).min(MAX_PAGES)
    }

    /// The areas of the whole disk: in order, apart from each other, none empty.
    pub fn finish(self) -> Result<Vec<Range<u64>>, BadAreas> {
        if self.next_start().is_some() { Err(BadAreas::Incomplete) } else { Ok(self.areas) }
    }
}

fn area(start: i64, length: i64, within: Range<u64>) -> Result<Range<u64>, BadAreas> {
    let outside = BadAreas::Outside { start, length };
    let (Ok(from), Ok(length)) = (u64::try_from(start), u64::try_from(length)) else {
        return Err(outside);
    };
    match from.checked_add(length) {
        Some(to) if length > 0 && from >= within.start && to <= within.end => Ok(from..to),
        _ => Err(outside),
    }
}

#[cfg(test)]
mod tests;
