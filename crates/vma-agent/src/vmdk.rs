//! VMDK descriptors and chains: what a disk consists of, checked before anything opens it.

mod chain;
mod datastore;
mod descriptor;
mod error;
mod header;
mod layer;
#[cfg(test)]
mod tests;

pub use chain::{Chain, MAX_CHAIN};
pub use datastore::Datastore;
pub use descriptor::{CreateType, Descriptor, ExtentLine, Storage};
pub use error::VmdkError;
pub use header::MAX_TEXT;
pub use layer::{ExtentFile, FileState, Layer};
