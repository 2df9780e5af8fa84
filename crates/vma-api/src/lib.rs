#![doc = include_str!("../README.md")]

mod copy;
mod identity;
mod inventory;
mod problem;

pub use copy::{
    CopyDisk, CopyMethod, CopyRates, CopyReport, CopyRequest, CopyState, DiskReport, Fault,
    NbdTarget, NbdTls, ParentManifest,
};
pub use identity::{
    Health, INTRODUCTION_CONTEXT, Identity, Introduced, Introduction, PROOF_CONTEXT,
};
pub use inventory::{
    Credentials, DiscoverFilter, DiscoverRequest, Inventory, Vcenter, Vm, VmDisk, VmNetwork,
    Warning,
};
pub use problem::Problem;
