#![doc = include_str!("../README.md")]

mod engine;
mod error;
mod exports;
mod fault;
mod point;
mod restore_job;
mod tracking;
mod transition;
mod verification;

pub use engine::{Options, Restore};
pub use error::{
    CancelError, OpenExportError, PointError, PointExported, StartRestoreError,
    StartVerificationError,
};
pub use exports::{Export, ExportRegistry, Withheld};
pub use restore_job::RestoreRequest;

#[cfg(test)]
mod tests;
