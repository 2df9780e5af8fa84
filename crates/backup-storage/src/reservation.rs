//! Paths that somebody is writing to: one image, one writer (trap U25).

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hub_ports::StorageError;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

/// The paths in use by one hub process.
#[derive(Clone, Default)]
pub(crate) struct Reservations {
    paths: Arc<Mutex<HashSet<PathBuf>>>,
    changed: Arc<Notify>,
}

impl Reservations {
    /// Takes a path until the reservation is dropped; a path in use is refused.
    pub(crate) fn take(&self, path: &Path) -> Result<Reservation, StorageError> {
        if !self.paths.lock().insert(path.to_owned()) {
            return Err(StorageError::Exists { path: path.display().to_string() });
        }
        Ok(Reservation { all: self.clone(), path: path.to_owned() })
    }

    /// Ends at the next change after this call: a path was let go, or its target can be taken out now.
    pub(crate) fn next_change(&self) -> OwnedNotified {
        self.changed.clone().notified_owned()
    }

    /// Wakes those who wait for a change.
    pub(crate) fn tell_change(&self) {
        self.changed.notify_waiters();
    }
}

/// A path in use.
pub(crate) struct Reservation {
    all: Reservations,
    path: PathBuf,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.all.paths.lock().remove(&self.path);
        self.all.tell_change();
    }
}
