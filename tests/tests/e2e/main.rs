//! The real processes together; one binary, so that everything links once.

mod acceptance;
mod faults;
mod torture;
mod transport;
