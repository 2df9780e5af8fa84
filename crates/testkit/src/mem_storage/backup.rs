//! Images of restore points in memory.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use hub_domain::capacity::Capacity;
use hub_domain::ids::{BackupJobId, RepositoryId};
use hub_domain::repository::Repository;
use hub_domain::restore::{Mismatch, PointVerdict};
use hub_domain::source::{NbdAddress, ParentTable, PreparedTarget};
use hub_ports::{
    BackupStorage, ExportedPoint, PointIdentity, PointLocation, PrepareImage, ProgressSink,
    RepositoryProbe, RestoreOutput, RestoredFile, SealImage, SealedImage, StorageError,
};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::{Fault, broken, full};
use crate::Steps;

/// Bytes that every sealed image takes.
const STORED: u64 = 4096;

/// Bytes that an image keeps from an earlier attempt.
const KEPT: u64 = 3 << 20;

/// Reports of progress that reading a point makes.
const PARTS: u64 = 4;

/// Images as records.
#[derive(Debug, Default)]
pub struct MemBackupStorage {
    state: Mutex<State>,
    steps: Steps,
}

#[derive(Debug, Default)]
struct State {
    images: BTreeMap<(RepositoryId, String), Image>,
    exports: BTreeSet<String>,
    files: BTreeMap<String, bool>,
    fault: Option<Fault>,
    numbers: u64,
}

#[derive(Clone, Debug)]
struct Image {
    point: BackupJobId,
    capacity: Capacity,
    export: Option<String>,
    root: Option<String>,
    identity: Option<PointIdentity>,
}

impl MemBackupStorage {
    /// A storage whose calls are counted.
    pub fn with_steps(steps: Steps) -> Self {
        Self { state: Mutex::default(), steps }
    }

    /// Makes something go wrong, or mends it.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.state.lock().fault = fault;
    }

    /// The points whose images are sealed.
    pub fn sealed(&self) -> Vec<BackupJobId> {
        let state = self.state.lock();
        state.images.values().filter(|it| it.root.is_some()).map(|it| it.point).collect()
    }

    /// What the manifest of a sealed point says.
    pub fn identity(&self, point: BackupJobId) -> Option<PointIdentity> {
        let state = self.state.lock();
        state.images.values().find(|it| it.point == point).and_then(|it| it.identity.clone())
    }

    /// Images that were prepared and never sealed: when all jobs have ended there must be none.
    pub fn partial_images(&self) -> Vec<String> {
        let state = self.state.lock();
        let partial = state.images.iter().filter(|(_, image)| image.root.is_none());
        partial.map(|((_, path), _)| path.clone()).collect()
    }

    /// Read-only exports that are open.
    pub fn open_exports(&self) -> Vec<String> {
        self.state.lock().exports.iter().cloned().collect()
    }

    /// Finished files below the restore directory.
    pub fn restored_files(&self) -> Vec<String> {
        self.files(true)
    }

    /// Unfinished files below the restore directory.
    pub fn partial_files(&self) -> Vec<String> {
        self.files(false)
    }

    fn files(&self, finished: bool) -> Vec<String> {
        let state = self.state.lock();
        let fits = state.files.iter().filter(|(_, done)| **done == finished);
        fits.map(|(name, _)| name.clone()).collect()
    }

    async fn pass(&self, name: &str) -> Result<(), StorageError> {
        self.steps.pass(name).await.map_err(|_| broken())
    }

    /// Reads through a point, part by part.
    async fn read(
        &self,
        point: &PointLocation,
        progress: &dyn ProgressSink,
        cancel: &CancellationToken,
    ) -> Result<u64, StorageError> {
        let total = self.state.lock().image(point)?.capacity.bytes();
        for part in 1..=PARTS {
            if cancel.is_cancelled() {
                return Err(StorageError::Cancelled);
            }
            self.pass("storage.read").await?;
            progress.report(total / PARTS * part, total);
            tokio::task::yield_now().await;
        }
        Ok(total)
    }
}

impl State {
    fn image(&self, point: &PointLocation) -> Result<&Image, StorageError> {
        self.images
            .get(&(point.repository.id, point.path.clone()))
            .filter(|image| image.root.is_some() && image.point == point.point)
            .ok_or_else(|| StorageError::Missing { path: point.path.clone() })
    }

    fn next_export(&mut self) -> NbdAddress {
        self.numbers += 1;
        let export = format!("export-{}", self.numbers);
        NbdAddress { host: "127.0.0.1".to_owned(), port: 10809, export, tls: None }
    }

    /// The digest table of a parent that can be used.
    fn parent_table(&mut self, order: &PrepareImage) -> Option<ParentTable> {
        let parent = order.parent.as_ref()?;
        let image = self.images.get(&(order.repository.id, parent.path.clone()))?.clone();
        let usable = image.point == parent.point && self.fault != Some(Fault::NoParent);
        let root = image.root.filter(|_| usable)?;
        Some(ParentTable { address: self.next_export(), capacity: image.capacity, root })
    }
}

#[async_trait]
impl BackupStorage for MemBackupStorage {
    async fn probe(&self, _repository: &Repository) -> Result<RepositoryProbe, StorageError> {
        self.pass("storage.probe").await?;
        Ok(RepositoryProbe { free_bytes: 1 << 40, total_bytes: 1 << 41 })
    }

    async fn prepare_image(&self, order: &PrepareImage) -> Result<PreparedTarget, StorageError> {
        self.pass("storage.prepare").await?;
        let (path, target) = {
            let mut state = self.state.lock();
            if state.fault == Some(Fault::FullAtPrepare) {
                return Err(full());
            }
            let path = order.path();
            let key = (order.repository.id, path.clone());
            let kept = match state.images.remove(&key) {
                Some(old) if !order.resume => {
                    state.images.insert(key, old);
                    return Err(StorageError::Exists { path });
                }
                // What is sealed already is of an instant that nobody can continue.
                Some(old) => old.root.is_none().then_some(KEPT),
                None => None,
            };
            let parent = match kept {
                Some(_) => {
                    let (address, root) = (state.next_export(), "root-of-what-is-kept".to_owned());
                    Some(ParentTable { address, capacity: order.capacity, root })
                }
                None => state.parent_table(order),
            };
            let no_parent_reason = (order.parent.is_some() && parent.is_none())
                .then(|| "the manifest of the parent cannot be read".to_owned());
            let address = state.next_export();
            let image = Image {
                point: order.point,
                capacity: order.capacity,
                export: Some(address.export.clone()),
                root: None,
                identity: None,
            };
            state.images.insert((order.repository.id, path.clone()), image);
            let target = PreparedTarget {
                address,
                path: path.clone(),
                block_size: 1 << 20,
                parent,
                no_parent_reason,
                kept_bytes: kept,
            };
            (path, target)
        };
        // The image exists by now, and the caller does not know it yet.
        self.pass("storage.prepared").await.inspect_err(|_| {
            self.state.lock().images.remove(&(order.repository.id, path));
        })?;
        Ok(target)
    }

    async fn seal_image(&self, order: &SealImage) -> Result<SealedImage, StorageError> {
        self.pass("storage.seal").await?;
        {
            let mut state = self.state.lock();
            let fault = state.fault;
            let export = &order.target.address.export;
            let image = state
                .images
                .values_mut()
                .find(|image| image.export.as_ref() == Some(export))
                .ok_or(StorageError::UnknownTarget)?;
            match fault {
                Some(Fault::FullAtSeal) => return Err(full()),
                Some(Fault::Mismatch) => {
                    return Err(StorageError::ProofMismatch {
                        source_root: order.source_root.clone(),
                        stored_root: "something else".to_owned(),
                    });
                }
                _ => (),
            }
            image.root = Some(order.source_root.clone());
            image.identity = Some(order.identity.clone());
            image.export = None;
        }
        self.pass("storage.sealed").await?;
        Ok(SealedImage { stored_root: order.source_root.clone(), stored_bytes: STORED })
    }

    async fn abandon_image(&self, repository: &Repository, path: &str) -> Result<(), StorageError> {
        // Undoing works even where the step before it was made to fail; only a kill stops it.
        let _ = self.pass("storage.abandon").await;
        self.state.lock().images.remove(&(repository.id, path.to_owned()));
        Ok(())
    }

    async fn delete_image(&self, repository: &Repository, path: &str) -> Result<(), StorageError> {
        self.pass("storage.delete").await?;
        let mut state = self.state.lock();
        if state.fault == Some(Fault::DeleteFails) {
            return Err(broken());
        }
        state.images.remove(&(repository.id, path.to_owned()));
        Ok(())
    }

    async fn export_point(&self, point: &PointLocation) -> Result<ExportedPoint, StorageError> {
        self.pass("storage.export").await?;
        let mut state = self.state.lock();
        let capacity = state.image(point)?.capacity.bytes();
        let address = state.next_export();
        state.exports.insert(address.export.clone());
        Ok(ExportedPoint { address, capacity })
    }

    async fn export_digests(&self, point: &PointLocation) -> Result<ParentTable, StorageError> {
        self.pass("storage.export_digests").await?;
        let mut state = self.state.lock();
        if state.fault == Some(Fault::NoParent) {
            return Err(StorageError::Missing { path: point.path.clone() });
        }
        let Image { capacity, root, .. } = state.image(point)?.clone();
        let address = state.next_export();
        state.exports.insert(address.export.clone());
        Ok(ParentTable { address, capacity, root: root.unwrap_or_default() })
    }

    async fn close_export(&self, export: &str) -> Result<(), StorageError> {
        self.pass("storage.close").await?;
        self.state.lock().exports.remove(export);
        Ok(())
    }

    async fn verify_point(
        &self,
        point: &PointLocation,
        progress: &dyn ProgressSink,
        cancel: &CancellationToken,
    ) -> Result<PointVerdict, StorageError> {
        let bytes = self.read(point, progress, cancel).await?;
        let damaged = self.state.lock().fault == Some(Fault::Damaged);
        let mismatch = || Mismatch { offset: 4096, len: 512, what: "other bytes".to_owned() };
        Ok(PointVerdict {
            point: point.point,
            ordinal: point.ordinal,
            blocks_checked: bytes.div_ceil(1 << 20),
            bad_blocks: u64::from(damaged),
            mismatches: damaged.then(mismatch).into_iter().collect(),
            damage: None,
            suspect: false,
        })
    }

    async fn restore_point(
        &self,
        point: &PointLocation,
        output: &RestoreOutput,
        progress: &dyn ProgressSink,
        cancel: &CancellationToken,
    ) -> Result<RestoredFile, StorageError> {
        self.pass("storage.restore").await?;
        {
            let mut state = self.state.lock();
            if state.files.contains_key(&output.file_name) {
                return Err(StorageError::Exists { path: output.file_name.clone() });
            }
            state.files.insert(output.file_name.clone(), false);
        }
        let bytes = self.read(point, progress, cancel).await?;
        let mut state = self.state.lock();
        if state.fault == Some(Fault::Damaged) {
            return Err(StorageError::Damaged {
                path: point.path.clone(),
                offset: 4096,
                detail: "other bytes than the manifest says".to_owned(),
            });
        }
        state.files.insert(output.file_name.clone(), true);
        Ok(RestoredFile { path: format!("/restores/{}", output.file_name), bytes })
    }

    async fn abandon_restore(&self, output: &RestoreOutput) -> Result<(), StorageError> {
        // Undoing works even where the step before it was made to fail; only a kill stops it.
        let _ = self.pass("storage.abandon_restore").await;
        let mut state = self.state.lock();
        if state.files.get(&output.file_name) == Some(&false) {
            state.files.remove(&output.file_name);
        }
        Ok(())
    }
}
