#![doc = include_str!("../README.md")]

mod certificate;
mod disk_library;
mod peer;
mod program;
mod python;
mod shape;

pub use disk_library::{DiskLibrary, ensure_disk_library};
pub use peer::{LiveSnapshot, PeerOptions, VspherePeer};
pub use program::ensure_built;
pub use python::ensure_pyvmomi;
pub use shape::{AreaPage, DiskShape, Shaped, Trouble, VmShape};
