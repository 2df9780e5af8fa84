#![doc = include_str!("../README.md")]

mod checkpoint;
mod durable;
mod export_name;
mod failure;
mod hub_storage;
mod image;
mod journal;
mod layout;
mod point;
mod probe;
mod progress;
mod proof;
mod replica;
mod reservation;
mod restore_file;
mod resume;
mod target;

pub use hub_storage::{HubStorage, HubStorageOptions};
