#![doc = include_str!("../README.md")]

mod certificate;
mod peer;
mod program;
mod shape;

pub use peer::{LiveSnapshot, PeerOptions, VspherePeer};
pub use program::ensure_built;
pub use shape::{AreaPage, DiskShape, Shaped, Trouble, VmShape};
