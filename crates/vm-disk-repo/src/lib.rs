#![doc = include_str!("../README.md")]

pub mod column;
mod conditions;
pub mod context;
pub mod disk;
mod failure;
pub mod reads;
pub mod rows;
pub mod writes;

pub use failure::{is_reference, is_unique, store_error};
