//! Where things lie below a root; names come from ids only (trap C23).

use std::path::{Component, Path, PathBuf};

use hub_domain::ids::{VmContextId, VmDiskId};
use hub_domain::replication::ReplicaFormat;
use hub_ports::StorageError;

/// Behind the name of whatever is not finished.
const PARTIAL: &str = "partial";

/// The files of one image, finished and unfinished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageFiles {
    /// The directory of all.
    pub(crate) dir: PathBuf,
    /// The image under its own name.
    pub(crate) image: PathBuf,
    /// The manifest under its own name.
    pub(crate) manifest: PathBuf,
    /// The image while it is written.
    pub(crate) partial_image: PathBuf,
    /// The manifest while it is written.
    pub(crate) partial_manifest: PathBuf,
    /// Where the clusters of the image lie while it is written.
    pub(crate) partial_journal: PathBuf,
}

impl ImageFiles {
    /// The files of a restore point, or of anything that a record names by a path below `root`.
    pub(crate) fn of_point(root: &Path, relative: &str) -> Result<Self, StorageError> {
        let image = below(root, relative)?;
        let manifest = image.with_extension("manifest");
        Self::beside(image, manifest, relative)
    }

    /// The files of a replica; its manifest keeps the whole name, since raw and qcow2 may lie side by side.
    pub(crate) fn of_replica(root: &Path, relative: &str) -> Result<Self, StorageError> {
        let image = below(root, relative)?;
        let manifest = with_suffix(&image, "manifest");
        Self::beside(image, manifest, relative)
    }

    fn beside(image: PathBuf, manifest: PathBuf, relative: &str) -> Result<Self, StorageError> {
        let dir = image
            .parent()
            .ok_or_else(|| StorageError::InvalidName { name: relative.to_owned() })?
            .to_owned();
        Ok(Self {
            partial_image: with_suffix(&image, PARTIAL),
            partial_manifest: with_suffix(&manifest, PARTIAL),
            partial_journal: with_suffix(&with_suffix(&image, "journal"), PARTIAL),
            dir,
            image,
            manifest,
        })
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<PathBuf> {
        let mut all = self.finished();
        all.extend([
            self.partial_image.clone(),
            self.partial_manifest.clone(),
            self.partial_journal.clone(),
        ]);
        all
    }

    /// Those under their own names.
    pub(crate) fn finished(&self) -> Vec<PathBuf> {
        vec![self.image.clone(), self.manifest.clone()]
    }
}

/// The image of a replica, relative to the replica directory.
pub(crate) fn replica_path(vm: VmContextId, disk: VmDiskId, format: ReplicaFormat) -> String {
    format!("{vm}/disk-{disk}.{}", format.word())
}

/// The backing name from a child to its parent: both lie in one directory, so it is the bare file name (trap C27).
pub(crate) fn backing_name(child: &str, parent: &str) -> Result<String, StorageError> {
    let (child, parent_path) = (Path::new(child), Path::new(parent));
    match parent_path.file_name().and_then(|name| name.to_str()) {
        Some(name) if child.parent() == parent_path.parent() => Ok(name.to_owned()),
        _ => Err(StorageError::InvalidName { name: parent.to_owned() }),
    }
}

/// A plain file name for a restore: no separator, no dot in front, nothing that is a directory.
pub(crate) fn plain_file_name(name: &str) -> Result<&str, StorageError> {
    let mut parts = Path::new(name).components();
    let single = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
    let sober = name.len() <= 200
        && !name.starts_with('.')
        && !name.ends_with(PARTIAL)
        && !name.chars().any(|letter| letter.is_control() || matches!(letter, '/' | '"'));
    if single && sober {
        Ok(name)
    } else {
        Err(StorageError::InvalidName { name: name.to_owned() })
    }
}

/// `path` with `.suffix` behind its whole name.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

/// A path that a record names, below its root and nowhere else.
fn below(root: &Path, relative: &str) -> Result<PathBuf, StorageError> {
    let plain = Path::new(relative).components().all(|part| matches!(part, Component::Normal(_)));
    if plain && !relative.is_empty() && !relative.contains('\0') {
        Ok(root.join(relative))
    } else {
        Err(StorageError::InvalidName { name: relative.to_owned() })
    }
}

/// The work-in-progress name of a restored file.
pub(crate) fn partial_of(path: &Path) -> PathBuf {
    with_suffix(path, PARTIAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_cannot_lead_out_of_its_root() {
        for bad in ["../x", "/etc/shadow", "a/../../x", "", "a\0b", "./a"] {
            assert!(ImageFiles::of_point(Path::new("/r"), bad).is_err(), "{bad:?}");
        }
        let files = ImageFiles::of_point(Path::new("/r"), "v/d/p.qcow2").unwrap();
        assert_eq!(files.manifest, Path::new("/r/v/d/p.manifest"));
        assert_eq!(files.partial_image, Path::new("/r/v/d/p.qcow2.partial"));
    }

    #[test]
    fn trap_c27_backing_names_are_bare() {
        assert_eq!(backing_name("v/d/b.qcow2", "v/d/a.qcow2").unwrap(), "a.qcow2");
        assert!(backing_name("v/d/b.qcow2", "v/e/a.qcow2").is_err());
    }

    #[test]
    fn trap_c13_restores_get_plain_names_only() {
        assert!(plain_file_name("web 1, Ж.raw").is_ok());
        for bad in ["../a", "a/b", "/a", ".hidden", "", "a\n", "x.partial", ".."] {
            assert!(plain_file_name(bad).is_err(), "{bad:?}");
        }
    }
}
