//! Steps that survive a power cut: a name is durable only when its directory is synced.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use hub_block::failpoint::{self, Point};
use hub_block::{create_file, trail};
use rustix::fs::{CWD, RenameFlags};

/// Creates a directory with its ancestors below `root`, each durable; `root` itself must exist.
pub(crate) fn create_dirs(root: &Path, relative: &Path) -> io::Result<PathBuf> {
    create_dirs_with(root, relative, sync_dir)
}

/// Creates a directory that a setting names, with whatever is missing above it, each durable.
pub(crate) fn create_root(dir: &Path) -> io::Result<PathBuf> {
    let dir = std::path::absolute(dir)?;
    let there = dir.ancestors().find(|it| it.is_dir()).unwrap_or(&dir);
    create_dirs(there, dir.strip_prefix(there).unwrap_or(Path::new("")))
}

fn create_dirs_with(
    root: &Path,
    relative: &Path,
    mut sync: impl FnMut(&Path) -> io::Result<()>,
) -> io::Result<PathBuf> {
    let mut at = root.to_owned();
    for part in relative.components() {
        let parent = at.clone();
        at.push(part);
        match fs::create_dir(&at) {
            Ok(()) => {
                trail::directory_made(&at);
                failpoint::reach(Point::DirectoryMade)?;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => (),
            Err(error) => return Err(error),
        }
        // One that was there already may be as young: who made it may have died before this step.
        sync(&parent)?;
    }
    Ok(at)
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    failpoint::reach(Point::DirectorySync)?;
    trail::sync_directory(dir, || File::open(dir)?.sync_all())?;
    failpoint::reach(Point::DirectorySynced)
}

/// Gives a file its name without ever replacing another one; the directory is the caller's to sync.
pub(crate) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    failpoint::reach(Point::FileNaming)?;
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => {
            trail::renamed(from, to);
            failpoint::reach(Point::FileNamed)
        }
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            // This file system cannot rename without replacing; a link cannot replace either.
            fs::hard_link(from, to)?;
            fs::remove_file(from)?;
            trail::renamed(from, to);
            failpoint::reach(Point::FileNamed)
        }
        Err(error) => Err(error.into()),
    }
}

/// Removes files that may be gone already, then makes their absence durable.
pub(crate) fn remove_files(dir: &Path, files: &[PathBuf]) -> io::Result<()> {
    for file in files {
        failpoint::reach(Point::FileRemoving)?;
        match fs::remove_file(file) {
            Ok(()) => {
                trail::removed(file);
                failpoint::reach(Point::FileRemoved)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => (),
            Err(error) => return Err(error),
        }
    }
    // A file that was gone already may be gone in memory only: who removed it may have died before this step.
    sync_dir(dir)
}

/// Creates a file that must not exist, with this content, durable but for its name; all of it or nothing.
pub(crate) fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    create_file(path, |mut file| {
        file.write_all(content)?;
        trail::wrote(&file, 0, content);
        trail::sync(&file, || file.sync_all())?;
        failpoint::reach(Point::FileWritten)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rename_never_replaces() {
        let folder = tempfile::tempdir().unwrap();
        let (new, old) = (folder.path().join("new"), folder.path().join("old"));
        write_new(&new, b"new").unwrap();
        write_new(&old, b"old").unwrap();
        assert!(rename_new(&new, &old).is_err());
        assert_eq!(fs::read(&old).unwrap(), b"old");
        fs::remove_file(&old).unwrap();
        rename_new(&new, &old).unwrap();
        assert_eq!(fs::read(&old).unwrap(), b"new");
    }

    /// Promise P1: whoever made a directory may have died, or not yet come, to the sync of its parent.
    #[test]
    fn p1_a_directory_that_is_there_is_not_taken_for_durable() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for _ in 0..2 {
            let mut synced = Vec::new();
            let note = |dir: &Path| {
                synced.push(dir.to_owned());
                Ok(())
            };
            let made = create_dirs_with(root, Path::new("vm/disk"), note).unwrap();
            assert_eq!(made, root.join("vm/disk"));
            assert_eq!(synced, [root.to_owned(), root.join("vm")]);
        }
    }

    /// Promise P2: a file that is gone may be gone in memory only, so that a power cut would bring it back.
    #[test]
    fn p2_a_file_that_is_gone_is_not_taken_for_durably_gone() {
        let folder = tempfile::tempdir().unwrap();
        let trail = trail::follow(folder.path());
        remove_files(folder.path(), &[folder.path().join("a")]).unwrap();
        let synced = trail::Step::DirectorySynced { path: folder.path().to_owned() };
        assert!(trail.steps().iter().any(|(_, step)| *step == synced));
    }

    /// Promise P5: half a file is nobody's.
    #[test]
    fn p5_a_file_that_could_not_be_written_whole_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        let write = || write_new(&file, b"x");
        failpoint::with_orders("file.written=enospc", write).unwrap().unwrap_err();
        assert!(!file.exists());
    }

    #[test]
    fn removing_twice_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        write_new(&file, b"x").unwrap();
        remove_files(folder.path(), std::slice::from_ref(&file)).unwrap();
        remove_files(folder.path(), &[file]).unwrap();
    }
}
