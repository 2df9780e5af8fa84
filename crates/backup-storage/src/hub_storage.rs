//! The storage of one hub: its options, and what is open at the moment.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use hub_domain::repository::Repository;
use hub_domain::restore::PointVerdict;
use hub_domain::source::{NbdAddress, NbdTls, ParentTable, PreparedTarget};
use hub_nbd::{Export, ExportHandle, Exports};
use hub_ports::{
    BackupStorage, ExportedPoint, PointLocation, PrepareImage, PrepareReplica, ProgressSink,
    ReplicaStorage, RepositoryProbe, RestoreOutput, RestoredFile, SealImage, SealedImage,
    StorageError,
};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::failure::{blocking, io_at, unusable};
use crate::reservation::Reservations;
use crate::target::OpenTarget;
use crate::{export_name, image, point, probe, replica, restore_file, resume};

/// Where the storage keeps things that have no repository, and how VMAs reach its exports.
#[derive(Clone, Debug)]
pub struct HubStorageOptions {
    /// Host name or address under which VMAs reach the hub's NBD port.
    pub nbd_advertise_host: String,
    /// That port.
    pub nbd_port: u16,
    /// How it proves who it is; nothing where VMAs and readers speak to it in the clear.
    pub nbd_tls: Option<NbdTls>,
    /// Directory of the replica images; created when first needed.
    pub replica_dir: PathBuf,
    /// Directory of restored files; created when first needed.
    pub restore_dir: PathBuf,
    /// Time between two checkpoints of a full image that is being written; after a restart of the hub, what came later
    /// comes again.
    pub checkpoint_every: Duration,
}

/// Repositories, replicas, restores and exports of one hub process.
///
/// What is open lives in memory and ends with the process; what it leaves on disk then is `.partial` and is removed by
/// abandoning the job it belonged to.
pub struct HubStorage {
    pub(crate) options: HubStorageOptions,
    exports: Exports,
    targets: Mutex<HashMap<String, OpenTarget>>,
    readers: Mutex<HashMap<String, ExportHandle>>,
    pub(crate) in_use: Reservations,
}

impl HubStorage {
    /// Storage that offers its exports in this registry.
    pub fn new(options: HubStorageOptions, exports: Exports) -> Self {
        Self {
            options,
            exports,
            targets: Mutex::default(),
            readers: Mutex::default(),
            in_use: Reservations::default(),
        }
    }

    /// Removes what runs of an earlier hub left of replicas that they did not complete; answers how many files.
    ///
    /// Called before anything is started, once the jobs of the earlier hub have ended.
    pub async fn sweep_replicas(&self) -> Result<usize, StorageError> {
        let root = self.options.replica_dir.clone();
        blocking(&root.clone(), move || replica::sweep(&root)).await
    }

    /// Offers a device under a fresh name.
    pub(crate) fn offer(&self, export: Export) -> Result<(NbdAddress, ExportHandle), StorageError> {
        let place = Path::new("the NBD exports");
        let name = export_name::unguessable().map_err(io_at(place))?;
        let handle = self.exports.add(name, export).map_err(|error| unusable(place, error))?;
        let address = NbdAddress {
            host: self.options.nbd_advertise_host.clone(),
            port: self.options.nbd_port,
            export: handle.name().to_owned(),
            tls: self.options.nbd_tls.clone(),
        };
        Ok((address, handle))
    }

    /// Keeps a target until it is sealed or abandoned.
    pub(crate) fn keep(&self, export: String, target: OpenTarget) {
        self.targets.lock().insert(export, target);
        self.in_use.tell_change();
    }

    /// Takes a target out, to end it.
    pub(crate) fn release(&self, export: &str) -> Result<OpenTarget, StorageError> {
        self.targets.lock().remove(export).ok_or(StorageError::UnknownTarget)
    }

    /// Takes out the target of an image, if it is open.
    pub(crate) fn release_image(&self, image: &Path) -> Option<OpenTarget> {
        let mut targets = self.targets.lock();
        let export = targets.iter().find(|(_, open)| open.image_path() == image)?.0.clone();
        targets.remove(&export)
    }

    /// Keeps a reader's export until it is closed.
    pub(crate) fn keep_reader(&self, handle: ExportHandle) {
        self.readers.lock().insert(handle.name().to_owned(), handle);
    }
}

#[async_trait]
impl BackupStorage for HubStorage {
    async fn probe(&self, repository: &Repository) -> Result<RepositoryProbe, StorageError> {
        probe::probe(repository).await
    }

    async fn prepare_image(&self, order: &PrepareImage) -> Result<PreparedTarget, StorageError> {
        image::prepare(self, order).await
    }

    async fn seal_image(&self, order: &SealImage) -> Result<SealedImage, StorageError> {
        image::seal(self, order).await
    }

    async fn abandon_image(&self, repository: &Repository, path: &str) -> Result<(), StorageError> {
        image::abandon(self, repository, path).await
    }

    async fn leave_image(&self, repository: &Repository, path: &str) -> Result<(), StorageError> {
        resume::leave(self, repository, path).await
    }

    async fn delete_image(&self, repository: &Repository, path: &str) -> Result<(), StorageError> {
        image::delete(repository, path).await
    }

    async fn export_point(&self, location: &PointLocation) -> Result<ExportedPoint, StorageError> {
        point::export(self, location).await
    }

    async fn export_digests(&self, location: &PointLocation) -> Result<ParentTable, StorageError> {
        point::export_digests(self, location).await
    }

    async fn close_export(&self, export: &str) -> Result<(), StorageError> {
        let handle = self.readers.lock().remove(export);
        if let Some(handle) = handle {
            handle.close().await;
        }
        Ok(())
    }

    async fn verify_point(
        &self,
        location: &PointLocation,
        progress: &dyn ProgressSink,
        cancel: &CancellationToken,
    ) -> Result<PointVerdict, StorageError> {
        point::verify(location, progress, cancel).await
    }

    async fn restore_point(
        &self,
        location: &PointLocation,
        output: &RestoreOutput,
        progress: &dyn ProgressSink,
        cancel: &CancellationToken,
    ) -> Result<RestoredFile, StorageError> {
        restore_file::restore(self, location, output, progress, cancel).await
    }

    async fn abandon_restore(&self, output: &RestoreOutput) -> Result<(), StorageError> {
        restore_file::abandon(self, output).await
    }
}

#[async_trait]
impl ReplicaStorage for HubStorage {
    async fn prepare_replica(
        &self,
        order: &PrepareReplica,
    ) -> Result<PreparedTarget, StorageError> {
        replica::prepare(self, order).await
    }

    async fn seal_replica(
        &self,
        target: &PreparedTarget,
        source_root: &str,
    ) -> Result<String, StorageError> {
        replica::seal(self, target, source_root).await
    }

    async fn release_replica(&self, target: &PreparedTarget) -> Result<(), StorageError> {
        replica::release(self, target).await
    }
}
