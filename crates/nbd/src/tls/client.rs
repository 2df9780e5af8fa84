//! The client's end: whom it believes, and when it may stay in the clear.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::pem::{self, TlsError};

/// What a client demands of the way to its server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ClientSecurity {
    /// Nothing: it speaks in the clear, whoever the server is.
    #[default]
    Plain,
    /// It speaks in the clear, to a server on this machine only; to any other it sends no byte.
    PlainOnLoopback,
    /// TLS, or there is no connection: a server that does not offer it is refused.
    Tls(ClientTls),
}

/// Whom a client believes; two are equal when one is a clone of the other.
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    server_name: ServerName<'static>,
}

impl ClientTls {
    /// Believes a server that shows a certificate for `server_name`, a host name or an address, signed by one of the
    /// authorities in this PEM, and nobody else.
    ///
    /// The name need not be the one that is dialled: an address may change, and the certificate stays good.
    pub fn new(authorities: &str, server_name: &str) -> Result<Self, TlsError> {
        let name = ServerName::try_from(server_name.to_owned())
            .map_err(|_| TlsError::ServerName(server_name.chars().take(100).collect()))?;
        let mut roots = RootCertStore::empty();
        for authority in pem::certificates(authorities)? {
            roots.add(authority).map_err(|it| TlsError::Certificate(it.to_string()))?;
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Pair)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        Ok(Self { config: Arc::new(config), server_name: name })
    }

    /// Does the TLS handshake over a stream on which both ends have agreed to begin.
    pub(crate) async fn encrypt<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let connector = TlsConnector::from(self.config.clone());
        connector.connect(self.server_name.clone(), stream).await
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ClientTls")
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

impl PartialEq for ClientTls {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.config, &other.config) && self.server_name == other.server_name
    }
}

impl Eq for ClientTls {}

/// Why a certificate was not believed, in words; nothing when the handshake failed for another cause.
pub(crate) fn handshake_failure(error: &io::Error) -> Option<String> {
    let cause = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    let rustls::Error::InvalidCertificate(cause) = cause else { return None };
    use CertificateError as Bad;
    let words = if matches!(cause, Bad::UnknownIssuer | Bad::BadSignature) {
        "its certificate is not signed by the authority that is trusted"
    } else if matches!(cause, Bad::Expired | Bad::ExpiredContext { .. }) {
        "its certificate has expired"
    } else if matches!(cause, Bad::NotValidYet | Bad::NotValidYetContext { .. }) {
        "its certificate is not valid yet; compare the clocks"
    } else if matches!(cause, Bad::NotValidForName | Bad::NotValidForNameContext { .. }) {
        "its certificate is for another name"
    } else {
        return Some(format!("its certificate cannot be believed: {cause}"));
    };
    Some(words.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_to_believe_has_to_be_said_in_full() {
        let made = rcgen::generate_simple_self_signed(vec!["hub".to_owned()]).unwrap().cert.pem();
        let tls = ClientTls::new(&made, "hub").unwrap();
        assert_eq!(tls, tls.clone());
        assert_ne!(tls, ClientTls::new(&made, "hub").unwrap());
        assert!(ClientTls::new(&made, "::1").is_ok());
        assert!(matches!(ClientTls::new(&made, "a b"), Err(TlsError::ServerName(_))));
        assert!(matches!(ClientTls::new("", "hub"), Err(TlsError::Certificate(_))));
        assert!(matches!(ClientTls::new(&made[..80], "hub"), Err(TlsError::Certificate(_))));
        assert!(format!("{tls:?}").contains("hub"));
    }
}
