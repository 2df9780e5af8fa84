#![doc = include_str!("../README.md")]

mod access;
mod backups;
mod connection;
mod entity;
mod job_state;
mod limit;
mod met;
mod owed;
mod reading;
mod remarks;
mod replications;
mod restores;
mod sea_store;
mod secret;
mod session;
mod verdict;
mod vms;
mod watched;

pub use access::Secrets;
pub use connection::{OpenError, StoreOptions};
pub use sea_store::SeaStore;
