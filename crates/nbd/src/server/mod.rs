//! The server: one port, many exports, each session bounded in time and memory.

mod admission;
mod exports;
mod handshake;
mod listener;
mod options;
mod reception;
mod replies;
mod session;

pub use exports::{AddExportError, Export, ExportHandle, Exports};
pub use listener::Server;
pub use options::ServerOptions;
