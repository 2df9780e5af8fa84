#![doc = include_str!("../README.md")]

#[cfg(test)]
mod bench;
mod copying;
mod delete;
mod ending;
mod engine;
mod error;
mod legacy;
mod recovery;
mod run;
mod start;

pub use engine::{Options, Replication};
pub use error::{ChangeReplicationError, RunReplicationError, StartReplicationError};
pub use recovery::Recovered;
pub use start::{StartReplication, Started};

#[cfg(test)]
mod tests;
