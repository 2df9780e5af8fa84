//! Tries a repository before anything is trusted to it.

use std::fs;
use std::path::{Path, PathBuf};

use hub_domain::repository::Repository;
use hub_ports::{RepositoryProbe, StorageError};

use crate::durable;
use crate::export_name;
use crate::failure::{blocking, io_at, unusable};
use crate::target::Unfinished;

/// Really writes, syncs and removes a file.
pub(crate) async fn probe(repository: &Repository) -> Result<RepositoryProbe, StorageError> {
    let root = PathBuf::from(&repository.path);
    blocking(&root.clone(), move || {
        let root = usable_root(&root)?;
        let name = export_name::unguessable().map_err(io_at(&root))?;
        let file = root.join(format!(".probe-{name}"));
        let trial = Unfinished::new(vec![file.clone()]);
        durable::write_new(&file, &[0x5A; 4096]).map_err(io_at(&root))?;
        drop(trial);
        durable::sync_dir(&root).map_err(io_at(&root))?;
        let space = rustix::fs::statvfs(&root).map_err(|error| io_at(&root)(error.into()))?;
        Ok(RepositoryProbe {
            free_bytes: space.f_bavail.saturating_mul(space.f_frsize),
            total_bytes: space.f_blocks.saturating_mul(space.f_frsize),
        })
    })
    .await
}

/// The directory of a repository; it is never created by accident, since an unmounted one would be.
pub(crate) fn usable_root(root: &Path) -> Result<PathBuf, StorageError> {
    if !root.is_absolute() {
        return Err(unusable(root, "a repository's path is absolute"));
    }
    match fs::metadata(root) {
        Ok(found) if found.is_dir() => Ok(root.to_owned()),
        Ok(_) => Err(unusable(root, "it is not a directory")),
        Err(error) => Err(unusable(root, format!("{error}; create or mount it"))),
    }
}
