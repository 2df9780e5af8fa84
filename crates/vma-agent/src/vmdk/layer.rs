//! One layer of a disk: a descriptor and its extent files as they are now.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::descriptor::SECTOR;
use super::{Descriptor, Directory, ExtentLine, Storage, VmdkError, header};

/// A descriptor with its extents, all admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The file that holds the descriptor, for people.
    pub path: PathBuf,
    /// Its name.
    pub name: String,
    /// What it says.
    pub descriptor: Descriptor,
    /// The state of the file that holds the descriptor.
    pub state: FileState,
    /// The files of its extents, in their order; an embedded one is the file itself.
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
    pub(super) fn of(metadata: &Metadata) -> Self {
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
    pub fn read(directory: &Directory, name: &str) -> Result<Self, VmdkError> {
        let (file, state) = directory.read(name)?;
        let (text, embedded) = header::descriptor_text(&file, name, state.len)?;
        let descriptor = Descriptor::parse(&text)?;
        if descriptor.create_type.is_embedded() != embedded.is_some() {
            return Err(VmdkError::NotADescriptor("its type does not fit the way it is stored"));
        }
        let bad = |what| VmdkError::BadExtent { file: name.to_owned(), what };
        let extents = match (embedded, &*descriptor.extents) {
            // The name inside an embedded descriptor is the one at its creation; the file is its own extent.
            (Some(header), [ExtentLine { sectors, storage: Storage::Sparse { .. } }]) => {
                if header.capacity != *sectors {
                    return Err(bad("its capacity differs"));
                }
                vec![ExtentFile { name: name.to_owned(), state }]
            }
            (Some(_), _) => return Err(bad("it holds one sparse extent, and names others")),
            (None, _) => extent_files(directory, &descriptor)?,
        };
        let path = directory.path().join(name);
        Ok(Self { path, name: name.to_owned(), descriptor, state, extents })
    }

    /// Bytes that its extents take in the file system.
    pub fn allocated(&self) -> u64 {
        self.extents.iter().map(|it| it.state.allocated).sum()
    }
}

fn extent_files(
    directory: &Directory,
    descriptor: &Descriptor,
) -> Result<Vec<ExtentFile>, VmdkError> {
    let look = |line: &ExtentLine| {
        let name = line.file()?;
        Some(directory.look(name).and_then(|state| admit(line, name, state)))
    };
    descriptor.extents.iter().filter_map(look).collect()
}

fn admit(line: &ExtentLine, name: &str, state: FileState) -> Result<ExtentFile, VmdkError> {
    if let Storage::Flat { offset, .. } = line.storage {
        let end = offset.checked_add(line.sectors).and_then(|it| it.checked_mul(SECTOR));
        let needed = end.unwrap_or(u64::MAX);
        if state.len < needed {
            return Err(VmdkError::ShortExtent { file: name.to_owned(), len: state.len, needed });
        }
    }
    Ok(ExtentFile { name: name.to_owned(), state })
}
