//! Replica images: written in place, and complete only while their manifest says so.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hub_block::failpoint::{self, Point};
use hub_block::{RawFile, trail};
use hub_data_mover::{BlockSize, Manifest, ManifestIdentity, ManifestWriter};
use hub_domain::capacity::Capacity;
use hub_domain::replication::ReplicaFormat;
use hub_domain::source::PreparedTarget;
use hub_ports::{PrepareReplica, StorageError, told};
use hub_qcow2::{CreateOptions, ImageUpdater, ImageWriter};

use crate::durable;
use crate::failure::{block_at, blocking, io_at, manifest_at, unusable};
use crate::hub_storage::HubStorage;
use crate::image::not_created;
use crate::layout::{self, ImageFiles};
use crate::reservation::Reservation;
use crate::resume;
use crate::target::{
    self, NewTarget, Parent, SettledTarget, TargetImage, Unfinished, compare_roots,
};

/// Creates or opens a replica; its old manifest is gone before the first byte can be written.
pub(crate) async fn prepare(
    storage: &HubStorage,
    order: &PrepareReplica,
) -> Result<PreparedTarget, StorageError> {
    let relative = layout::replica_path(order.vm, order.disk, order.format);
    let root = storage.options.replica_dir.clone();
    let files = ImageFiles::of_replica(&root, &relative)?;
    if order.resume
        && let Some(target) = resume::take_up(storage, &files, &relative, order.capacity).await
    {
        return Ok(target);
    }
    let reservation = storage.in_use.take(&files.image)?;
    let (order, path) = (order.clone(), relative.clone());
    let block_size = BlockSize::for_capacity(order.capacity.bytes());
    let (new, reason) = blocking(&root.clone(), move || {
        durable::create_root(&root).map_err(io_at(&root))?;
        let below_root = Path::new(&path).parent().unwrap_or(Path::new(""));
        durable::create_dirs(&root, below_root).map_err(io_at(&files.dir))?;
        open(files, &order, block_size, reservation)
    })
    .await?;
    target::open(storage, new, relative, block_size, reason)
}

fn open(
    files: ImageFiles,
    order: &PrepareReplica,
    block_size: BlockSize,
    reservation: Reservation,
) -> Result<(NewTarget, Option<String>), StorageError> {
    let (parent, reason) = match order.incremental.then(|| complete(&files, order, block_size)) {
        None => (None, None),
        Some(Ok(parent)) => (Some(parent), None),
        Some(Err(reason)) => (None, Some(reason)),
    };
    // From here on the replica counts as incomplete; its table stays readable through the open file.
    let stale = vec![files.manifest.clone(), files.partial_manifest.clone()];
    durable::remove_files(&files.dir, &stale).map_err(io_at(&files.manifest))?;
    failpoint::reach(Point::ReplicaOutdated).map_err(io_at(&files.manifest))?;

    let mut unfinished = Unfinished::default();
    let capacity = order.capacity.bytes();
    let manifest = ManifestWriter::create_new(&files.partial_manifest, capacity, block_size)
        .map_err(manifest_at(&files.partial_manifest))?;
    unfinished.own(&files.partial_manifest)?;
    let image = match &parent {
        Some(parent) => {
            manifest.table().copy_from(&parent.table).map_err(io_at(&files.partial_manifest))?;
            reopen(&files.image, order)?
        }
        None => {
            durable::remove_files(&files.dir, std::slice::from_ref(&files.image))
                .map_err(io_at(&files.image))?;
            create(&files.image, order)?
        }
    };
    failpoint::reach(Point::ReplicaOpened).map_err(io_at(&files.image))?;
    let parent_root = parent.as_ref().map(|parent| parent.root);
    let new = NewTarget {
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
    Ok((new, reason))
}

/// The digests of a replica that is complete and fits, or the reason for writing it anew.
fn complete(
    files: &ImageFiles,
    order: &PrepareReplica,
    block_size: BlockSize,
) -> Result<Parent, String> {
    if !files.image.exists() || !files.manifest.exists() {
        return Err("there is no complete replica of this disk".to_owned());
    }
    let manifest = Manifest::open(&files.manifest).map_err(|error| told(&error))?;
    manifest.check_table().map_err(|error| told(&error))?;
    let table = manifest.table();
    let capacity = Capacity::new(table.capacity()).map_err(|error| error.to_string())?;
    if capacity > order.capacity {
        return Err("the disk is smaller than its replica".to_owned());
    }
    if capacity < order.capacity && order.format == ReplicaFormat::Qcow2 {
        return Err("the disk has grown, and a qcow2 replica is not grown in place".to_owned());
    }
    if table.block_size() != block_size {
        return Err("the disk's blocks have another size than its replica's".to_owned());
    }
    untouched(files, order.format, table.capacity())?;
    Ok(Parent { root: manifest.root(), table, capacity })
}

/// Whether the image is still the one that was sealed: whoever starts a replica writes to it, and says nothing.
///
/// The manifest is the last that a run writes, so an image that is younger has been written since.
fn untouched(files: &ImageFiles, format: ReplicaFormat, capacity: u64) -> Result<(), String> {
    let of = |path: &Path| fs::metadata(path).map_err(|error| error.to_string());
    let (image, manifest) = (of(&files.image)?, of(&files.manifest)?);
    if format == ReplicaFormat::Raw && image.len() != capacity {
        return Err("the replica is not as long as its disk was".to_owned());
    }
    let modified = |it: &fs::Metadata| it.modified().map_err(|error| error.to_string());
    if modified(&image)? > modified(&manifest)? {
        return Err("the replica has been written to since it was sealed".to_owned());
    }
    Ok(())
}

fn reopen(image: &Path, order: &PrepareReplica) -> Result<TargetImage, StorageError> {
    match order.format {
        ReplicaFormat::Raw => {
            let file = fs::OpenOptions::new().write(true).open(image).map_err(io_at(image))?;
            file.set_len(order.capacity.bytes()).map_err(io_at(image))?;
            trail::resized(&file, order.capacity.bytes());
            drop(file);
            let file = RawFile::open(image).map_err(block_at(image))?;
            Ok(TargetImage::Raw(Arc::new(file)))
        }
        ReplicaFormat::Qcow2 => {
            let image_file =
                ImageUpdater::open(image).map_err(|error| unusable(image, told(&error)))?;
            Ok(TargetImage::Updated(Arc::new(image_file)))
        }
    }
}

fn create(image: &Path, order: &PrepareReplica) -> Result<TargetImage, StorageError> {
    let size = order.capacity.bytes();
    match order.format {
        ReplicaFormat::Raw => {
            let file = RawFile::create_new(image, size).map_err(block_at(image))?;
            Ok(TargetImage::Raw(Arc::new(file)))
        }
        ReplicaFormat::Qcow2 => {
            let options = CreateOptions::new(size);
            let file = ImageWriter::create_new(image, options, None)
                .map_err(|error| not_created(image, error))?;
            Ok(TargetImage::Written(Arc::new(file)))
        }
    }
}

/// Compares both ends and marks the replica complete.
pub(crate) async fn seal(
    storage: &HubStorage,
    target: &PreparedTarget,
    source_root: &str,
) -> Result<String, StorageError> {
    let settled = storage.release(&target.address.export)?.settle().await?;
    compare_roots(source_root, settled.root)?;
    settled.image.finish().await.map_err(block_at(&settled.files.image))?;
    failpoint::reach(Point::ReplicaFinished).map_err(io_at(&settled.files.image))?;
    let (path, block_size) = (target.path.clone(), target.block_size);
    let place: PathBuf = settled.files.image.clone();
    blocking(&place, move || publish(settled, &path, block_size)).await
}

/// The replica stays reserved until this has ended, even if nobody waits for it any more.
fn publish(settled: SettledTarget, path: &str, block_size: u32) -> Result<String, StorageError> {
    // Dropped in reverse order: after an error the path is free when what is unfinished has been removed.
    let SettledTarget { reservation, unfinished, files, image, manifest, root, .. } = settled;
    drop(image);
    let identity = identity(path, block_size, manifest.table().capacity());
    manifest.seal(identity).map_err(manifest_at(&files.manifest))?;
    unfinished.check_owned()?;
    durable::rename_new(&files.partial_manifest, &files.manifest)
        .map_err(io_at(&files.manifest))?;
    durable::sync_dir(&files.dir).map_err(io_at(&files.dir))?;
    unfinished.keep();
    failpoint::reach(Point::ReplicaDurable).map_err(io_at(&files.image))?;
    drop(reservation);
    Ok(root.to_string())
}

/// A replica is no restore point; its manifest only says which image its digests are of.
fn identity(path: &str, block_size: u32, capacity_bytes: u64) -> ManifestIdentity {
    let path = Path::new(path);
    let part = |text: Option<&std::ffi::OsStr>| {
        text.map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
    };
    ManifestIdentity {
        point_id: String::new(),
        vm_context_id: part(path.parent().map(Path::as_os_str)),
        vm_name: String::new(),
        vm_id: String::new(),
        vcenter_host: String::new(),
        disk_ordinal: 0,
        disk_key: String::new(),
        capacity_bytes,
        block_size,
        created_at: String::new(),
        backup_type: "replica".to_owned(),
        method: String::new(),
        method_reason: String::new(),
        parent: None,
        image_file: part(path.file_name()),
        source_root: None,
        change_id: None,
        // A replica is written in place, so its file is proven by its content alone.
        image_seal: None,
    }
}

/// Removes the unfinished manifests that an earlier hub left below the directory of replicas; answers how many.
///
/// The next run of such a replica would remove its own, and perhaps there is none.
pub(crate) fn sweep(root: &Path) -> Result<usize, StorageError> {
    let mut removed = 0;
    for home in entries(root)? {
        let mut partial = entries(&home)?;
        partial.retain(|file| file.extension().is_some_and(|it| it == "partial") && !file.is_dir());
        durable::remove_files(&home, &partial).map_err(io_at(&home))?;
        removed += partial.len();
    }
    Ok(removed)
}

/// What a directory holds; nothing where there is no such directory.
fn entries(dir: &Path) -> Result<Vec<PathBuf>, StorageError> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let paths = fs::read_dir(dir).map_err(io_at(dir))?.map(|entry| Ok(entry?.path()));
    paths.collect::<Result<_, _>>().map_err(io_at(dir))
}

/// Lets a replica go whose run did not succeed.
pub(crate) async fn release(
    storage: &HubStorage,
    target: &PreparedTarget,
) -> Result<(), StorageError> {
    match storage.release(&target.address.export) {
        Ok(open) => {
            open.discard().await;
            Ok(())
        }
        // Released twice, or sealed meanwhile: there is nothing left to let go.
        Err(_) => Ok(()),
    }
}
