//! The trail of what is asked of the file system, for tests that take the power away.
//!
//! A disk may lose and reorder whatever was not synced. Which states a power cut can leave follows from the
//! writes, syncs and renames that were done and from their order; a test that has them can try those states.
//! The product notes each durable step here with one line. Nothing is kept unless a test follows, and a
//! release build has neither state nor code for it.

use std::fs::File;
use std::io;
use std::path::Path;

#[cfg(debug_assertions)]
mod followers;
#[cfg(debug_assertions)]
mod step;

#[cfg(debug_assertions)]
pub use followers::{Trail, follow};
#[cfg(debug_assertions)]
pub use step::{FileId, Step};

#[cfg(debug_assertions)]
use followers::{note, note_at, note_file, sequence};

/// A file was created under this name.
#[cfg_attr(not(debug_assertions), expect(unused_variables, reason = "nobody follows"))]
pub fn created(file: &File, path: &Path) {
    #[cfg(debug_assertions)]
    followers::note_created(file, path);
}

/// Bytes were written.
#[cfg_attr(not(debug_assertions), expect(unused_variables, reason = "nobody follows"))]
pub fn wrote(file: &File, offset: u64, bytes: &[u8]) {
    #[cfg(debug_assertions)]
    note_file(file, |file| Step::Wrote { file, offset, bytes: bytes.to_vec() });
}

/// A range was made zero without writing to it.
#[cfg_attr(not(debug_assertions), expect(unused_variables, reason = "nobody follows"))]
pub fn cleared(file: &File, offset: u64, len: u64) {
    #[cfg(debug_assertions)]
    note_file(file, |file| Step::Cleared { file, offset, len });
}

/// A file has this length now.
#[cfg_attr(not(debug_assertions), expect(unused_variables, reason = "nobody follows"))]
pub fn resized(file: &File, len: u64) {
    #[cfg(debug_assertions)]
    note_file(file, |file| Step::Resized { file, len });
}

/// Syncs a file, and notes what was written before it began.
pub fn sync(file: &File, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    #[cfg(debug_assertions)]
    let before = sequence();
    sync()?;
    #[cfg(debug_assertions)]
    note_at(before, |inner| inner.file_of(file).map(|file| Step::Synced { file }));
    #[cfg(not(debug_assertions))]
    let _ = file;
    Ok(())
}

/// A file was given another name, and lost the one that it had.
#[cfg_attr(not(debug_assertions), expect(unused_variables, reason = "nobody follows"))]
pub fn renamed(from: &Path, to: &Path) {
    #[cfg(debug_assertions)]
    note(to, || Step::Renamed { from: from.to_owned(), to: to.to_owned() });
}

/// A name was removed.
#[cfg_attr(not(debug_assertions), expect(unused_variables, reason = "nobody follows"))]
pub fn removed(path: &Path) {
    #[cfg(debug_assertions)]
    note(path, || Step::Removed { path: path.to_owned() });
}

/// A directory was made.
#[cfg_attr(not(debug_assertions), expect(unused_variables, reason = "nobody follows"))]
pub fn directory_made(path: &Path) {
    #[cfg(debug_assertions)]
    note(path, || Step::DirectoryMade { path: path.to_owned() });
}

/// Syncs a directory, and notes the names that were given before it began.
pub fn sync_directory(path: &Path, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    #[cfg(debug_assertions)]
    let before = sequence();
    sync()?;
    #[cfg(debug_assertions)]
    note_at(before, |inner| {
        inner.is_below(path).then(|| Step::DirectorySynced { path: path.to_owned() })
    });
    #[cfg(not(debug_assertions))]
    let _ = path;
    Ok(())
}
