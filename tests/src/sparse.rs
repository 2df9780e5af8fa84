//! Where the data of a sparse file lies, so that nobody reads gigabytes of holes.

use std::fs::File;
use std::ops::Range;

use anyhow::Result;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// The byte ranges of a file that are no holes, in order.
pub(crate) fn data_ranges(file: &File) -> Result<Vec<Range<u64>>> {
    let mut ranges = Vec::new();
    let mut at = 0;
    loop {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(ranges),
            Err(error) => return Err(error.into()),
        };
        at = seek(file, SeekFrom::Hole(start))?;
        ranges.push(start..at);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    #[test]
    fn only_data_is_listed() {
        let file = tempfile::tempfile().unwrap();
        assert!(data_ranges(&file).unwrap().is_empty());
        file.set_len(1 << 30).unwrap();
        file.write_all_at(b"x", 500 << 20).unwrap();
        let ranges = data_ranges(&file).unwrap();
        let total: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        assert!(ranges.iter().any(|range| range.contains(&(500 << 20))) && total < 1 << 20);
    }
}
