//! The proof of an image file as a file: its structure, its length, and every byte that is not the disk's own.
//!
//! What the disk reads as is proven block by block elsewhere; together nothing in the file is left out.

use std::path::Path;

use hub_data_mover::{ImageSeal, SpanDigest};
use hub_ports::{StorageError, told};
use hub_qcow2::{ImageFrame, OpenError, check_with_frame};

use crate::image::not_opened;

/// Checks a finished image and digests its frame; an image that is wrong is never sealed. Blocks.
pub(crate) fn seal(image: &Path) -> Result<ImageSeal, StorageError> {
    let failed = |error| not_opened(image, &error);
    let (report, frame) = check_with_frame(image).map_err(failed)?;
    if let Some(wrong) = report.errors.first() {
        return Err(StorageError::Damaged {
            path: image.display().to_string(),
            offset: wrong.offset,
            detail: wrong.what.clone(),
        });
    }
    take(&frame).map_err(failed)
}

/// What is wrong with an image file, if anything; a leak counts, since a sealed image has none. Blocks.
///
/// Points of older versions were sealed without their frame, and are checked as far as their tables go.
pub(crate) fn damage(image: &Path, sealed: Option<&ImageSeal>) -> Option<String> {
    let (report, frame) = match check_with_frame(image) {
        Ok(found) => found,
        Err(error) => return Some(told(&error)),
    };
    if let Some(finding) = report.errors.iter().chain(&report.leaks).next() {
        let path = image.display();
        return Some(format!("{} at offset {} of {path}", finding.what, finding.offset));
    }
    let broken = match take(&frame) {
        Ok(found) => sealed?.compare(&found).err()?,
        Err(error) => return Some(told(&error)),
    };
    Some(format!("{}: {broken}", image.display()))
}

fn take(frame: &ImageFrame) -> Result<ImageSeal, OpenError> {
    ImageSeal::take(frame.file_bytes(), |span, digest: &mut SpanDigest| {
        for piece in frame.pieces(span) {
            digest.piece(&piece);
            frame.read(piece, |bytes| digest.bytes(bytes))?;
        }
        Ok(())
    })
}
