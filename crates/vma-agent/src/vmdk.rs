//! VMDK disks: what one consists of, checked before it is opened, and its bytes.

mod chain;
mod cowd;
mod datastore;
mod descriptor;
mod directory;
mod disk;
mod error;
mod field;
mod header;
mod hosted;
mod image;
mod layer;
mod layout;
mod open_file;
mod packed_grain;
mod sesparse;
mod sparse_extent;
mod table_cache;
#[cfg(test)]
mod tests;

pub use chain::{Chain, MAX_CHAIN};
pub use cowd::CowdHeader;
pub use datastore::{Datastore, Located};
pub use descriptor::{CreateType, Descriptor, ExtentLine, Storage};
pub use directory::Directory;
pub use disk::VmdkDisk;
pub use error::VmdkError;
pub use header::MAX_TEXT;
pub use hosted::HostedHeader;
pub use layer::{ExtentFile, FileState, Layer};
pub use layout::{HeaderError, SparseLayout};
pub use sesparse::SeSparseHeader;
