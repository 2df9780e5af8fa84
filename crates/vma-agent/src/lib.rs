#![doc = include_str!("../README.md")]

#[cfg(test)]
mod doubles;
#[cfg(test)]
mod fixture;
pub mod folder;
pub mod http;
mod hub_pin;
pub mod jobs;
pub mod source;
pub mod vmdk;
pub mod vmx;
pub mod vsphere;

pub use hub_pin::{HubPin, PinError, PlainNbd, forget as forget_hub};
