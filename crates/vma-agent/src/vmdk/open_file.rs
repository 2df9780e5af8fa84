//! An extent's file, held open: exact reads, and errors that name file and place.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use hub_block::BlockError;
use rustix::fs::{Advice, fadvise};

/// A file that was admitted and stays open until the disk is closed.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) file: File,
    pub(super) name: String,
    /// Length in bytes when it was opened.
    pub(super) len: u64,
}

impl OpenFile {
    pub(super) fn new(file: File, name: &str, len: u64) -> Self {
        if let Err(error) = fadvise(&file, 0, None, Advice::Sequential) {
            // Only a hint: a file system that does not take it reads as before.
            tracing::debug!(%error, name, "reading ahead is not offered");
        }
        Self { file, name: name.to_owned(), len }
    }

    /// Fills a buffer; a file that ends too early is corrupt, and never reads as zeroes.
    pub(super) fn read(&self, at: u64, buffer: &mut [u8]) -> Result<(), BlockError> {
        self.file.read_exact_at(buffer, at).map_err(|error| {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                self.corrupt(at, "the file ends before its data")
            } else {
                error.into()
            }
        })
    }

    pub(super) fn corrupt(&self, offset: u64, what: &str) -> BlockError {
        BlockError::Corrupt { offset, what: format!("`{}`: {what}", self.name) }
    }
}
