//! Extents: which parts of a device hold data.

/// What is known about the bytes of an extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExtentKind {
    /// May hold anything; it has to be read.
    Data,
    /// Reads as zeroes.
    Zero,
}

/// A run of bytes of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Extent {
    /// First byte.
    pub offset: u64,
    /// Number of bytes; never 0.
    pub len: u64,
    /// What is known about them.
    pub kind: ExtentKind,
}

impl Extent {
    /// The byte after the last one.
    pub const fn end(&self) -> u64 {
        self.offset + self.len
    }
}

/// Joins neighbours of the same kind, so that a caller sees each run once.
pub fn merge_extents(extents: impl IntoIterator<Item = Extent>) -> Vec<Extent> {
    let mut merged: Vec<Extent> = Vec::new();
    for extent in extents {
        match merged.last_mut() {
            Some(last) if last.kind == extent.kind && last.end() == extent.offset => {
                last.len += extent.len;
            }
            _ => merged.push(extent),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(offset: u64, len: u64, kind: ExtentKind) -> Extent {
        Extent { offset, len, kind }
    }

    #[test]
    fn neighbours_of_one_kind_become_one() {
        use ExtentKind::{Data, Zero};
        let merged = merge_extents([extent(0, 4, Data), extent(4, 4, Data), extent(8, 1, Zero)]);
        assert_eq!(merged, [extent(0, 8, Data), extent(8, 1, Zero)]);
    }

    #[test]
    fn a_gap_keeps_runs_apart() {
        use ExtentKind::Data;
        let runs = [extent(0, 4, Data), extent(8, 4, Data)];
        assert_eq!(merge_extents(runs), runs);
    }
}
