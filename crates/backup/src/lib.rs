#![doc = include_str!("../README.md")]

mod attempts;
mod audits;
#[cfg(test)]
mod bench;
mod cancel;
mod chain_audits;
mod completion;
mod copying;
mod delete;
mod ending;
mod engine;
mod error;
mod preparation;
mod recovery;
mod run;
mod start;

pub use engine::{Backup, Options};
pub use error::{CancelBackupError, DeleteBackupError, RunBackupError, StartBackupError};
pub use recovery::Recovered;
pub use start::{StartBackup, StartedRun};

#[cfg(test)]
mod tests;
