//! Targets that go on: what an earlier attempt at an image has brought is offered again, with digests that prove it.

use std::path::Path;
use std::sync::Arc;

use hub_data_mover::{BlockSize, Digest, ManifestWriter, ProvingDevice};
use hub_domain::capacity::Capacity;
use hub_domain::repository::Repository;
use hub_domain::source::PreparedTarget;
use hub_ports::{PrepareImage, StorageError, told};
use hub_qcow2::{CreateOptions, ImageWriter, PlacedRun};

use crate::checkpoint::{Checkpoints, Told, identity};
use crate::durable;
use crate::failure::{block_at, blocking, io_at, manifest_at, unusable};
use crate::hub_storage::HubStorage;
use crate::image::{self, CLUSTER_BITS, not_created, zstd};
use crate::journal::Journal;
use crate::layout::ImageFiles;
use crate::reservation::Reservation;
use crate::target::{self, Found, NewTarget, OpenTarget, Parent, TargetImage, Unfinished};

/// Takes what this process still has open of an image, or says why it cannot go on with it.
///
/// The earlier attempt's exports are closed first and its writes awaited, so that nothing of an older instant can
/// arrive any more. Nothing is believed of what it sent: the digests offered are those of what the image holds, and
/// every block is compared with the new source.
pub(crate) async fn take_up(
    storage: &HubStorage,
    files: &ImageFiles,
    relative: &str,
    capacity: Capacity,
) -> Option<PreparedTarget> {
    let open = storage.release_image(&files.image)?;
    match offer_again(storage, relative, capacity, open).await {
        Ok(target) => Some(target),
        Err(error) => {
            tracing::warn!(
                image = %files.image.display(), error = %told(&error),
                "an unfinished image cannot be gone on with and begins anew"
            );
            None
        }
    }
}

async fn offer_again(
    storage: &HubStorage,
    relative: &str,
    capacity: Capacity,
    open: OpenTarget,
) -> Result<PreparedTarget, StorageError> {
    let settled = open.settle().await?;
    let table = settled.manifest.table();
    if table.capacity() != capacity.bytes() {
        return Err(unusable(&settled.files.image, "the disk has another size now"));
    }
    let block_size = table.block_size();
    let new = NewTarget {
        parent: Some(Parent { table, root: settled.root, capacity }),
        parent_root: settled.parent_root,
        kept: Some(settled.brought),
        checkpoints: settled.checkpoints,
        files: settled.files,
        image: settled.image,
        manifest: settled.manifest,
        unfinished: settled.unfinished,
        reservation: settled.reservation,
    };
    target::open(storage, new, relative.to_owned(), block_size, None)
}

/// Goes on with the files that an earlier process left of a full image, by its journal; nothing when that cannot be.
///
/// The journal is believed only in where clusters lie. Every block that it names is read back and digested before the
/// table is offered, so lost or garbled bytes are blocks that differ from the source and come again.
pub(crate) async fn reopen(
    storage: &HubStorage,
    order: &PrepareImage,
    files: &ImageFiles,
) -> Option<PreparedTarget> {
    if order.parent.is_some() {
        return None;
    }
    match offer_left(storage, order, files).await {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(
                image = %files.image.display(), error = %told(&error),
                "what an earlier hub left of an image cannot be gone on with and begins anew"
            );
            None
        }
    }
}

/// Files that were left, open again.
struct Left {
    image: Arc<ImageWriter>,
    manifest: ManifestWriter,
    told: Told,
    found: Vec<Found>,
    reservation: Reservation,
}

async fn offer_left(
    storage: &HubStorage,
    order: &PrepareImage,
    files: &ImageFiles,
) -> Result<Option<PreparedTarget>, StorageError> {
    let reservation = storage.in_use.take(&files.image)?;
    let (asked, places) = (order.clone(), files.clone());
    let opening = blocking(&files.image, move || open_left(&asked, &places, reservation));
    let Some(Left { image, manifest, told, found, reservation }) = opening.await? else {
        return Ok(None);
    };
    let table = manifest.table();
    let proving = ProvingDevice::new(image.clone(), table.clone());
    // It reads everything back, which takes long. Until then the files are nobody's: a hub that is stopped meanwhile
    // leaves them to the next one, and after an error the caller removes them.
    let root = proving.settle().await.map_err(block_at(&files.partial_image))?;
    let unfinished = Unfinished::of(found);
    // Not what the file has taken: compressed clusters are in no journal, and their room is lost.
    let (kept, image) = (told.placements.clusters() << CLUSTER_BITS, TargetImage::Written(image));
    let block_size = table.block_size();
    let new = NewTarget {
        files: files.clone(),
        checkpoints: checkpoints(storage, order, files, &image, told),
        image,
        manifest,
        parent: Some(Parent { table, root, capacity: order.capacity }),
        parent_root: None,
        kept: Some(kept),
        unfinished,
        reservation,
    };
    target::open(storage, new, order.path(), block_size, None).map(Some)
}

fn open_left(
    order: &PrepareImage,
    files: &ImageFiles,
    reservation: Reservation,
) -> Result<Option<Left>, StorageError> {
    let capacity = order.capacity.bytes();
    if files.finished().iter().any(|file| file.exists()) || !files.partial_image.exists() {
        return Ok(None);
    }
    let journal = Journal::open(&files.partial_journal, &identity(order.point, capacity));
    let Some((journal, runs)) = journal.map_err(io_at(&files.partial_journal))? else {
        return Ok(None);
    };
    let image_found = Found::new(&files.partial_image)?;
    let options = CreateOptions {
        cluster_bits: CLUSTER_BITS,
        compression: zstd(&order.repository),
        ..CreateOptions::new(capacity)
    };
    let (image, placements) = ImageWriter::resume(&files.partial_image, options, &runs)
        .map_err(|error| not_created(&files.partial_image, error))?;
    // Its table may be older or newer than the image; what is not known is read back.
    let stale = std::slice::from_ref(&files.partial_manifest);
    durable::remove_files(&files.dir, stale).map_err(io_at(&files.partial_manifest))?;
    let block_size = BlockSize::for_capacity(capacity);
    let manifest = ManifestWriter::create_new(&files.partial_manifest, capacity, block_size)
        .map_err(manifest_at(&files.partial_manifest))?;
    let found = vec![image_found, Found::new(&files.partial_manifest)?];
    doubt(&manifest, &runs).map_err(io_at(&files.partial_manifest))?;
    let told = Told { journal: Some(journal), placements };
    Ok(Some(Left { image: Arc::new(image), manifest, told, found, reservation }))
}

/// Says of every block that has a cluster that nobody knows what it holds.
fn doubt(manifest: &ManifestWriter, runs: &[PlacedRun]) -> std::io::Result<()> {
    let table = manifest.table();
    let block = u64::from(table.block_size().get());
    for run in runs {
        let (first, end) = (run.guest << CLUSTER_BITS, (run.guest + run.count) << CLUSTER_BITS);
        let blocks = first / block..end.div_ceil(block).min(table.block_count());
        table.fill(blocks, Digest::UNKNOWN)?;
    }
    Ok(())
}

/// Closes an image and leaves its files, where a journal tells the next hub about them. Afterwards nobody works on
/// them, not even a preparation that nobody waits for any more.
pub(crate) async fn leave(
    storage: &HubStorage,
    repository: &Repository,
    path: &str,
) -> Result<(), StorageError> {
    let files = ImageFiles::of_point(Path::new(&repository.path), path)?;
    let reservation = image::end_all_use(storage, &files.image, OpenTarget::leave).await?;
    drop(reservation);
    if files.partial_journal.exists() {
        return Ok(());
    }
    image::abandon(storage, repository, path).await
}

/// Begins to write down how far a full image is.
pub(crate) fn checkpoints(
    storage: &HubStorage,
    order: &PrepareImage,
    files: &ImageFiles,
    image: &TargetImage,
    told: Told,
) -> Option<Checkpoints> {
    let TargetImage::Written(image) = image else { return None };
    let identity = identity(order.point, order.capacity.bytes());
    let every = storage.options.checkpoint_every;
    Some(Checkpoints::start(image.clone(), files.partial_journal.clone(), identity, told, every))
}
