//! The structural check: whether an image's tables, references and refcounts say the same.

use std::path::Path;

use crate::error::OpenError;
use crate::frame::ImageFrame;
use crate::store_file::StoreFile;
use crate::survey::Survey;

/// Most errors and most leaks that a report lists; further ones are only counted.
const MAX_FINDINGS: usize = 1000;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// What makes reading or writing the image unsafe; at most 1000 are listed.
    pub errors: Vec<Finding>,
    /// Clusters that are counted as used although nothing refers to them; at most 1000 are listed.
    pub leaks: Vec<Finding>,
    /// How many more errors and leaks there are than are listed.
    pub not_listed: u64,
    /// Guest clusters that have bytes in the file, compressed or not.
    pub data_clusters: u64,
    /// How many of those are compressed.
    pub compressed_clusters: u64,
    /// Length of the file in bytes.
    pub file_bytes: u64,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where in the file, in bytes.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
}

impl CheckReport {
    /// Neither errors nor leaks.
    pub fn is_clean(&self) -> bool {
        self.errors.is_empty() && self.leaks.is_empty()
    }

    pub(crate) fn error(&mut self, offset: u64, what: impl Into<String>) {
        Self::add(&mut self.errors, &mut self.not_listed, offset, what.into());
    }

    pub(crate) fn leak(&mut self, offset: u64) {
        let what = "the cluster is counted as used but nothing refers to it";
        Self::add(&mut self.leaks, &mut self.not_listed, offset, what.to_owned());
    }

    fn add(list: &mut Vec<Finding>, not_listed: &mut u64, offset: u64, what: String) {
        if list.len() < MAX_FINDINGS {
            list.push(Finding { offset, what });
        } else {
            *not_listed += 1;
        }
    }
}

/// Checks one image file, without what it stands on. Blocks, and reads all tables but no data.
///
/// Host clusters that compressed clusters share count as often as they are referred to.
/// An image whose header or feature set does not allow a check is an [`OpenError`]; that includes
/// internal snapshots.
pub fn check_image(path: &Path) -> Result<CheckReport, OpenError> {
    let file = StoreFile::open_read(path).map_err(OpenError::io(path))?;
    Ok(Survey::of(&file, path)?.report)
}

/// As [`check_image`], and what is needed to read everything in the file that is not the disk's own bytes.
pub fn check_with_frame(path: &Path) -> Result<(CheckReport, ImageFrame), OpenError> {
    let file = StoreFile::open_read(path).map_err(OpenError::io(path))?;
    let survey = Survey::of(&file, path)?;
    let report = survey.report.clone();
    Ok((report, ImageFrame::new(file, survey)))
}
