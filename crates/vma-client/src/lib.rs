#![doc = include_str!("../README.md")]

mod client;
mod conditions;
mod copy;
mod inventory;
mod options;
mod proof;
mod transport;
mod upkeep;

pub use client::VmaClient;
pub use options::VmaClientOptions;
pub use transport::ClientError;
