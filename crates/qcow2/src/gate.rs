//! The gate: an image is trusted to hold bytes, not to choose which files of this machine are opened.

use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

/// Decides which file a backing name means, or that it may not be opened.
pub trait BackingGate: Send + Sync {
    /// The path to open for the backing file that the image `from` calls `named`.
    fn admit(&self, from: &Path, named: &str) -> Result<PathBuf, Escapes>;
}

/// Why a backing file may not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Escapes {
    /// The name is absolute, empty, or has parts like `..`.
    #[error("the name is not a plain relative path")]
    NotPlain,
    /// Following symbolic links, the file lies outside the directory.
    #[error("the file lies outside {}", .0.display())]
    Outside(PathBuf),
    /// A directory, pipe, socket or device.
    #[error("{} is not a regular file", .0.display())]
    NotRegular(PathBuf),
    /// There is no such file.
    #[error("{} is missing", .0.display())]
    Missing(PathBuf),
    /// The operating system refused to say where the file lies.
    #[error("cannot resolve {}", .path.display())]
    Unresolved {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}

/// Admits regular files that lie beneath one directory, all symbolic links followed.
///
/// Names are relative to the directory of the image that names them, as everywhere in this format.
/// The answer is a path without links; whoever can change directories beneath the root in the instant
/// between the answer and the opening can still exchange a file.
#[derive(Clone, Debug)]
pub struct InsideDirectory {
    root: PathBuf,
}

impl InsideDirectory {
    /// A gate for everything beneath `root`, which is looked at when a file is asked for.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }
}

impl BackingGate for InsideDirectory {
    fn admit(&self, from: &Path, named: &str) -> Result<PathBuf, Escapes> {
        let name = Path::new(named);
        let plain = name.components().all(|part| matches!(part, Component::Normal(_)));
        if named.is_empty() || !plain {
            return Err(Escapes::NotPlain);
        }
        let root = resolve(&self.root)?;
        let beside = from.parent().unwrap_or(Path::new("")).join(name);
        let path = resolve(&beside)?;
        if !path.starts_with(&root) {
            return Err(Escapes::Outside(root));
        }
        match std::fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() => Ok(path),
            Ok(_) => Err(Escapes::NotRegular(path)),
            Err(source) => Err(Escapes::Unresolved { path, source }),
        }
    }
}

fn resolve(path: &Path) -> Result<PathBuf, Escapes> {
    path.canonicalize().map_err(|source| {
        if source.kind() == ErrorKind::NotFound {
            Escapes::Missing(path.to_owned())
        } else {
            Escapes::Unresolved { path: path.to_owned(), source }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_plain_names_beneath_the_root_pass() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("repository");
        std::fs::create_dir_all(root.join("vm/folder")).unwrap();
        std::fs::write(outer.path().join("secret"), b"s").unwrap();
        std::fs::write(root.join("vm/full.qcow2"), b"f").unwrap();
        symlink(outer.path().join("secret"), root.join("vm/link")).unwrap();
        symlink(outer.path(), root.join("vm/out")).unwrap();
        symlink("full.qcow2", root.join("vm/inside")).unwrap();
        let gate = InsideDirectory::new(&root);
        let admit = |named: &str| gate.admit(&root.join("vm/top.qcow2"), named);

        let full = root.canonicalize().unwrap().join("vm/full.qcow2");
        assert_eq!(admit("full.qcow2").unwrap(), full);
        assert_eq!(admit("inside").unwrap(), full);
        for named in ["", "/etc/shadow", "../vm/full.qcow2", "./../x", "folder/../full.qcow2"] {
            assert!(matches!(admit(named), Err(Escapes::NotPlain)), "{named}");
        }
        assert!(matches!(admit("link"), Err(Escapes::Outside(_))));
        assert!(matches!(admit("out/secret"), Err(Escapes::Outside(_))));
        assert!(matches!(admit("folder"), Err(Escapes::NotRegular(_))));
        assert!(matches!(admit("gone"), Err(Escapes::Missing(_))));
    }
}
