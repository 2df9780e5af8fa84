#![doc = include_str!("../README.md")]

mod audit;
mod copy;
mod identity;
mod inventory;
mod problem;
mod source;
mod vm;

pub use audit::{AuditOrder, AuditReport, ChainAudit, Lie};
pub use copy::{
    CopyDisk, CopyMethod, CopyRates, CopyReport, CopyRequest, CopyState, DiskReport, Fault,
    NbdTarget, NbdTls, ParentManifest, RateReading, SnapshotReport,
};
pub use identity::{
    Health, INTRODUCTION_CONTEXT, Identity, Introduced, Introduction, PROOF_CONTEXT,
};
pub use inventory::{Credentials, DiscoverFilter, DiscoverRequest, Inventory, Vcenter, Warning};
pub use problem::Problem;
pub use source::{
    CleanupOutcome, CleanupReport, CleanupRequest, CredentialsTest, OwedSnapshot, OwedSnapshots,
    SourceAbout, StrikeOffReport, StrikeOffRequest,
};
pub use vm::{ChangeTracking, JOB_SNAPSHOT, Vm, VmDisk, VmNetwork, VmSnapshot, is_name_of_a_job};
