//! The client: a block device whose bytes are on an NBD server.

mod alignment;
mod connection;
mod coverage;
mod device;
mod endpoint;
mod handshake;
mod pending;
mod pulse;
mod reader;
mod redial;
mod transfer;

pub use device::{NbdClient, StatusExtent};
pub use endpoint::{ClientOptions, Endpoint};
pub use handshake::ConnectError;
pub use redial::{GivenUp, RedialCounts, RedialOptions, RedialingClient};
