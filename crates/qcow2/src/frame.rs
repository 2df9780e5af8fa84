//! The frame of an image: every byte of its file that is not plainly a byte of the disk.
//!
//! Header, tables, refcounts, compressed clusters, what lies behind the end of the disk in its last cluster,
//! and clusters that nothing refers to. Who digests the disk's bytes and the frame has covered the whole file.

use std::ops::Range;
use std::path::PathBuf;

use hub_block::BlockError;

use crate::error::OpenError;
use crate::format::{Geometry, index};
use crate::store_file::StoreFile;
use crate::survey::{Content, Survey};

/// Bytes that are read at once.
const STEP: u64 = 1 << 20;

/// A file whose bytes are known to be content or frame; see [`check_with_frame`](crate::check_with_frame).
///
/// **Content** is what an L2 entry without the zero and compressed flags points to, as far as the disk reaches.
/// Everything else is frame. An image whose check found errors has a frame, too, as far as its tables go.
#[derive(Debug)]
pub struct ImageFrame {
    file: StoreFile,
    path: PathBuf,
    geometry: Geometry,
    file_bytes: u64,
    content: Content,
}

impl ImageFrame {
    pub(crate) fn new(file: StoreFile, survey: Survey) -> Self {
        Self {
            path: PathBuf::from(file.label()),
            geometry: survey.header.geometry,
            file_bytes: survey.report.file_bytes,
            content: survey.content,
            file,
        }
    }

    /// Length of the file in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// The pieces of the frame within a range of the file's bytes, in order, none beside another.
    pub fn pieces(&self, within: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let size = self.geometry.cluster_size();
        let end = within.end.min(self.file_bytes);
        let mut at = within.start;
        std::iter::from_fn(move || {
            let start = loop {
                if at >= end {
                    return None;
                }
                let start = at.max(self.content_end(at / size));
                let next = end.min((at / size + 1) * size);
                if start < next {
                    break start;
                }
                at = next;
            };
            at = end.min((start / size + 1) * size);
            while at < end && self.content_end(at / size) == at {
                at = end.min(at + size);
            }
            Some(start..at)
        })
    }

    /// Where the content of a host cluster ends; its start, if it has none.
    fn content_end(&self, cluster: u64) -> u64 {
        let start = cluster * self.geometry.cluster_size();
        if !self.content.clusters.contains(cluster) {
            return start;
        }
        match self.content.tail {
            Some((host, seen)) if host == start => start + seen,
            _ => start + self.geometry.cluster_size(),
        }
    }

    /// Reads a piece in steps, in order. Blocks.
    pub fn read(&self, piece: Range<u64>, mut each: impl FnMut(&[u8])) -> Result<(), OpenError> {
        let mut buffer = vec![0; index((piece.end - piece.start).min(STEP))];
        let mut at = piece.start;
        while at < piece.end {
            let step = &mut buffer[..index((piece.end - at).min(STEP))];
            let read: Result<(), BlockError> = self.file.read_exact_at(step, at);
            read.map_err(OpenError::read(&self.path))?;
            each(step);
            at += step.len() as u64;
        }
        Ok(())
    }
}
