#![doc = include_str!("../README.md")]

#[cfg(test)]
mod doubles;
#[cfg(test)]
mod fixture;
pub mod folder;
pub mod http;
pub mod jobs;
pub mod source;
pub mod vmdk;
pub mod vmx;
