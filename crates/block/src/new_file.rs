//! Files that begin: whoever could not begin one has nothing in hand, and so would never remove it.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::trail;

/// Creates a file for reading and writing, which must not exist, and begins it.
///
/// When `begin` fails, the file goes again: an error means that nothing of it is left. What has come under its name
/// meanwhile is somebody else's and stays.
pub fn create_file<T, E: From<io::Error>>(
    path: &Path,
    begin: impl FnOnce(File) -> Result<T, E>,
) -> Result<T, E> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
    trail::created(&file, path);
    let created = file.metadata();
    begin(file).inspect_err(|_| {
        // Should this fail, too, the first error is the one to tell.
        if created.is_ok_and(|it| is_named(&it, path)) && fs::remove_file(path).is_ok() {
            trail::removed(path);
        }
    })
}

/// Whether a path still names this file.
fn is_named(file: &Metadata, path: &Path) -> bool {
    let found = fs::symlink_metadata(path);
    found.is_ok_and(|found| (found.dev(), found.ino()) == (file.dev(), file.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_room<T>() -> io::Result<T> {
        Err(io::ErrorKind::StorageFull.into())
    }

    /// Promise P5: a failure leaves no half file.
    #[test]
    fn p5_what_could_not_be_begun_is_gone_and_its_name_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new");
        let failed = create_file(&path, |_| no_room::<()>()).unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::StorageFull);
        assert!(!path.exists());
        create_file(&path, |file| file.set_len(3)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 3);
    }

    /// Trap U37: what another process has made under the name meanwhile is not ours to remove.
    #[test]
    fn u37_what_has_replaced_the_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("new"), folder.path().join("other"));
        fs::write(&other, "theirs").unwrap();
        let replaced = create_file(&path, |_| {
            fs::rename(&other, &path)?;
            no_room::<()>()
        });
        replaced.unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"theirs");
    }

    /// Trap D14: nothing is ever written over.
    #[test]
    fn d14_a_file_that_is_there_is_neither_begun_nor_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("old");
        fs::write(&path, "old").unwrap();
        create_file(&path, |_| Ok::<_, io::Error>(())).unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }
}
