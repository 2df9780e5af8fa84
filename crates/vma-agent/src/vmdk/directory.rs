//! An open directory of a datastore: files are opened in it by plain names, wherever its path may lead meanwhile.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::descriptor::plain_name;
use super::{FileState, VmdkError};

/// A directory that was reached without a symbolic link, and stays open.
#[derive(Clone, Debug)]
pub struct Directory {
    handle: Arc<OwnedFd>,
    path: PathBuf,
}

impl Directory {
    /// Opens a directory whose path is believed: a datastore's root, which comes from the settings.
    pub fn open(path: &Path) -> io::Result<Self> {
        let handle = openat(CWD, path, directory_flags(), Mode::empty())?;
        Ok(Self { handle: Arc::new(handle), path: path.to_owned() })
    }

    /// Opens a directory in this one; a symbolic link in its place is refused by the system.
    pub(super) fn enter(&self, name: &OsStr) -> io::Result<Self> {
        let handle = openat(&self.handle, name, directory_flags(), Mode::empty())?;
        Ok(Self { handle: Arc::new(handle), path: self.path.join(name) })
    }

    /// The path by which it was opened, for people.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The state of a regular file.
    pub(super) fn look(&self, name: &str) -> Result<FileState, VmdkError> {
        self.file(name, OFlags::PATH).map(|(_, state)| state)
    }

    /// Opens a regular file for reading.
    pub(super) fn read(&self, name: &str) -> Result<(File, FileState), VmdkError> {
        // The first look refuses a pipe or a device before opening it could have an effect.
        self.look(name)?;
        self.file(name, OFlags::RDONLY | OFlags::NONBLOCK)
    }

    fn file(&self, name: &str, flags: OFlags) -> Result<(File, FileState), VmdkError> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = openat(&self.handle, plain_name(name)?, flags, Mode::empty());
        let file = match opened {
            Ok(handle) => File::from(handle),
            Err(rustix::io::Errno::LOOP) => return Err(VmdkError::NotRegular(name.to_owned())),
            Err(error) => return Err(VmdkError::io(name, error.into())),
        };
        let metadata = file.metadata().map_err(|it| VmdkError::io(name, it))?;
        if !metadata.is_file() {
            return Err(VmdkError::NotRegular(name.to_owned()));
        }
        Ok((file, FileState::of(&metadata)))
    }
}

const fn directory_flags() -> OFlags {
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC)
}
