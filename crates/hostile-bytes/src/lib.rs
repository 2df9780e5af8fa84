#![doc = include_str!("../README.md")]

pub mod files;
pub mod network;
mod target;

pub use target::{TARGETS, Target};
