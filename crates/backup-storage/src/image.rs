//! Images of restore points: prepared, sealed, abandoned, deleted.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hub_block::BlockDevice;
use hub_block::failpoint::{self, Point};
use hub_data_mover::{
    BlockSize, Digest, Manifest, ManifestIdentity, ManifestParent, ManifestWriter,
};
use hub_domain::capacity::Capacity;
use hub_domain::repository::Repository;
use hub_domain::source::PreparedTarget;
use hub_ports::{
    ParentImage, PointIdentity, PrepareImage, SealImage, SealedImage, StorageError, told,
};
use hub_qcow2::{
    Backing, CreateError, CreateOptions, ImageReader, ImageWriter, InsideDirectory, OpenError, Zstd,
};
use tokio::time::timeout;

use crate::checkpoint::Told;
use crate::durable;
use crate::failure::{block_at, blocking, io_at, manifest_at, unusable};
use crate::hub_storage::HubStorage;
use crate::layout::{self, ImageFiles};
use crate::probe::usable_root;
use crate::proof;
use crate::reservation::Reservation;
use crate::resume;
use crate::target::{
    self, NewTarget, OpenTarget, Parent, SettledTarget, TargetImage, Unfinished, compare_roots,
};

/// Clusters of 64 KiB: the size of a digest's block, and what stock tools use.
pub(crate) const CLUSTER_BITS: u32 = 16;

/// How long an image that is abandoned or left may take to come to rest: the last writes, syncs and renames of a slow disk.
const QUIET_WITHIN: Duration = Duration::from_secs(120);

/// Creates image and manifest under their partial names and offers them for writing.
pub(crate) async fn prepare(
    storage: &HubStorage,
    order: &PrepareImage,
) -> Result<PreparedTarget, StorageError> {
    let relative = order.path();
    let place = PathBuf::from(&order.repository.path);
    let files = ImageFiles::of_point(&place, &relative)?;
    if order.resume {
        if let Some(target) = resume::take_up(storage, &files, &relative, order.capacity).await {
            return Ok(target);
        }
        if let Some(target) = resume::reopen(storage, order, &files).await {
            return Ok(target);
        }
        abandon(storage, &order.repository, &relative).await?;
    }
    let reservation = storage.in_use.take(&files.image)?;
    let (asked, path) = (order.clone(), relative.clone());
    let mut made = blocking(&place, move || create(&asked, &path, reservation)).await?;
    if made.target.parent.is_none() {
        let told = Told::default();
        made.target.checkpoints =
            resume::checkpoints(storage, order, &files, &made.target.image, told);
    }
    target::open(storage, made.target, relative, made.block_size, made.no_parent_reason)
}

/// How the clusters of a new point are compressed, if its repository wants that.
pub(crate) fn zstd(repository: &Repository) -> Option<Zstd> {
    repository.settings.compression.level().and_then(|level| Zstd::new(level.get()))
}

struct Created {
    target: NewTarget,
    block_size: BlockSize,
    no_parent_reason: Option<String>,
}

fn create(
    order: &PrepareImage,
    relative: &str,
    reservation: Reservation,
) -> Result<Created, StorageError> {
    let root = usable_root(Path::new(&order.repository.path))?;
    let files = ImageFiles::of_point(&root, relative)?;
    if files.finished().iter().any(|file| file.exists()) {
        return Err(StorageError::Exists { path: files.image.display().to_string() });
    }
    let below_root = Path::new(relative).parent().unwrap_or(Path::new(""));
    durable::create_dirs(&root, below_root).map_err(io_at(&files.dir))?;

    let block_size = BlockSize::for_capacity(order.capacity.bytes());
    let opened =
        order.parent.as_ref().map(|parent| open_parent(&root, parent, block_size, order.capacity));
    let (parent, no_parent_reason) = match opened {
        None => (None, None),
        Some(Ok(parent)) => (Some(parent), None),
        Some(Err(error)) => (None, Some(told(&error))),
    };

    let mut unfinished = Unfinished::default();
    let manifest =
        ManifestWriter::create_new(&files.partial_manifest, order.capacity.bytes(), block_size)
            .map_err(manifest_at(&files.partial_manifest))?;
    unfinished.own(&files.partial_manifest)?;
    if let Some((parent, _)) = &parent {
        manifest.table().copy_from(&parent.table).map_err(io_at(&files.partial_manifest))?;
    }
    let backing = match (&parent, &order.parent) {
        (Some((parent, _)), Some(named)) => Some(Backing {
            name: layout::backing_name(relative, &named.path)?,
            virtual_size: parent.capacity.bytes(),
        }),
        _ => None,
    };
    let options = CreateOptions {
        cluster_bits: CLUSTER_BITS,
        backing,
        compression: zstd(&order.repository),
        ..CreateOptions::new(order.capacity.bytes())
    };
    let (parent, chain) = parent.unzip();
    let image = ImageWriter::create_new(&files.partial_image, options, chain)
        .map_err(|error| not_created(&files.partial_image, error))?;
    unfinished.own(&files.partial_image)?;
    failpoint::reach(Point::TargetCreated).map_err(io_at(&files.partial_image))?;
    let image = TargetImage::Written(Arc::new(image));
    let parent_root = parent.as_ref().map(|parent| parent.root);
    let target = NewTarget {
        files,
        image,
        manifest,
        parent,
        parent_root,
        kept: None,
        checkpoints: None,
        unfinished,
        reservation,
    };
    Ok(Created { target, block_size, no_parent_reason })
}

/// The parent's digests and its chain, if both are whole; an overlay never stands on anything else.
fn open_parent(
    root: &Path,
    parent: &ParentImage,
    block_size: BlockSize,
    capacity: Capacity,
) -> Result<(Parent, Arc<dyn BlockDevice>), StorageError> {
    let files = ImageFiles::of_point(root, &parent.path)?;
    let manifest = open_manifest(&files)?;
    manifest.check_table().map_err(|error| unusable(&files.manifest, told(&error)))?;
    if manifest.identity().point_id != parent.point.to_string() {
        return Err(unusable(&files.manifest, "it is the manifest of another point"));
    }
    let table = manifest.table();
    if table.block_size() != block_size {
        return Err(unusable(&files.manifest, "its blocks have another size than the disk's now"));
    }
    let parent_capacity = Capacity::new(table.capacity())
        .ok()
        .filter(|parent| *parent <= capacity)
        .ok_or_else(|| unusable(&files.manifest, "its disk was larger than it is now"))?;
    let chain = open_chain(root, &files.image)?;
    if chain.size() != table.capacity() {
        return Err(unusable(&files.image, "image and manifest are of different size"));
    }
    let parent = Parent { table, root: manifest.root(), capacity: parent_capacity };
    Ok((parent, Arc::new(chain)))
}

/// Opens a manifest, or says which file is missing or damaged.
pub(crate) fn open_manifest(files: &ImageFiles) -> Result<Manifest, StorageError> {
    if !files.manifest.exists() {
        return Err(StorageError::Missing { path: files.manifest.display().to_string() });
    }
    Manifest::open(&files.manifest).map_err(|error| StorageError::Damaged {
        path: files.manifest.display().to_string(),
        offset: 0,
        detail: told(&error),
    })
}

/// Opens an image with everything it stands on, inside its repository only.
pub(crate) fn open_chain(root: &Path, image: &Path) -> Result<ImageReader, StorageError> {
    if !image.exists() {
        return Err(StorageError::Missing { path: image.display().to_string() });
    }
    ImageReader::open_chain(&InsideDirectory::new(root), image)
        .map_err(|error| not_opened(image, &error))
}

/// Says which file of an image's chain cannot be opened, and where it is damaged.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "every other reason means that the chain cannot be trusted"
)]
pub(crate) fn not_opened(image: &Path, error: &OpenError) -> StorageError {
    match error {
        OpenError::BackingMissing { path, named } => StorageError::MissingParent {
            image: path.display().to_string(),
            path: path.with_file_name(named).display().to_string(),
        },
        OpenError::Corrupt { path, offset, what } => StorageError::Damaged {
            path: path.display().to_string(),
            offset: *offset,
            detail: what.clone(),
        },
        _ => StorageError::Damaged {
            path: image.display().to_string(),
            offset: 0,
            detail: format!("{}; put it back from a copy of the repository", told(error)),
        },
    }
}

/// Compares both ends, finishes the image, seals the manifest, and gives both their names.
pub(crate) async fn seal(
    storage: &HubStorage,
    order: &SealImage,
) -> Result<SealedImage, StorageError> {
    let target = storage.release(&order.target.address.export)?;
    let mut settled = target.settle().await?;
    if let Some(checkpoints) = settled.checkpoints.take() {
        checkpoints.end().await;
    }
    compare_roots(&order.source_root, settled.root)?;
    failpoint::reach(Point::SealProven).map_err(io_at(&settled.files.partial_image))?;
    settled.image.finish().await.map_err(block_at(&settled.files.partial_image))?;
    failpoint::reach(Point::SealImageFinished).map_err(io_at(&settled.files.partial_image))?;
    let order = order.clone();
    let place = settled.files.image.clone();
    blocking(&place, move || publish(settled, &order)).await
}

fn publish(settled: SettledTarget, order: &SealImage) -> Result<SealedImage, StorageError> {
    // Dropped in reverse order: after an error the path is free when what is unfinished has been removed.
    let SettledTarget {
        reservation,
        unfinished,
        files,
        image,
        manifest,
        parent_root,
        root,
        brought: _,
        checkpoints: _,
    } = settled;
    let identity = ManifestIdentity {
        image_seal: Some(proof::seal(&files.partial_image)?),
        ..manifest_identity(
            &files,
            &order.identity,
            order.target.block_size,
            &manifest,
            parent_root,
            root,
        )
    };
    let sealed = manifest.seal(identity).map_err(manifest_at(&files.manifest))?;
    if sealed != root {
        return Err(StorageError::ProofMismatch {
            source_root: order.source_root.clone(),
            stored_root: sealed.to_string(),
        });
    }
    unfinished.check_owned()?;
    if files.partial_journal.exists() {
        let journal = std::slice::from_ref(&files.partial_journal);
        durable::remove_files(&files.dir, journal).map_err(io_at(&files.image))?;
    }
    // The image is closed before it gets its name: nobody writes to a restore point.
    drop(image);
    durable::rename_new(&files.partial_manifest, &files.manifest)
        .map_err(io_at(&files.manifest))?;
    durable::rename_new(&files.partial_image, &files.image).map_err(io_at(&files.image))?;
    durable::sync_dir(&files.dir).map_err(io_at(&files.dir))?;
    unfinished.keep();
    failpoint::reach(Point::SealDurable).map_err(io_at(&files.image))?;
    drop(reservation);
    let stored_bytes = files
        .finished()
        .iter()
        .map(|file| Ok(fs::metadata(file).map_err(io_at(file))?.blocks() * 512))
        .sum::<Result<u64, StorageError>>()?;
    Ok(SealedImage { stored_root: root.to_string(), stored_bytes })
}

fn manifest_identity(
    files: &ImageFiles,
    point: &PointIdentity,
    block_size: u32,
    manifest: &ManifestWriter,
    parent_root: Option<Digest>,
    root: Digest,
) -> ManifestIdentity {
    let image_file = files.image.file_name().map(|name| name.to_string_lossy().into_owned());
    ManifestIdentity {
        point_id: point.point.to_string(),
        vm_context_id: point.vm.to_string(),
        vm_name: point.vm_name.clone(),
        vm_id: point.vmware_vm_id.clone(),
        vcenter_host: point.vcenter_host.clone(),
        disk_ordinal: point.ordinal,
        disk_key: point.disk_key.to_string(),
        capacity_bytes: manifest.table().capacity(),
        block_size,
        created_at: point.created_at.to_rfc3339(),
        backup_type: point.backup_type.word().to_owned(),
        method: point.method.clone(),
        // It may quote a whole answer of a source; a manifest has room for the start of it.
        method_reason: point.method_reason.iter().flat_map(|it| it.chars()).take(1_000).collect(),
        parent: point
            .parent
            .zip(parent_root)
            .map(|(point, root)| ManifestParent { point_id: point.to_string(), root }),
        image_file: image_file.unwrap_or_default(),
        source_root: Some(root),
        change_id: point.change_id.clone(),
        image_seal: None,
    }
}

/// Closes what is open of an image that never became a point, and removes what lies on disk of it.
pub(crate) async fn abandon(
    storage: &HubStorage,
    repository: &Repository,
    path: &str,
) -> Result<(), StorageError> {
    let files = ImageFiles::of_point(Path::new(&repository.path), path)?;
    let reservation = end_all_use(storage, &files.image, OpenTarget::discard).await?;
    remove(files, ImageFiles::all, Some(reservation)).await
}

/// Takes an image from whoever has it, and ends its target as told. A seal or a preparation whose caller has gone
/// cannot be stopped: it ends by itself, and until then it may still give names.
pub(crate) async fn end_all_use(
    storage: &HubStorage,
    image: &Path,
    end: impl AsyncFn(OpenTarget),
) -> Result<Reservation, StorageError> {
    let quiet = async {
        loop {
            let changed = storage.in_use.next_change();
            if let Some(target) = storage.release_image(image) {
                end(target).await;
            }
            match storage.in_use.take(image) {
                Ok(reservation) => return reservation,
                Err(_) => changed.await,
            }
        }
    };
    timeout(QUIET_WITHIN, quiet).await.map_err(|_| unusable(image, "it is still being written"))
}

/// Removes a restore point's files.
pub(crate) async fn delete(repository: &Repository, path: &str) -> Result<(), StorageError> {
    let files = ImageFiles::of_point(Path::new(&repository.path), path)?;
    remove(files, ImageFiles::finished, None).await
}

async fn remove(
    files: ImageFiles,
    which: fn(&ImageFiles) -> Vec<PathBuf>,
    held: Option<Reservation>,
) -> Result<(), StorageError> {
    let dir = files.dir.clone();
    blocking(&dir, move || {
        let _held_to_the_end = held;
        if !files.dir.is_dir() {
            return Ok(());
        }
        durable::remove_files(&files.dir, &which(&files)).map_err(io_at(&files.image))
    })
    .await
}

#[expect(clippy::wildcard_enum_match_arm, reason = "every other reason is told as it is")]
pub(crate) fn not_created(path: &Path, error: CreateError) -> StorageError {
    match error {
        CreateError::Io { source, .. } => io_at(path)(source),
        CreateError::Exists(path) => StorageError::Exists { path: path.display().to_string() },
        other => unusable(path, told(&other)),
    }
}
