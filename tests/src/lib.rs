#![doc = include_str!("../README.md")]

pub mod api;
pub mod datastore;
pub mod judge;
pub mod lab;
pub mod processes;
pub mod proxy;
mod sparse;
pub mod tool;
pub mod vsphere;
