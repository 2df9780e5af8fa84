#![doc = include_str!("../README.md")]

mod supervisor;

pub use supervisor::{Ending, JobKey, NotSpawned, Options, Stragglers, Supervisor};
