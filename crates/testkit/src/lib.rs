#![doc = include_str!("../README.md")]

mod clock;
pub mod database;
mod fake_vma;
pub mod fixtures;
mod mem_storage;
mod mem_store;
mod steps;
pub mod store_contract;
mod whole;

pub use clock::{FixedClock, SeqIds};
pub use fake_vma::{CopyScript, FakeVma};
pub use mem_storage::{Fault, MemBackupStorage, MemReplicaStorage};
pub use mem_store::MemStore;
pub use steps::{Break, Broken, Steps};
pub use whole::Whole;
