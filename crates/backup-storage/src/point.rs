//! Restore points that are read: exported and verified.

use std::path::PathBuf;
use std::sync::Arc;

use hub_block::BlockDevice;
use hub_data_mover::{
    CheckedReader, CopyError, CopyOptions, Digest, DigestTable, Found, ImageSeal, Manifest,
    Progress, VerifyOutcome,
};
use hub_domain::capacity::Capacity;
use hub_domain::restore::{Mismatch, PointVerdict};
use hub_domain::source::ParentTable;
use hub_nbd::Export;
use hub_ports::{ExportedPoint, PointLocation, ProgressSink, StorageError, told};
use hub_qcow2::ImageReader;
use tokio_util::sync::CancellationToken;

use crate::failure::{block_at, blocking, unusable};
use crate::hub_storage::HubStorage;
use crate::image::{open_chain, open_manifest};
use crate::layout::ImageFiles;
use crate::progress::reported;
use crate::proof;
use crate::target::{self, Parent};

/// Connections that readers may open to one point: several tools at once.
const READER_CONNECTIONS: usize = 16;
/// Requests under way while a point is verified; more find no further processor, and each holds a MiB and a thread.
const VERIFIED_AT_ONCE: usize = 8;

/// An opened point: its chain and the digests that prove it.
pub(crate) struct OpenPoint {
    pub(crate) files: ImageFiles,
    pub(crate) chain: Arc<ImageReader>,
    pub(crate) table: Arc<DigestTable>,
    pub(crate) root: Digest,
    pub(crate) seal: Option<ImageSeal>,
}

/// Opens a point; its manifest's table is checked too, since an unchecked one proves nothing.
pub(crate) async fn open(location: &PointLocation) -> Result<OpenPoint, StorageError> {
    let location = location.clone();
    let root = PathBuf::from(&location.repository.path);
    blocking(&root.clone(), move || {
        let files = ImageFiles::of_point(&root, &location.path)?;
        let manifest = own_manifest(&files, &location)?;
        let chain = Arc::new(open_chain(&root, &files.image)?);
        let (table, root) = (manifest.table(), manifest.root());
        let seal = manifest.identity().image_seal.clone();
        Ok(OpenPoint { files, chain, table, root, seal })
    })
    .await
}

/// The manifest of a point, its table checked.
fn own_manifest(files: &ImageFiles, location: &PointLocation) -> Result<Manifest, StorageError> {
    let manifest = open_manifest(files)?;
    let damaged = |detail: String| StorageError::Damaged {
        path: files.manifest.display().to_string(),
        offset: 0,
        detail,
    };
    if manifest.identity().point_id != location.point.to_string() {
        return Err(damaged("it is the manifest of another point".to_owned()));
    }
    manifest.check_table().map_err(|error| damaged(told(&error)))?;
    Ok(manifest)
}

/// Offers the digests of a point for reading; its image is not looked at.
pub(crate) async fn export_digests(
    storage: &HubStorage,
    location: &PointLocation,
) -> Result<ParentTable, StorageError> {
    let (asked, root) = (location.clone(), PathBuf::from(&location.repository.path));
    let place = root.clone();
    let digests = blocking(&place, move || {
        let files = ImageFiles::of_point(&root, &asked.path)?;
        let manifest = own_manifest(&files, &asked)?;
        let (table, root) = (manifest.table(), manifest.root());
        let capacity = Capacity::new(table.capacity())
            .map_err(|_| unusable(&files.manifest, "it is of a disk without a size"))?;
        Ok(Parent { table, root, capacity })
    })
    .await?;
    let (table, handle) = target::offer_table(storage, &digests)?;
    storage.keep_reader(handle);
    Ok(table)
}

/// Offers a point for reading; every block is compared with the manifest before it is served.
pub(crate) async fn export(
    storage: &HubStorage,
    location: &PointLocation,
) -> Result<ExportedPoint, StorageError> {
    let point = open(location).await?;
    let capacity = point.table.capacity();
    let reader =
        CheckedReader::new(point.chain, point.table).map_err(block_at(&point.files.image))?;
    let (address, handle) = storage.offer(Export {
        device: Arc::new(reader),
        description: format!("restore point {}", location.point),
        max_connections: READER_CONNECTIONS,
    })?;
    storage.keep_reader(handle);
    Ok(ExportedPoint { address, capacity })
}

/// Reads a point through its chain and compares every block; damage is a verdict, not an error.
pub(crate) async fn verify(
    location: &PointLocation,
    sink: &dyn ProgressSink,
    cancel: &CancellationToken,
) -> Result<PointVerdict, StorageError> {
    let point = match open(location).await {
        Ok(point) => point,
        Err(
            error @ (StorageError::Damaged { .. }
            | StorageError::Missing { .. }
            | StorageError::MissingParent { .. }),
        ) => return Ok(damaged(location, error.to_string())),
        Err(other) => return Err(other),
    };
    if point.chain.size() != point.table.capacity() {
        let (image, size) = (point.files.image.display(), point.chain.size());
        let proven = point.table.capacity();
        let what = format!("{image} holds a disk of {size} bytes, its manifest proves {proven}");
        return Ok(damaged(location, what));
    }
    let (image, seal) = (point.files.image.clone(), point.seal);
    let damage = blocking(&point.files.image, move || Ok(proof::damage(&image, seal.as_ref())));
    let damage = damage.await?;
    let progress = Arc::new(Progress::default());
    let work = hub_data_mover::verify(
        point.chain,
        &point.table,
        CopyOptions { in_flight: VERIFIED_AT_ONCE, ..CopyOptions::default() },
        progress.clone(),
        cancel.clone(),
    );
    let outcome = match reported(&progress, sink, work).await {
        Ok(outcome) => outcome,
        Err(CopyError::Cancelled) => return Err(StorageError::Cancelled),
        Err(other) => return Err(unusable(&point.files.image, told(&other))),
    };
    Ok(verdict(location, &outcome, u64::from(point.table.block_size().get()), damage))
}

fn verdict(
    location: &PointLocation,
    outcome: &VerifyOutcome,
    block: u64,
    damage: Option<String>,
) -> PointVerdict {
    let mismatches = outcome.mismatches.iter().map(|wrong| Mismatch {
        offset: wrong.offset,
        len: block,
        what: match &wrong.found {
            Found::Digest(found) => {
                format!("digest {found} instead of {}", wrong.expected)
            }
            Found::Unreadable(why) => format!("cannot be read: {why}"),
        },
    });
    PointVerdict {
        point: location.point,
        ordinal: location.ordinal,
        blocks_checked: outcome.blocks_checked,
        bad_blocks: outcome.mismatch_count,
        mismatches: mismatches.collect(),
        damage,
        suspect: false,
    }
}

fn damaged(location: &PointLocation, what: String) -> PointVerdict {
    PointVerdict {
        point: location.point,
        ordinal: location.ordinal,
        blocks_checked: 0,
        bad_blocks: 0,
        mismatches: Vec::new(),
        damage: Some(what),
        suspect: false,
    }
}
