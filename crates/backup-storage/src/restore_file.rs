//! Whole-disk restores to a file, which gets its name only after every byte is proven.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hub_block::RawFile;
use hub_block::failpoint::{self, Point};
use hub_data_mover::{CopyError, CopyOptions, CopyPlan, DigestTable, Progress, copy};
use hub_domain::restore::RestoreFormat;
use hub_ports::{PointLocation, ProgressSink, RestoreOutput, RestoredFile, StorageError, told};
use hub_qcow2::{CreateOptions, ImageWriter};
use tokio_util::sync::CancellationToken;

use crate::durable;
use crate::failure::{block_at, blocking, io_at, unusable};
use crate::hub_storage::HubStorage;
use crate::image::not_created;
use crate::layout::{partial_of, plain_file_name};
use crate::point::{self, OpenPoint};
use crate::progress::reported;
use crate::reservation::{Reservation, Reservations};
use crate::target::{TargetImage, Unfinished};

/// The files of one restore.
struct RestoreFiles {
    dir: PathBuf,
    /// What the user asked for.
    named: PathBuf,
    /// Where the disk's bytes go: the same, or the flat extent of a VMDK.
    data: PathBuf,
}

impl RestoreFiles {
    fn of(dir: &Path, output: &RestoreOutput) -> Result<Self, StorageError> {
        let named = dir.join(plain_file_name(&output.file_name)?);
        let data = match output.format {
            RestoreFormat::Raw | RestoreFormat::Qcow2 => named.clone(),
            RestoreFormat::Vmdk => {
                let stem = named.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                dir.join(format!("{stem}-flat.vmdk"))
            }
        };
        Ok(Self { dir: dir.to_owned(), named, data })
    }

    fn partials(&self) -> Vec<PathBuf> {
        vec![partial_of(&self.named), partial_of(&self.data)]
    }

    /// Takes every name that is written: flat extents are named by the stem alone, so two descriptors can mean the same one.
    fn reserve(&self, in_use: &Reservations) -> Result<Vec<Reservation>, StorageError> {
        let mut held = vec![in_use.take(&self.named)?];
        if self.data != self.named {
            held.push(in_use.take(&self.data)?);
        }
        Ok(held)
    }

    /// What a restore may have left that did not come to its end.
    ///
    /// A descriptor is written before its extent gets a name and named after it, so an extent beside a
    /// partial descriptor, and not beside a named one, belongs to nobody.
    fn left_over(&self) -> Vec<PathBuf> {
        let mut left = self.partials();
        let between = partial_of(&self.named).exists() && !self.named.exists();
        if self.data != self.named && between {
            // It goes first: once the partial descriptor is gone, nothing tells whose it is.
            left.insert(0, self.data.clone());
        }
        left
    }
}

/// Restores a point to a file below the restore directory.
pub(crate) async fn restore(
    storage: &HubStorage,
    location: &PointLocation,
    output: &RestoreOutput,
    sink: &dyn ProgressSink,
    cancel: &CancellationToken,
) -> Result<RestoredFile, StorageError> {
    let files = RestoreFiles::of(&storage.options.restore_dir, output)?;
    let reservations = files.reserve(&storage.in_use)?;
    let point = point::open(location).await?;
    let dir = files.dir.clone();
    let taken = [files.named.clone(), files.data.clone()];
    blocking(&dir.clone(), move || {
        durable::create_root(&dir).map_err(io_at(&dir))?;
        match taken.iter().find(|file| file.exists()) {
            Some(file) => Err(StorageError::Exists { path: file.display().to_string() }),
            None => Ok(()),
        }
    })
    .await?;
    let unfinished = Unfinished::new(files.partials());
    let bytes = point.table.capacity();
    write_proven(&point, &files, output.format, sink, cancel).await?;
    let format = output.format;
    blocking(&files.dir.clone(), move || {
        // The last one is dropped first: the names are free when nothing unfinished is left under them.
        let (_held_to_the_end, unfinished) = (reservations, unfinished);
        publish(&files, format, bytes, unfinished)
    })
    .await
}

/// Copies the point and compares what was written, as a whole, with the manifest.
async fn write_proven(
    point: &OpenPoint,
    files: &RestoreFiles,
    format: RestoreFormat,
    sink: &dyn ProgressSink,
    cancel: &CancellationToken,
) -> Result<(), StorageError> {
    let partial = partial_of(&files.data);
    let size = point.table.capacity();
    let image = create(&partial, format, size)?;
    failpoint::reach(Point::RestoreCreated).map_err(io_at(&partial))?;
    let table = DigestTable::temporary_in(&files.dir, size, point.table.block_size())
        .map_err(io_at(&files.dir))?;
    let table = Arc::new(table);
    let progress = Arc::new(Progress::default());
    let work = copy(
        point.chain.clone(),
        image.device(),
        CopyPlan::Full,
        table.clone(),
        CopyOptions::default(),
        progress.clone(),
        cancel.clone(),
    );
    let outcome = reported(&progress, sink, work).await;
    let outcome = outcome.map_err(|error| copy_failed(&point.files.image, &partial, error))?;
    if outcome.root != point.root {
        let (offset, image) = first_difference(&table, &point.table, &point.files.image).await?;
        return Err(StorageError::Damaged {
            path: image,
            offset,
            detail: "the disk's bytes are not what the manifest says".to_owned(),
        });
    }
    failpoint::reach(Point::RestoreProven).map_err(io_at(&partial))?;
    image.finish().await.map_err(block_at(&partial))?;
    failpoint::reach(Point::RestoreFinished).map_err(io_at(&partial))
}

fn create(partial: &Path, format: RestoreFormat, size: u64) -> Result<TargetImage, StorageError> {
    Ok(match format {
        RestoreFormat::Raw | RestoreFormat::Vmdk => {
            let file = RawFile::create_new(partial, size).map_err(block_at(partial))?;
            TargetImage::Raw(Arc::new(file))
        }
        RestoreFormat::Qcow2 => {
            let options = CreateOptions::new(size);
            let image = ImageWriter::create_new(partial, options, None)
                .map_err(|error| not_created(partial, error))?;
            TargetImage::Written(Arc::new(image))
        }
    })
}

#[expect(clippy::wildcard_enum_match_arm, reason = "every other reason is told as it is")]
fn copy_failed(image: &Path, partial: &Path, error: CopyError) -> StorageError {
    match error {
        CopyError::Cancelled => StorageError::Cancelled,
        CopyError::Source { error, .. } => block_at(image)(error),
        CopyError::Target { error, .. } => block_at(partial)(error),
        CopyError::Table(error) => io_at(partial)(error),
        other => unusable(image, told(&other)),
    }
}

/// The place of the first block that differs, and the image's path.
async fn first_difference(
    found: &Arc<DigestTable>,
    expected: &Arc<DigestTable>,
    image: &Path,
) -> Result<(u64, String), StorageError> {
    let (found, expected) = (found.clone(), expected.clone());
    let name = image.display().to_string();
    let failed = io_at(image);
    blocking(image, move || {
        const STEP: usize = 4096;
        let (count, mut first) = (expected.block_count(), 0);
        while first < count {
            let step = usize::try_from(count - first).unwrap_or(STEP).min(STEP);
            let ours = found.get_many(first, step).map_err(&failed)?;
            let theirs = expected.get_many(first, step).map_err(&failed)?;
            if let Some(at) = ours.iter().zip(&theirs).position(|(one, other)| one != other) {
                let block = first + at as u64;
                return Ok((block * u64::from(expected.block_size().get()), name));
            }
            first += step as u64;
        }
        Ok((0, name))
    })
    .await
}

/// Gives the finished files their names; after an error none of them is there, so that the same restore can be begun anew.
fn publish(
    files: &RestoreFiles,
    format: RestoreFormat,
    bytes: u64,
    mut unfinished: Unfinished,
) -> Result<RestoredFile, StorageError> {
    name_files(files, format, bytes, &mut unfinished)?;
    failpoint::reach(Point::RestoreDurable).map_err(io_at(&files.named))?;
    unfinished.keep();
    Ok(RestoredFile { path: files.named.display().to_string(), bytes })
}

/// First the data gets its name, then what points to it.
fn name_files(
    files: &RestoreFiles,
    format: RestoreFormat,
    bytes: u64,
    unfinished: &mut Unfinished,
) -> Result<(), StorageError> {
    let partial = partial_of(&files.named);
    if format == RestoreFormat::Vmdk {
        let flat = files.data.file_name().unwrap_or_default().to_string_lossy().into_owned();
        durable::write_new(&partial, vmdk_descriptor(&flat, bytes).as_bytes())
            .map_err(io_at(&partial))?;
    }
    let partial_data = partial_of(&files.data);
    unfinished.own_as(&partial_data, &files.data)?;
    durable::rename_new(&partial_data, &files.data).map_err(io_at(&files.data))?;
    if format == RestoreFormat::Vmdk {
        // A power cut may keep the later of two names and lose the earlier one.
        durable::sync_dir(&files.dir).map_err(io_at(&files.dir))?;
        unfinished.own_as(&partial, &files.named)?;
        durable::rename_new(&partial, &files.named).map_err(io_at(&files.named))?;
    }
    durable::sync_dir(&files.dir).map_err(io_at(&files.dir))
}

/// The descriptor of a disk with one flat extent, after VMware's "Virtual Disk Format 5.0".
fn vmdk_descriptor(flat: &str, bytes: u64) -> String {
    let sectors = bytes / 512;
    let cylinders = (sectors / (255 * 63)).min(65_535);
    format!(
        "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n\
         createType=\"monolithicFlat\"\n\n# Extent description\n\
         RW {sectors} FLAT \"{flat}\" 0\n\n# The Disk Data Base\n#DDB\n\n\
         ddb.virtualHWVersion = \"4\"\nddb.geometry.cylinders = \"{cylinders}\"\n\
         ddb.geometry.heads = \"255\"\nddb.geometry.sectors = \"63\"\n\
         ddb.adapterType = \"lsilogic\"\n"
    )
}

/// Removes what an unfinished restore left; one that runs is not touched.
pub(crate) async fn abandon(
    storage: &HubStorage,
    output: &RestoreOutput,
) -> Result<(), StorageError> {
    let files = RestoreFiles::of(&storage.options.restore_dir, output)?;
    let Ok(reservations) = files.reserve(&storage.in_use) else { return Ok(()) };
    blocking(&files.dir.clone(), move || {
        let _held_to_the_end = reservations;
        if !files.dir.is_dir() {
            return Ok(());
        }
        durable::remove_files(&files.dir, &files.left_over()).map_err(io_at(&files.dir))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Promise P5: whatever fails while the files get their names, the same restore can be begun anew.
    #[test]
    fn p5_a_restore_that_fails_at_its_names_leaves_none() {
        let places = [
            "file.written",
            "file.naming",
            "file.named",
            "file.naming@2",
            "file.named@2",
            "directory.sync",
            "directory.synced",
            "directory.sync@2",
            "directory.synced@2",
            "restore.durable",
        ];
        for place in places {
            let (point, hit) = place.split_once('@').unwrap_or((place, "1"));
            let orders = format!("{point}=enospc@{hit}");
            let folder = tempfile::tempdir().unwrap();
            let file_name = "web.vmdk".to_owned();
            let output = RestoreOutput { format: RestoreFormat::Vmdk, file_name };
            let files = RestoreFiles::of(folder.path(), &output).unwrap();
            let publish = || {
                std::fs::write(partial_of(&files.data), [1; 512]).unwrap();
                publish(&files, output.format, 512, Unfinished::new(files.partials()))
            };
            failpoint::with_orders(&orders, publish).unwrap().unwrap_err();
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{orders}");
            publish().unwrap();
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
        }
    }
}
