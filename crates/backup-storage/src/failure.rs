//! Turns what devices and files say into what a job can store.

use std::fmt::Display;
use std::io;
use std::path::Path;

use hub_block::BlockError;
use hub_data_mover::ManifestError;
use hub_ports::{StorageError, told};

/// A failed file operation at a place.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the kinds that a user can act on have a name of their own"
)]
pub(crate) fn io_at(path: &Path) -> impl Fn(io::Error) -> StorageError + use<> {
    let path = path.display().to_string();
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            StorageError::Full { place: path.clone() }
        }
        io::ErrorKind::NotFound => StorageError::Missing { path: path.clone() },
        io::ErrorKind::AlreadyExists => StorageError::Exists { path: path.clone() },
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            StorageError::Unusable { place: path.clone(), detail: source.to_string() }
        }
        _ => StorageError::Io { path: path.clone(), source },
    }
}

/// A failed device operation at a place.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the kinds that a user can act on have a name of their own"
)]
pub(crate) fn block_at(path: &Path) -> impl Fn(BlockError) -> StorageError + use<> {
    let place = path.to_owned();
    move |error| match error {
        BlockError::NoSpace => StorageError::Full { place: place.display().to_string() },
        BlockError::Corrupt { offset, what } => {
            StorageError::Damaged { path: place.display().to_string(), offset, detail: what }
        }
        BlockError::Io(source) => io_at(&place)(source),
        other => unusable(&place, other),
    }
}

/// A manifest that could not be written at a place.
#[expect(clippy::wildcard_enum_match_arm, reason = "only a failed file operation is told apart")]
pub(crate) fn manifest_at(path: &Path) -> impl Fn(ManifestError) -> StorageError + use<> {
    let place = path.to_owned();
    move |error| match error {
        ManifestError::Io(source) => io_at(&place)(source),
        other => unusable(&place, told(&other)),
    }
}

/// A place that cannot be used, and why.
pub(crate) fn unusable(path: &Path, detail: impl Display) -> StorageError {
    StorageError::Unusable { place: path.display().to_string(), detail: detail.to_string() }
}

/// Runs blocking file work away from the threads that serve the network.
pub(crate) async fn blocking<T: Send + 'static>(
    place: &Path,
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, StorageError> {
    let place = place.to_owned();
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| io_at(&place)(io::Error::other(error)))?
}
