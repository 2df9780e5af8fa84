//! One layer of a disk: a descriptor and its extent files as they are now.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::descriptor::SECTOR;
use super::{Descriptor, Storage, VmdkError, datastore, header};

/// A descriptor with its extents, all admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The file that holds the descriptor.
    pub path: PathBuf,
    /// Its name.
    pub name: String,
    /// What it says.
    pub descriptor: Descriptor,
    /// The state of the file that holds the descriptor.
    pub state: FileState,
    /// Its extents; an embedded one is the file itself.
    pub extents: Vec<ExtentFile>,
}

/// An extent's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtentFile {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: FileState,
}

/// What tells whether a file is still the one it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileState {
    /// Length in bytes.
    pub len: u64,
    /// Bytes that the file system has given it.
    pub allocated: u64,
    /// Time of the last change of its content, in seconds and nanoseconds of the Unix epoch; tools can set it.
    pub modified: (i64, i64),
    /// Time of the last change of anything, in seconds and nanoseconds of the Unix epoch; no tool can set it.
    pub changed: (i64, i64),
    /// Which file it is on its file system.
    pub inode: u64,
}

impl FileState {
    fn of(metadata: &Metadata) -> Self {
        Self {
            len: metadata.len(),
            allocated: metadata.blocks().saturating_mul(512),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
        }
    }
}

impl Layer {
    /// Reads and checks a layer in its directory.
    pub fn read(directory: &Path, name: &str) -> Result<Self, VmdkError> {
        let (path, metadata) = datastore::admit(directory, name)?;
        let file = datastore::open(&path, name)?;
        let (text, embedded) = header::descriptor_text(&file, name, metadata.len())?;
        let descriptor = Descriptor::parse(&text)?;
        if descriptor.create_type.is_embedded() != embedded.is_some() {
            return Err(VmdkError::NotADescriptor("its type does not fit the way it is stored"));
        }
        let state = FileState::of(&metadata);
        let extents = match embedded {
            // The name inside an embedded descriptor is the one at its creation; the file is its own extent.
            Some(header) if header.capacity.checked_mul(SECTOR) == Some(descriptor.capacity()) => {
                vec![ExtentFile { name: name.to_owned(), state }]
            }
            Some(_) => {
                let what = "its capacity differs";
                return Err(VmdkError::BadExtent { file: name.to_owned(), what });
            }
            None => extent_files(directory, &descriptor)?,
        };
        Ok(Self { path, name: name.to_owned(), descriptor, state, extents })
    }

    /// Looks into the headers of sparse extents, which a listing need not.
    ///
    /// A header of capacity 0 makes qemu take the extent for a descriptor and follow what it names.
    pub fn check_extents(&self) -> Result<(), VmdkError> {
        if self.descriptor.create_type.is_embedded() {
            return Ok(());
        }
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        for line in self.descriptor.extents.iter().filter(|it| it.storage == Storage::Sparse) {
            let (path, _) = datastore::admit(directory, &line.file)?;
            let file = datastore::open(&path, &line.file)?;
            let header = header::extent_header(&file, &line.file)?;
            if header.is_some_and(|it| it.capacity != line.sectors) {
                let what = "its capacity differs";
                return Err(VmdkError::BadExtent { file: line.file.clone(), what });
            }
        }
        Ok(())
    }

    /// Bytes that its extents take in the file system.
    pub fn allocated(&self) -> u64 {
        self.extents.iter().map(|it| it.state.allocated).sum()
    }
}

fn extent_files(directory: &Path, descriptor: &Descriptor) -> Result<Vec<ExtentFile>, VmdkError> {
    let check = |line: &super::ExtentLine| {
        let (_, metadata) = datastore::admit(directory, &line.file)?;
        let state = FileState::of(&metadata);
        let end = line.offset.checked_add(line.sectors).and_then(|it| it.checked_mul(SECTOR));
        let needed = end.unwrap_or(u64::MAX);
        if line.storage == Storage::Flat && state.len < needed {
            let file = line.file.clone();
            return Err(VmdkError::ShortExtent { file, len: state.len, needed });
        }
        Ok(ExtentFile { name: line.file.clone(), state })
    };
    descriptor.extents.iter().map(check).collect()
}
