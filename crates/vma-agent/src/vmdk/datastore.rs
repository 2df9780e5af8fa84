//! A datastore: the directory that every file of a VM must lie in.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use super::VmdkError;
use super::descriptor::{bounded, plain_name};

/// A configured directory with the name that paths show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datastore {
    name: String,
    root: PathBuf,
}

impl Datastore {
    /// A datastore at an existing directory, named as the last component of the path given.
    pub fn open(path: &Path) -> io::Result<Self> {
        let root = path.canonicalize()?;
        if !root.is_dir() {
            return Err(io::Error::new(io::ErrorKind::NotADirectory, "a datastore is a directory"));
        }
        let name = path.file_name().or(root.file_name()).and_then(|it| it.to_str());
        Ok(Self { name: name.unwrap_or("datastore").to_owned(), root })
    }

    /// The name in paths (`[datastore1] …`).
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The directory, without symbolic links.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path as the hypervisor writes it (`[datastore1] pgtest1/pgtest1.vmdk`).
    pub fn label(&self, path: &Path) -> String {
        let inside = path.strip_prefix(&self.root).unwrap_or(path);
        format!("[{}] {}", self.name, inside.display())
    }

    /// The path below the root that a .vmx means by a disk's `fileName`, relative to the VM's directory.
    ///
    /// Absolute names are admitted below `/vmfs/volumes/<a datastore's name>` and below a datastore's root.
    pub fn locate(all: &[Self], home: &Path, named: &str) -> Result<(Self, PathBuf), VmdkError> {
        let outside = || VmdkError::Outside(bounded(named));
        let path = Path::new(named);
        if path.is_relative() {
            let store = all.iter().find(|it| home.starts_with(&it.root)).ok_or_else(outside)?;
            return Ok((store.clone(), store.inside(&home.join(path), named)?));
        }
        let on_vmfs = path.strip_prefix("/vmfs/volumes").ok().and_then(|rest| {
            let volume = rest.components().next()?.as_os_str();
            let store = all.iter().find(|it| volume == it.name.as_str())?;
            Some((store, store.root.join(rest.strip_prefix(volume).ok()?)))
        });
        let below_root = || {
            let store = all.iter().find(|it| path.starts_with(&it.root))?;
            Some((store, path.to_owned()))
        };
        let (store, path) = on_vmfs.or_else(below_root).ok_or_else(outside)?;
        Ok((store.clone(), store.inside(&path, named)?))
    }

    /// Refuses `..` and every symbolic link between the root and the file.
    fn inside(&self, path: &Path, named: &str) -> Result<PathBuf, VmdkError> {
        let below = path.strip_prefix(&self.root);
        let below = below.map_err(|_| VmdkError::Outside(bounded(named)))?;
        let mut at = self.root.clone();
        let mut parts = below.components().peekable();
        while let Some(part) = parts.next() {
            let Component::Normal(part) = part else {
                return Err(VmdkError::Outside(bounded(named)));
            };
            at.push(part);
            if parts.peek().is_some() {
                let directory = at.symlink_metadata().map_err(|it| VmdkError::io(named, it))?;
                if !directory.is_dir() {
                    return Err(VmdkError::NotRegular(bounded(named)));
                }
            }
        }
        Ok(at)
    }
}

/// Looks at a plain file name in a directory: a regular file, not reached by a symbolic link.
pub(super) fn admit(directory: &Path, name: &str) -> Result<(PathBuf, Metadata), VmdkError> {
    let path = directory.join(plain_name(name)?);
    let metadata = path.symlink_metadata().map_err(|it| VmdkError::io(name, it))?;
    if !metadata.is_file() {
        return Err(VmdkError::NotRegular(name.to_owned()));
    }
    Ok((path, metadata))
}

/// Opens an admitted file; a symbolic link that took its place meanwhile is refused by the system.
pub(super) fn open(path: &Path, name: &str) -> Result<File, VmdkError> {
    let no_follow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
    let opened = OpenOptions::new().read(true).custom_flags(no_follow).open(path);
    opened.map_err(|it| VmdkError::io(name, it))
}
