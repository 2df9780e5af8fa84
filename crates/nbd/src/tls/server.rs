//! The server's end: its certificate, and who may stay in the clear.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::NoServerSessionStorage;
use tokio_rustls::TlsAcceptor;

use super::pem::{self, TlsError};

/// Which connections a server encrypts.
#[derive(Clone, Debug, Default)]
pub enum ServerSecurity {
    /// None; a client that asks for TLS is told that there is none.
    #[default]
    Plain,
    /// Those of clients that ask for it.
    Offered(ServerTls),
    /// All but those that come from this machine itself, which may choose.
    BeyondLoopback(ServerTls),
    /// All.
    Required(ServerTls),
}

/// A certificate and its key; clones are the same one, also when it is replaced.
#[derive(Clone)]
pub struct ServerTls {
    current: Arc<RwLock<Arc<ServerConfig>>>,
}

impl ServerTls {
    /// From PEM: the certificate, followed by those that vouch for it if there are any, and its private key.
    pub fn from_pem(certificates: &str, key: &str) -> Result<Self, TlsError> {
        Ok(Self { current: Arc::new(RwLock::new(config(certificates, key)?)) })
    }

    /// Shows another certificate to clients that come from now on.
    pub fn replace(&self, certificates: &str, key: &str) -> Result<(), TlsError> {
        let new = config(certificates, key)?;
        *self.current.write() = new;
        Ok(())
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        self.current.read().clone().into()
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ServerTls").finish_non_exhaustive()
    }
}

/// What a connection is allowed while it is not encrypted, and that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// There is no TLS.
    PlainOnly,
    /// TLS can be asked for.
    PlainAllowed,
    /// Nothing but TLS can be asked for.
    PlainRefused,
    /// TLS has begun.
    Encrypted,
}

impl ServerSecurity {
    /// How a connection begins.
    pub(crate) fn wire(&self, peer: SocketAddr) -> Wire {
        match self {
            Self::Plain => Wire::PlainOnly,
            Self::Offered(_) => Wire::PlainAllowed,
            Self::BeyondLoopback(_) if is_loopback(peer.ip()) => Wire::PlainAllowed,
            Self::BeyondLoopback(_) | Self::Required(_) => Wire::PlainRefused,
        }
    }

    pub(crate) fn tls(&self) -> Option<&ServerTls> {
        match self {
            Self::Plain => None,
            Self::Offered(tls) | Self::BeyondLoopback(tls) | Self::Required(tls) => Some(tls),
        }
    }
}

/// Whether an address is of this machine and reached by nobody else; an IPv4 address may be dressed as IPv6.
pub(crate) fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

fn config(certificates: &str, key: &str) -> Result<Arc<ServerConfig>, TlsError> {
    let (certificates, key) = (pem::certificates(certificates)?, pem::key(key)?);
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Pair)?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .map_err(TlsError::Pair)?;
    // A transfer opens few connections and keeps them long, so there is nothing to gain from resuming one.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_told_from_everything_else() {
        for near in ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"] {
            assert!(is_loopback(near.parse().unwrap()), "{near}");
        }
        for far in ["10.0.0.1", "0.0.0.0", "::", "fe80::1", "::ffff:10.0.0.1"] {
            assert!(!is_loopback(far.parse().unwrap()), "{far}");
        }
    }

    #[test]
    fn what_is_no_certificate_or_no_key_is_said_to_be_so() {
        let made = rcgen::generate_simple_self_signed(vec!["hub".to_owned()]).unwrap();
        let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        assert!(ServerTls::from_pem(&certificate, &key).is_ok());
        assert!(matches!(ServerTls::from_pem("", &key), Err(TlsError::Certificate(_))));
        assert!(matches!(ServerTls::from_pem(&certificate, ""), Err(TlsError::Key(_))));
        assert!(matches!(ServerTls::from_pem(&certificate, &other), Err(TlsError::Pair(_))));
        let many = certificate.repeat(17);
        assert!(matches!(ServerTls::from_pem(&many, &key), Err(TlsError::Certificate(_))));
        let torn = &key[..key.len() / 2];
        let error = ServerTls::from_pem(&certificate, torn).unwrap_err();
        assert!(matches!(error, TlsError::Key(_)), "{error}");
        assert!(!error.to_string().contains(torn.lines().nth(1).unwrap()), "{error}");
    }
}
