//! Opening a sealed manifest, and believing nothing in it that its digests do not cover.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::header::{FIXED, Header};
use super::{ManifestError, ManifestIdentity};
use crate::digest_table::table_bytes;
use crate::{Digest, DigestTable};

/// A sealed manifest whose header has been checked; its methods block on file I/O.
#[derive(Debug)]
pub struct Manifest {
    header: Header,
    table: Arc<DigestTable>,
}

impl Manifest {
    /// Opens a manifest for reading and checks everything but the table.
    ///
    /// Reads the header only, at most 64 KiB. [`check_table`](Self::check_table) tells whether the table
    /// is still the one that was sealed; until then its digests are hearsay.
    pub fn open(path: &Path) -> Result<Self, ManifestError> {
        let file = File::open(path)?;
        let mut fixed = [0; FIXED];
        read(&file, &mut fixed)?;
        let mut bytes = vec![0; Header::len_of(&fixed)? as usize];
        read(&file, &mut bytes)?;
        let header = Header::decode(&bytes)?;

        let start = u64::from(header.len);
        let expected = start + table_bytes(header.capacity, header.block_size)?;
        let found = file.metadata()?.len();
        if expected != found {
            return Err(ManifestError::FileLength { expected, found });
        }
        let table = DigestTable::over(Arc::new(file), start, header.capacity, header.block_size)?;
        table.freeze();
        Ok(Self { header, table: Arc::new(table) })
    }

    /// Which point of which disk it proves.
    pub fn identity(&self) -> &ManifestIdentity {
        &self.header.identity
    }

    /// The root that was sealed.
    pub fn root(&self) -> Digest {
        self.header.root
    }

    /// The digests, which cannot be changed.
    pub fn table(&self) -> Arc<DigestTable> {
        self.table.clone()
    }

    /// Reads the whole table and compares its root with the sealed one, so that a flipped bit is found.
    pub fn check_table(&self) -> Result<(), ManifestError> {
        let (expected, found) = (self.header.root, self.table.root()?);
        if expected == found {
            Ok(())
        } else {
            Err(ManifestError::TableDamaged { expected, found })
        }
    }
}

/// A file that ends inside its header is no manifest.
fn read(file: &File, bytes: &mut [u8]) -> Result<(), ManifestError> {
    file.read_exact_at(bytes, 0).map_err(|error| {
        let short = error.kind() == io::ErrorKind::UnexpectedEof;
        if short { ManifestError::NotAManifest } else { ManifestError::Io(error) }
    })
}
