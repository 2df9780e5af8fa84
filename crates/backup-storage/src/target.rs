//! An image that is being written: the image, its manifest, its exports, and what happens when it is let go.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hub_block::{BlockDevice, BlockError, RawFile, trail};
use hub_data_mover::{BlockSize, Digest, DigestTable, ManifestWriter, ProvingDevice};
use hub_domain::capacity::Capacity;
use hub_domain::source::{NbdAddress, ParentTable, PreparedTarget};
use hub_nbd::{Export, ExportHandle};
use hub_ports::StorageError;
use hub_qcow2::{ImageUpdater, ImageWriter};

use crate::checkpoint::Checkpoints;
use crate::failure::{block_at, io_at, unusable};
use crate::hub_storage::HubStorage;
use crate::layout::ImageFiles;
use crate::reservation::Reservation;

/// Connections that a VMA may open to one target: many times what it does by itself (trap D5), because those that the
/// network has lost keep their places until the system notices.
const TARGET_CONNECTIONS: usize = 32;

/// The image behind a target.
pub(crate) enum TargetImage {
    /// A fresh qcow2, alone or over its parent.
    Written(Arc<ImageWriter>),
    /// A qcow2 replica, written in place.
    Updated(Arc<ImageUpdater>),
    /// A raw replica, written in place.
    Raw(Arc<RawFile>),
}

impl TargetImage {
    pub(crate) fn device(&self) -> Arc<dyn BlockDevice> {
        match self {
            Self::Written(image) => image.clone(),
            Self::Updated(image) => image.clone(),
            Self::Raw(image) => image.clone(),
        }
    }

    /// Makes everything written durable, metadata included.
    pub(crate) async fn finish(&self) -> Result<(), BlockError> {
        match self {
            Self::Written(image) => image.finish().await.map(drop),
            Self::Updated(image) => image.finish().await.map(drop),
            Self::Raw(image) => image.flush().await,
        }
    }
}

/// Files that vanish with their owner, unless they are kept.
#[derive(Default)]
pub(crate) struct Unfinished {
    files: Vec<(PathBuf, Option<Identity>)>,
}

/// Device and inode: what tells a file from a later one of the same name.
type Identity = (u64, u64);

/// A file that was there or was just made, and stays when this is dropped.
pub(crate) struct Found(PathBuf, Identity);

impl Found {
    pub(crate) fn new(file: &Path) -> Result<Self, StorageError> {
        Ok(Self(file.to_owned(), identity(file).map_err(io_at(file))?))
    }
}

impl Unfinished {
    /// Takes files on; one that has been replaced under its name meanwhile belongs to somebody else.
    pub(crate) fn of(found: Vec<Found>) -> Self {
        Self { files: found.into_iter().map(|Found(file, found)| (file, Some(found))).collect() }
    }

    /// Whatever has these names.
    pub(crate) fn new(files: Vec<PathBuf>) -> Self {
        Self { files: files.into_iter().map(|file| (file, None)).collect() }
    }

    /// Adds a file that was just created. What replaces it under its name belongs to somebody else.
    pub(crate) fn own(&mut self, file: &Path) -> Result<(), StorageError> {
        let Found(file, identity) = Found::new(file)?;
        self.files.push((file, Some(identity)));
        Ok(())
    }

    /// Adds the name that a file of ours is about to get.
    pub(crate) fn own_as(&mut self, file: &Path, named: &Path) -> Result<(), StorageError> {
        let identity = identity(file).map_err(io_at(file))?;
        self.files.push((named.to_owned(), Some(identity)));
        Ok(())
    }

    /// Refuses to go on when another hub has taken the job over, and the names with it (trap U37).
    pub(crate) fn check_owned(&self) -> Result<(), StorageError> {
        match self.files.iter().find(|file| !is_ours(file)) {
            Some((file, _)) => Err(unusable(file, "another hub has taken this job over")),
            None => Ok(()),
        }
    }

    /// From here on somebody else owns the files.
    pub(crate) fn keep(mut self) {
        self.files.clear();
    }
}

fn identity(file: &Path) -> io::Result<Identity> {
    let found = fs::symlink_metadata(file)?;
    Ok((found.dev(), found.ino()))
}

fn is_ours((file, owned): &(PathBuf, Option<Identity>)) -> bool {
    owned.is_none_or(|owned| identity(file).is_ok_and(|found| found == owned))
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        for file in self.files.iter().filter(|file| is_ours(file)) {
            // A file that is gone already is as good as removed; whatever else stays is `.partial` and swept later.
            if fs::remove_file(&file.0).is_ok() {
                trail::removed(&file.0);
            }
        }
    }
}

/// The digests that a target starts from.
pub(crate) struct Parent {
    pub(crate) table: Arc<DigestTable>,
    pub(crate) root: Digest,
    pub(crate) capacity: Capacity,
}

/// What a target is made of, before it is offered.
pub(crate) struct NewTarget {
    pub(crate) files: ImageFiles,
    pub(crate) image: TargetImage,
    pub(crate) manifest: ManifestWriter,
    /// The digests that the VMA compares with.
    pub(crate) parent: Option<Parent>,
    /// The root of the point that the image stands on.
    pub(crate) parent_root: Option<Digest>,
    /// Bytes that earlier attempts have brought, when the image is not a fresh one.
    pub(crate) kept: Option<u64>,
    /// Who writes down how far it is.
    pub(crate) checkpoints: Option<Checkpoints>,
    pub(crate) unfinished: Unfinished,
    pub(crate) reservation: Reservation,
}

/// A target on offer. Dropping it ends its exports and removes what is unfinished of it.
pub(crate) struct OpenTarget {
    pub(crate) files: ImageFiles,
    pub(crate) image: TargetImage,
    pub(crate) manifest: ManifestWriter,
    pub(crate) parent_root: Option<Digest>,
    pub(crate) unfinished: Unfinished,
    kept: u64,
    checkpoints: Option<Checkpoints>,
    reservation: Reservation,
    proving: Arc<ProvingDevice>,
    export: ExportHandle,
    parent_export: Option<ExportHandle>,
}

/// A target whose writing has ended and whose digests are complete.
pub(crate) struct SettledTarget {
    pub(crate) files: ImageFiles,
    pub(crate) image: TargetImage,
    pub(crate) manifest: ManifestWriter,
    pub(crate) parent_root: Option<Digest>,
    pub(crate) unfinished: Unfinished,
    pub(crate) reservation: Reservation,
    pub(crate) root: Digest,
    /// Bytes that all attempts have brought.
    pub(crate) brought: u64,
    pub(crate) checkpoints: Option<Checkpoints>,
}

impl OpenTarget {
    /// The image under its own name, which identifies a target.
    pub(crate) fn image_path(&self) -> &Path {
        &self.files.image
    }

    /// Ends all writing and completes the digests.
    pub(crate) async fn settle(self) -> Result<SettledTarget, StorageError> {
        self.export.close().await;
        if let Some(parent) = self.parent_export {
            parent.close().await;
        }
        let root = self.proving.settle().await.map_err(block_at(&self.files.image))?;
        Ok(SettledTarget {
            files: self.files,
            image: self.image,
            manifest: self.manifest,
            parent_root: self.parent_root,
            unfinished: self.unfinished,
            reservation: self.reservation,
            root,
            checkpoints: self.checkpoints,
            brought: self.kept.saturating_add(self.proving.bytes_written()),
        })
    }

    /// Ends all writing, and leaves the files to a later attempt when their journal is complete; else they go.
    pub(crate) async fn leave(self) {
        self.export.close().await;
        if let Some(parent) = self.parent_export {
            parent.close().await;
        }
        if let Some(checkpoints) = self.checkpoints {
            checkpoints.end_complete().await;
            if self.files.partial_journal.exists() {
                self.unfinished.keep();
            }
        }
    }

    /// Ends all writing and lets everything unfinished go.
    pub(crate) async fn discard(self) {
        if let Some(checkpoints) = self.checkpoints {
            checkpoints.end().await;
        }
        self.export.close().await;
        if let Some(parent) = self.parent_export {
            parent.close().await;
        }
    }
}

/// The proof at both ends: what the VMA read is what the hub stored.
pub(crate) fn compare_roots(source_root: &str, stored: Digest) -> Result<(), StorageError> {
    if source_root.parse() == Ok(stored) {
        return Ok(());
    }
    Err(StorageError::ProofMismatch {
        source_root: source_root.to_owned(),
        stored_root: stored.to_string(),
    })
}

/// Offers a new target to the one VMA that will learn its name.
pub(crate) fn open(
    storage: &HubStorage,
    new: NewTarget,
    relative: String,
    block_size: BlockSize,
    no_parent_reason: Option<String>,
) -> Result<PreparedTarget, StorageError> {
    let proving = Arc::new(ProvingDevice::new(new.image.device(), new.manifest.table()));
    let (address, export) = storage.offer(Export {
        device: proving.clone(),
        description: "an image that is being written".to_owned(),
        max_connections: TARGET_CONNECTIONS,
    })?;
    let (parent, parent_export) = match &new.parent {
        None => (None, None),
        Some(parent) => {
            let (address, handle) = offer_table(storage, parent)?;
            (Some(address), Some(handle))
        }
    };
    let target = OpenTarget {
        files: new.files,
        image: new.image,
        manifest: new.manifest,
        parent_root: new.parent_root,
        kept: new.kept.unwrap_or(0),
        checkpoints: new.checkpoints,
        unfinished: new.unfinished,
        reservation: new.reservation,
        proving,
        export,
        parent_export,
    };
    storage.keep(address.export.clone(), target);
    Ok(PreparedTarget {
        address,
        path: relative,
        block_size: block_size.get(),
        parent,
        no_parent_reason,
        kept_bytes: new.kept,
    })
}

/// Offers digests to the one VMA that will learn their name.
pub(crate) fn offer_table(
    storage: &HubStorage,
    parent: &Parent,
) -> Result<(ParentTable, ExportHandle), StorageError> {
    let (address, handle): (NbdAddress, _) = storage.offer(Export {
        device: parent.table.as_device(),
        description: "the digest table of a point".to_owned(),
        max_connections: TARGET_CONNECTIONS,
    })?;
    let table = ParentTable { address, capacity: parent.capacity, root: parent.root.to_string() };
    Ok((table, handle))
}
