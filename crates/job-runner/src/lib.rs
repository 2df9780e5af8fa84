#![doc = include_str!("../README.md")]

mod copy_slots;
mod supervisor;

pub use copy_slots::{CopySlots, Waiting};
pub use supervisor::{Ending, JobKey, NotSpawned, Options, Stragglers, Supervisor};
