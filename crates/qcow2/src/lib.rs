#![doc = include_str!("../README.md")]

mod body;
mod check;
mod cluster_codec;
mod cluster_lock;
mod cluster_map;
mod error;
mod format;
mod frame;
mod gate;
mod header;
mod layer;
mod mapping;
mod metadata;
mod packer;
mod reader;
mod recent;
mod references;
mod resume;
mod run;
mod store_file;
mod survey;
mod updater;
mod used_clusters;
mod writer;

pub use check::{CheckReport, Finding, check_image, check_with_frame};
pub use error::{CreateError, OpenError};
pub use frame::ImageFrame;
pub use gate::{BackingGate, Escapes, InsideDirectory};
pub use packer::Zstd;
pub use reader::{ImageInfo, ImageReader, MAX_DEPTH};
pub use resume::{PlacedRun, Placements};
pub use updater::ImageUpdater;
pub use writer::{Backing, CreateOptions, FinishedImage, ImageWriter};
