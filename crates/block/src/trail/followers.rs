//! Who follows, and what each has seen.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::step::{FileId, Step};

/// How many follow; most processes never have one, and ask no further.
static COUNT: AtomicUsize = AtomicUsize::new(0);
static FOLLOWERS: Mutex<Vec<Arc<Mutex<Followed>>>> = Mutex::new(Vec::new());
/// Orders what is done with what a sync covers.
static SEQUENCE: AtomicU64 = AtomicU64::new(0);

/// Follows everything that this process does below one directory, until it is dropped.
pub struct Trail {
    followed: Arc<Mutex<Followed>>,
}

/// What one follower has seen.
pub(super) struct Followed {
    root: PathBuf,
    /// Device and inode of the files that were created below the root.
    files: HashMap<(u64, u64), FileId>,
    /// They stay open, each by its number: as long as they do, their inodes are given to no other file.
    opened: Vec<File>,
    steps: Vec<(u64, Step)>,
}

/// Begins to follow what is done below a directory. Files that are there already are not followed.
pub fn follow(root: &Path) -> Trail {
    let root = root.to_owned();
    let followed = Followed { root, files: HashMap::new(), opened: Vec::new(), steps: Vec::new() };
    let followed = Arc::new(Mutex::new(followed));
    FOLLOWERS.lock().push(followed.clone());
    COUNT.fetch_add(1, Ordering::SeqCst);
    Trail { followed }
}

impl Trail {
    /// Notes something that the test has seen.
    pub fn mark(&self, what: impl Into<String>) {
        let step = Step::Marked { what: what.into() };
        self.followed.lock().steps.push((next_number(), step));
    }

    /// Everything so far, in the order in which it had ended, each with the number of the moment that it is of.
    /// For a sync that is the moment in which it began: it covers what has a smaller number.
    pub fn steps(&self) -> Vec<(u64, Step)> {
        self.followed.lock().steps.clone()
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        FOLLOWERS.lock().retain(|it| !Arc::ptr_eq(it, &self.followed));
        COUNT.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Followed {
    pub(super) fn is_below(&self, path: &Path) -> bool {
        path.starts_with(&self.root)
    }

    pub(super) fn file_of(&self, file: &File) -> Option<FileId> {
        self.files.get(&identity(file)?).copied()
    }
}

fn identity(file: &File) -> Option<(u64, u64)> {
    file.metadata().ok().map(|it| (it.dev(), it.ino()))
}

fn next_number() -> u64 {
    SEQUENCE.fetch_add(1, Ordering::SeqCst)
}

/// The number that a sync which begins now has in the order of things.
pub(super) fn sequence() -> u64 {
    next_number()
}

/// Lets every follower note a step, as of the moment with this number.
pub(super) fn note_at(number: u64, step: impl Fn(&Followed) -> Option<Step>) {
    if COUNT.load(Ordering::SeqCst) == 0 {
        return;
    }
    for followed in FOLLOWERS.lock().iter() {
        let mut followed = followed.lock();
        if let Some(step) = step(&followed) {
            followed.steps.push((number, step));
        }
    }
}

pub(super) fn note(path: &Path, step: impl Fn() -> Step) {
    if COUNT.load(Ordering::SeqCst) > 0 {
        note_at(next_number(), |followed| followed.is_below(path).then(&step));
    }
}

pub(super) fn note_file(file: &File, step: impl Fn(FileId) -> Step) {
    if COUNT.load(Ordering::SeqCst) > 0 {
        note_at(next_number(), |followed| followed.file_of(file).map(&step));
    }
}

pub(super) fn note_created(file: &File, path: &Path) {
    if COUNT.load(Ordering::SeqCst) == 0 {
        return;
    }
    let number = next_number();
    for followed in FOLLOWERS.lock().iter() {
        let mut followed = followed.lock();
        if !followed.is_below(path) {
            continue;
        }
        // Opened once more and not cloned: a clone would share the locks of the one that made it.
        if let (Some(identity), Ok(opened)) = (identity(file), File::open(path)) {
            let id = followed.opened.len();
            followed.opened.push(opened);
            followed.files.insert(identity, id);
            followed.steps.push((number, Step::Created { file: id, path: path.to_owned() }));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    /// File systems give the inode of a file that is gone to the next one, and that one may be anybody's.
    #[test]
    fn a_file_elsewhere_is_not_taken_for_one_that_is_gone() -> Result<(), Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let (root, elsewhere) = (folder.path().join("followed"), folder.path().join("elsewhere"));
        std::fs::create_dir(&root)?;
        std::fs::create_dir(&elsewhere)?;
        let trail = follow(&root);
        for number in 0..64 {
            let path = root.join(format!("{number}"));
            note_created(&File::create_new(&path)?, &path);
            std::fs::remove_file(&path)?;
        }
        let steps = trail.steps().len();
        for number in 0..64 {
            let file = File::create_new(elsewhere.join(format!("{number}")))?;
            note_file(&file, |file| Step::Synced { file });
        }
        assert_eq!(trail.steps().len(), steps);
        Ok(())
    }
}
