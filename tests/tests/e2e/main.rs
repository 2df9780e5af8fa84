//! The real processes together; one binary, so that everything links once.

mod acceptance;
mod faults;
mod recovery;
mod torture;
mod transport;
mod vsphere;
