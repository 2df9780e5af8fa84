//! What a copy examines: everything, or the areas that somebody calls changed.

use std::io;
use std::ops::Range;

use crate::digest_table::{GROUP, usize_of};
use crate::{CopyError, Digest, DigestTable};

/// Beyond so many separate ranges of unknown blocks, the last one is widened instead.
const MAX_UNKNOWN_RANGES: usize = 65_536;

/// Which bytes of the source are looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyPlan {
    /// Everything, into a fresh target that reads as zero; the table is cleared first.
    Full,
    /// Only these byte ranges, widened to blocks; they may be unsorted, overlap or be empty.
    ///
    /// Everything else keeps the digest that the table holds, which is the parent's.
    /// Blocks that the parent did not have, or whose digest is unknown, are examined in any case.
    /// The rest of a copy that was cut is such a plan too, over the same table.
    Areas(Vec<Range<u64>>),
    /// Everything; what equals the digest in the table, which is the parent's, is not sent.
    ByDigest,
}

/// The ranges of bytes to examine: whole blocks, sorted, apart from each other.
pub(crate) fn examined(plan: CopyPlan, table: &DigestTable) -> Result<Vec<Range<u64>>, CopyError> {
    let capacity = table.capacity();
    match plan {
        CopyPlan::Full => {
            table.clear().map_err(CopyError::Table)?;
            Ok(merged(std::iter::once(0..capacity).collect()))
        }
        CopyPlan::ByDigest => Ok(merged(std::iter::once(0..capacity).collect())),
        CopyPlan::Areas(areas) => {
            let mut wanted = Vec::with_capacity(areas.len());
            for Range { start, end } in areas {
                if start > end || end > capacity {
                    return Err(CopyError::AreaOutOfRange { start, end, capacity });
                }
                if start < end {
                    wanted.push(widened(start..end, table));
                }
            }
            wanted.push(table.bytes_of(table.first_new_block()..table.block_count()));
            wanted.extend(unknown(table).map_err(CopyError::Table)?);
            Ok(merged(wanted))
        }
    }
}

/// The whole blocks that a range of bytes touches.
pub(crate) fn widened(range: Range<u64>, table: &DigestTable) -> Range<u64> {
    let size = table.block_size().bytes();
    table.bytes_of(range.start / size..range.end.div_ceil(size))
}

fn merged(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.retain(|range| range.start < range.end);
    ranges.sort_unstable_by_key(|range| range.start);
    let mut apart: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match apart.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => apart.push(range),
        }
    }
    apart
}

/// The blocks whose digest is unknown, as ranges of bytes; examining more than needed is always right,
/// so the number of ranges is bounded.
fn unknown(table: &DigestTable) -> io::Result<Vec<Range<u64>>> {
    let mut found: Vec<Range<u64>> = Vec::new();
    let mut block = 0;
    while let Some(first) = table.next_stored(block)? {
        let count = (table.block_count() - first).min(GROUP);
        for (index, digest) in (first..).zip(table.get_many(first, usize_of(count))?) {
            if digest != Digest::UNKNOWN {
                continue;
            }
            let bytes = table.bytes_of(index..index + 1);
            let full = found.len() >= MAX_UNKNOWN_RANGES;
            match found.last_mut() {
                Some(last) if full || last.end == bytes.start => last.end = bytes.end,
                _ => found.push(bytes),
            }
        }
        block = first + count;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BlockSize;

    fn table(capacity: u64) -> DigestTable {
        DigestTable::temporary(capacity, BlockSize::MIN).unwrap()
    }

    #[test]
    fn areas_become_whole_blocks_in_order() {
        let table = table(20_000);
        let areas = vec![9_000..9_001, 19_999..20_000, 0..1, 4_095..4_097, 500..500];
        let found = examined(CopyPlan::Areas(areas), &table).unwrap();
        assert_eq!(found, [0..12_288, 16_384..20_000]);
    }

    /// Trap U25 and the adversary of changed areas: what leaves the disk is refused.
    #[test]
    fn areas_outside_the_disk_are_refused() {
        let backwards = Range { start: 2, end: 1 };
        for bad in [0..20_001, 20_001..20_001, backwards, u64::MAX - 1..u64::MAX] {
            let refused = examined(CopyPlan::Areas(vec![0..1, bad]), &table(20_000));
            assert!(matches!(refused, Err(CopyError::AreaOutOfRange { capacity: 20_000, .. })));
        }
    }

    #[test]
    fn growth_and_unknown_blocks_join_the_areas() {
        let parent = table(10_000);
        let grown = table(40_960);
        grown.copy_from(&parent).unwrap();
        let found = examined(CopyPlan::Areas(Vec::new()), &grown).unwrap();
        assert_eq!((found.len(), &found[0]), (1, &(8_192..40_960)));
        grown.forget_growth();
        let found = examined(CopyPlan::Areas(Vec::new()), &grown).unwrap();
        assert_eq!((found.len(), &found[0]), (1, &(8_192..12_288)));
        grown.set(2, Digest::ZERO).unwrap();
        assert!(examined(CopyPlan::Areas(Vec::new()), &grown).unwrap().is_empty());
    }

    #[test]
    fn a_disk_without_bytes_has_nothing_to_examine() {
        assert!(examined(CopyPlan::ByDigest, &table(0)).unwrap().is_empty());
    }
}
