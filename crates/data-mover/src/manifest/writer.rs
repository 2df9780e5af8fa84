//! Writing a manifest: the table grows in the file, the header comes last.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use hub_block::failpoint::{self, Point};
use hub_block::{create_file, trail};

use super::header::{Header, WRITTEN_LEN};
use super::{ManifestError, ManifestIdentity};
use crate::digest_table::table_bytes;
use crate::{BlockSize, Digest, DigestTable};

/// A manifest that is being written; dropped before it is sealed, it leaves a file that no reader accepts.
///
/// Its methods block on file I/O.
#[derive(Debug)]
pub struct ManifestWriter {
    file: Arc<File>,
    table: Arc<DigestTable>,
}

impl ManifestWriter {
    /// Creates the file, which must not exist, with a table of zeroes for a disk.
    ///
    /// The path is a temporary name: who calls renames the sealed file, syncs its directory, and removes
    /// a file that was not sealed. After an error there is no file.
    pub fn create_new(
        path: &Path,
        capacity: u64,
        block_size: BlockSize,
    ) -> Result<Self, ManifestError> {
        let len = u64::from(WRITTEN_LEN) + table_bytes(capacity, block_size)?;
        create_file(path, |file| {
            file.set_len(len)?;
            trail::resized(&file, len);
            failpoint::reach(Point::ManifestCreated)?;
            let file = Arc::new(file);
            let table = DigestTable::over(file.clone(), WRITTEN_LEN.into(), capacity, block_size)?;
            Ok(Self { file, table: Arc::new(table) })
        })
    }

    /// The table that lies in the file; it can be written until the manifest is sealed.
    pub fn table(&self) -> Arc<DigestTable> {
        self.table.clone()
    }

    /// Freezes the table, makes it durable, then writes the header and makes that durable.
    ///
    /// Fails, and seals nothing, when a block is unknown, when the identity disagrees with the table on
    /// capacity or block size, or when its JSON takes more than 16,288 bytes.
    pub fn seal(self, identity: ManifestIdentity) -> Result<Digest, ManifestError> {
        self.table.freeze();
        let root = self.table.root()?;
        let header = Header {
            len: WRITTEN_LEN,
            block_size: self.table.block_size(),
            capacity: self.table.capacity(),
            root,
            identity,
        };
        header.check_agreement()?;
        let bytes = header.encode()?;
        trail::sync(&self.file, || self.file.sync_all())?;
        failpoint::reach(Point::ManifestTableSynced)?;
        self.file.write_all_at(&bytes, 0)?;
        trail::wrote(&self.file, 0, &bytes);
        failpoint::reach(Point::ManifestHeaderWritten)?;
        trail::sync(&self.file, || self.file.sync_all())?;
        failpoint::reach(Point::ManifestSealed)?;
        Ok(root)
    }
}
