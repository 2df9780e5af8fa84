#![doc = include_str!("../README.md")]

mod add_vms;
mod chunk;
mod discovery;
mod error;
mod plan;
mod selection;

pub use add_vms::{AddReport, AddResult, AddVms, VmFault, Wanted};
pub use discovery::{DiscoverQuery, Discovered, Discovery, Options, SourceChoice};
pub use error::DiscoveryError;
pub use plan::{Change, Stored};
