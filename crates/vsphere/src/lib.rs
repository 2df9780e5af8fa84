#![doc = include_str!("../README.md")]

mod about;
mod areas;
mod client;
mod datastore_file;
mod element;
mod endpoint;
mod error;
mod fault;
mod inventory;
mod moref;
mod outline;
mod property;
mod reading;
mod snapshot;
mod soap;
mod task;
mod transport;
mod trust;

pub use about::About;
pub use areas::{AreaPage, AreaPlanner, BadAreas};
pub use client::{Client, ClientOptions};
pub use datastore_file::DatastoreFile;
pub use endpoint::{BadEndpoint, Endpoint, Login};
pub use error::VsphereError;
pub use fault::MethodFault;
pub use inventory::{
    Adapter, Backing, BackingKind, Controller, Disk, HostRelease, Places, SnapshotNode, Standing,
    Unreadable, VM_PROPERTIES, Vm, VmList, VmPage,
};
pub use moref::MoRef;
pub use reading::answers_in;
pub use task::QuiesceFailed;
pub use trust::{BadTrust, Trust};
