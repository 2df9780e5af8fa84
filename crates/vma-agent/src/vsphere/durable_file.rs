//! Files that are there, whole, after a crash: what a VMA has to remember.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use hub_block::trail;

/// Writes a file durably, whole or not at all, in a directory that has no other file of its name.
pub(super) fn put(path: &Path, content: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    trail::created(&file, &new);
    file.write_all(content)?;
    trail::wrote(&file, 0, content);
    trail::sync(&file, || file.sync_all())?;
    fs::rename(&new, path)?;
    trail::renamed(&new, path);
    path.parent().map_or(Ok(()), sync_directory)
}

/// Makes durable what was made, renamed or removed in a directory.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    trail::sync_directory(path, || File::open(path)?.sync_all())
}
