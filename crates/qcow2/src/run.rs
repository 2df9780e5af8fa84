//! Runs: what tables say about a range of guest bytes, joined as far as it goes.

use crate::format::{Geometry, index};
use crate::mapping::{EntryFault, Mapping};

/// Where the bytes of a run are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunKind {
    /// In this file, from this offset on.
    Data {
        /// Offset in the file.
        host: u64,
    },
    /// In this file, compressed; such a run never leaves its guest cluster.
    Compressed {
        /// Offset of the first compressed byte in the file.
        host: u64,
        /// Most bytes that they take there; the last ones need not be there.
        stored: u64,
        /// Where in the cluster the run begins.
        start: u64,
    },
    /// Nowhere; they are zero.
    Zero,
    /// Not in this file; what lies under it answers.
    Absent,
}

/// Guest bytes that lie in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) kind: RunKind,
}

/// Adds a run, joining it to the last one where both lie in one place.
pub(crate) fn push_run(runs: &mut Vec<Run>, run: Run) {
    if let Some(last) = runs.last_mut()
        && last.offset + last.len == run.offset
    {
        let joined = match (last.kind, run.kind) {
            (RunKind::Data { host: before }, RunKind::Data { host }) => before + last.len == host,
            (RunKind::Compressed { .. }, _) => false,
            (before, kind) => before == kind,
        };
        if joined {
            last.len += run.len;
            return;
        }
    }
    runs.push(run);
}

/// One L2 table: its entries and its place in the file, for error texts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TableView<'a> {
    pub(crate) entries: &'a [u64],
    pub(crate) offset: u64,
}

/// Cuts a range at the spans of L2 tables: table number, first byte, number of bytes.
pub(crate) fn table_spans(
    geometry: Geometry,
    offset: u64,
    len: u64,
) -> impl Iterator<Item = (u64, u64, u64)> {
    let span = geometry.table_span();
    let end = offset + len;
    let mut at = offset;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let table = at / span;
        let start = at;
        at = end.min((table + 1) * span);
        Some((table, start, at - start))
    })
}

/// Reads what one table says about a range within its span; a fault names the offset of the entry.
pub(crate) fn resolve(
    geometry: Geometry,
    table: Option<TableView<'_>>,
    file_end: u64,
    (offset, len): (u64, u64),
    runs: &mut Vec<Run>,
) -> Result<(), (u64, EntryFault)> {
    let Some(table) = table else {
        push_run(runs, Run { offset, len, kind: RunKind::Absent });
        return Ok(());
    };
    for part in geometry.parts(offset, len) {
        let slot = part.cluster % geometry.table_entries();
        let raw = table.entries.get(index(slot)).copied().unwrap_or(0);
        let kind = match Mapping::decode(raw, geometry, file_end) {
            Ok(Mapping::Absent) => RunKind::Absent,
            Ok(Mapping::Zero { .. }) => RunKind::Zero,
            Ok(Mapping::Data { host }) => RunKind::Data { host: host + part.start },
            Ok(Mapping::Compressed { host, len: stored }) => {
                RunKind::Compressed { host, stored, start: part.start }
            }
            Err(fault) => return Err((table.offset + slot * 8, fault)),
        };
        push_run(runs, Run { offset: offset + part.at, len: part.len, kind });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_in_one_place_become_one_run() {
        let geometry = Geometry::new(9).unwrap();
        let mut entries = vec![0; 64];
        entries[0] = Mapping::Data { host: 512 }.encode(geometry);
        entries[1] = Mapping::Data { host: 1024 }.encode(geometry);
        entries[2] = Mapping::Data { host: 4096 }.encode(geometry);
        entries[3] = Mapping::Zero { host: None }.encode(geometry);
        entries[4] = Mapping::Zero { host: Some(2048) }.encode(geometry);
        // Two that were compressed to the same bytes are two runs all the same.
        for slot in [6, 7] {
            entries[slot] = Mapping::Compressed { host: 1100, len: 436 }.encode(geometry);
        }
        let mut runs = Vec::new();
        let view = TableView { entries: &entries, offset: 8192 };
        resolve(geometry, Some(view), 1 << 20, (100, 3_996), &mut runs).unwrap();
        let run = |offset, len, kind| Run { offset, len, kind };
        assert_eq!(
            runs,
            [
                run(100, 924, RunKind::Data { host: 612 }),
                run(1024, 512, RunKind::Data { host: 4096 }),
                run(1536, 1024, RunKind::Zero),
                run(2560, 512, RunKind::Absent),
                run(3072, 512, RunKind::Compressed { host: 1100, stored: 436, start: 0 }),
                run(3584, 512, RunKind::Compressed { host: 1100, stored: 436, start: 0 }),
            ]
        );
    }

    #[test]
    fn a_fault_names_the_entry() {
        let geometry = Geometry::new(9).unwrap();
        let entries = vec![2; 64];
        let view = TableView { entries: &entries, offset: 8192 };
        let fault = resolve(geometry, Some(view), 1 << 20, (512, 1), &mut Vec::new());
        assert!(matches!(fault, Err((8200, EntryFault::Corrupt(_)))));
    }

    #[test]
    fn ranges_are_cut_at_table_spans() {
        let geometry = Geometry::new(9).unwrap();
        let spans: Vec<_> = table_spans(geometry, 32_000, 40_000).collect();
        assert_eq!(spans, [(0, 32_000, 768), (1, 32_768, 32_768), (2, 65_536, 6_464)]);
    }
}
