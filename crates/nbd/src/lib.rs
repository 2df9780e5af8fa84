#![doc = include_str!("../README.md")]

mod client;
mod codec;
mod errno;
mod server;
mod socket;
mod tls;
mod wire;

pub use client::{
    ClientOptions, ConnectError, Endpoint, GivenUp, NbdClient, RedialCounts, RedialOptions,
    RedialingClient, StatusExtent,
};
pub use server::{AddExportError, Export, ExportHandle, Exports, Server, ServerOptions};
pub use tls::{ClientSecurity, ClientTls, ServerSecurity, ServerTls, TlsError, fingerprint};
