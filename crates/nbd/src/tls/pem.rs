//! Certificates and keys as text, and what can be wrong with them.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// More certificates than this in one text are a mistake.
const MAX_CERTIFICATES: usize = 16;

/// Why certificates or a key cannot be used; no text of a key is ever repeated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The text holds no certificate, too many, or a broken one.
    #[error("there is no usable certificate: {0}")]
    Certificate(String),
    /// The text holds no private key, or a broken one.
    #[error("there is no usable private key: {0}")]
    Key(String),
    /// Certificate and key cannot be used together.
    #[error("certificate and private key do not fit: {0}")]
    Pair(#[source] rustls::Error),
    /// The name that a server has to prove is neither a host name nor an address.
    #[error("`{0}` is not a name that a certificate can prove")]
    ServerName(String),
}

/// SHA-256 of the one certificate in a PEM, hexadecimal: what people compare, and what tells two authorities apart.
///
/// A text with several is refused, because whoever believes the text would believe more than the digest stands for.
pub fn fingerprint(pem: &str) -> Result<String, TlsError> {
    let all = certificates(pem)?;
    let [only] = all.as_slice() else {
        let words = format!("one is expected, and {} were found", all.len());
        return Err(TlsError::Certificate(words));
    };
    let digest = ring::digest::digest(&ring::digest::SHA256, only);
    Ok(digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// All certificates of a text, at least one.
pub(super) fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all = CertificateDer::pem_slice_iter(text.as_bytes()).take(MAX_CERTIFICATES + 1);
    let all: Vec<_> =
        all.collect::<Result<_, _>>().map_err(|it| TlsError::Certificate(it.to_string()))?;
    match all.len() {
        0 => Err(TlsError::Certificate("none in PEM was found".to_owned())),
        1..=MAX_CERTIFICATES => Ok(all),
        _ => Err(TlsError::Certificate(format!("more than {MAX_CERTIFICATES} were found"))),
    }
}

/// The first private key of a text.
pub(super) fn key(text: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|it| TlsError::Key(it.to_string()))
}
