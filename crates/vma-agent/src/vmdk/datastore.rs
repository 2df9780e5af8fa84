//! A datastore: the directory that every file of a VM must lie in.

use std::io;
use std::path::{Component, Path, PathBuf};

use rustix::io::Errno;

use super::descriptor::bounded;
use super::{Directory, VmdkError};

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

    /// The file that a .vmx means by a disk's `fileName`, relative to the VM's directory.
    ///
    /// Absolute names are admitted below `/vmfs/volumes/<a datastore's name>` and below a datastore's root.
    /// Whether the file exists is seen when it is opened.
    pub fn locate(all: &[Self], home: &Path, named: &str) -> Result<Located, VmdkError> {
        let outside = || VmdkError::Outside(bounded(named));
        let path = Path::new(named);
        if path.is_relative() {
            let store = all.iter().find(|it| home.starts_with(&it.root)).ok_or_else(outside)?;
            return store.inside(&home.join(path), named);
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
        store.inside(&path, named)
    }

    /// Walks from the root to the file's directory; refuses `..` and every symbolic link on the way.
    fn inside(&self, path: &Path, named: &str) -> Result<Located, VmdkError> {
        let outside = || VmdkError::Outside(bounded(named));
        let below = path.strip_prefix(&self.root).map_err(|_| outside())?;
        let parts = below.components().map(|part| match part {
            Component::Normal(part) => Ok(part),
            Component::Prefix(_)
            | Component::RootDir
            | Component::CurDir
            | Component::ParentDir => Err(outside()),
        });
        let parts = parts.collect::<Result<Vec<_>, _>>()?;
        let (file, directories) = parts.split_last().ok_or_else(outside)?;
        let refuse = |error: io::Error| match Errno::from_io_error(&error) {
            Some(Errno::NOTDIR | Errno::LOOP) => VmdkError::NotRegular(bounded(named)),
            _ => VmdkError::io(&bounded(named), error),
        };
        let mut directory = Directory::open(&self.root).map_err(refuse)?;
        for name in directories {
            directory = directory.enter(name).map_err(refuse)?;
        }
        let name = file.to_str().ok_or_else(|| VmdkError::NotPlain(bounded(named)))?.to_owned();
        Ok(Located { store: self.clone(), directory, name })
    }
}

/// A file in an open directory of a datastore.
#[derive(Clone, Debug)]
pub struct Located {
    /// The datastore.
    pub store: Datastore,
    /// The directory that the file lies in.
    pub directory: Directory,
    /// The file's name.
    pub name: String,
}
