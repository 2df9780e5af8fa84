//! Encryption: who shows which certificate, who has to, and who is believed.

mod client;
mod pem;
mod server;

pub use client::{ClientSecurity, ClientTls};
pub use pem::{TlsError, fingerprint};
pub use server::{ServerSecurity, ServerTls};

pub(crate) use client::handshake_failure;
pub(crate) use server::{Wire, is_loopback};
