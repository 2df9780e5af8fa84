//! How the server proves who it is; one of three ways, and never none.

use std::fmt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, ring as provider, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore,
    SignatureScheme,
};

/// Whom to believe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The authorities that the operating system trusts; on Linux the bundle of OpenSSL (`/etc/ssl/certs`).
    System,
    /// These authorities and no other, PEM.
    Authority(String),
    /// The one certificate with this SHA-256, whatever its name and age.
    Thumbprint([u8; 32]),
}

/// Why a setting is no [`Trust`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadTrust {
    /// Wrong length or characters.
    #[error(
        "a thumbprint is the SHA-256 of the certificate: 64 hexadecimal digits, colons allowed"
    )]
    Thumbprint,
    /// No certificate in it.
    #[error("the authority holds no certificate in PEM that can be used")]
    Authority,
    /// The system has no authorities.
    #[error("the system's authorities cannot be read; configure an authority or a thumbprint")]
    System,
    /// The TLS library refuses its settings.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

impl Trust {
    /// Reads a thumbprint as `openssl x509 -fingerprint -sha256` prints it, or as plain digits.
    pub fn thumbprint(text: &str) -> Result<Self, BadTrust> {
        let digits: String = text.trim().chars().filter(|it| *it != ':').collect();
        let mut thumbprint = [0; 32];
        hex::decode_to_slice(digits, &mut thumbprint).map_err(|_| BadTrust::Thumbprint)?;
        Ok(Self::Thumbprint(thumbprint))
    }

    /// Takes an authority that can be used; one that cannot is told now, and not at the first connection.
    pub fn authority(pem: String) -> Result<Self, BadTrust> {
        given_roots(&pem)?;
        Ok(Self::Authority(pem))
    }

    /// The TLS settings that enforce it.
    pub(crate) fn config(&self) -> Result<ClientConfig, BadTrust> {
        let crypto = Arc::new(provider::default_provider());
        let rule = match self {
            Self::System => Rule::roots(system_roots()?, &crypto)?,
            Self::Authority(pem) => Rule::roots(given_roots(pem)?, &crypto)?,
            Self::Thumbprint(thumbprint) => Rule::Thumbprint(*thumbprint),
        };
        let verifier = Verifier { rule, crypto: crypto.clone() };
        let config = ClientConfig::builder_with_provider(crypto)
            .with_safe_default_protocol_versions()
            .map_err(|error| BadTrust::Tls(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Ok(config)
    }
}

/// A certificate that was refused, for whoever has to compare it.
#[derive(Debug)]
pub(crate) struct Refused {
    /// Its SHA-256, as [`Trust::thumbprint`] reads it.
    pub(crate) seen: String,
    /// What is wrong with it.
    pub(crate) detail: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.detail)
    }
}

impl std::error::Error for Refused {}

fn system_roots() -> Result<RootCertStore, BadTrust> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (added, _ignored) = roots.add_parsable_certificates(found.certs);
    if added == 0 { Err(BadTrust::System) } else { Ok(roots) }
}

fn given_roots(pem: &str) -> Result<RootCertStore, BadTrust> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|_| BadTrust::Authority)?;
        roots.add(certificate).map_err(|_| BadTrust::Authority)?;
    }
    if roots.is_empty() { Err(BadTrust::Authority) } else { Ok(roots) }
}

#[derive(Debug)]
enum Rule {
    Roots(Arc<WebPkiServerVerifier>),
    Thumbprint([u8; 32]),
}

impl Rule {
    fn roots(roots: RootCertStore, crypto: &Arc<CryptoProvider>) -> Result<Self, BadTrust> {
        let built =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), crypto.clone()).build();
        built.map(Self::Roots).map_err(|error| BadTrust::Tls(error.to_string()))
    }
}

/// Checks the certificate by the rule, and the handshake's signature always.
#[derive(Debug)]
struct Verifier {
    rule: Rule,
    crypto: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        stapled: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let seen = ring::digest::digest(&ring::digest::SHA256, shown);
        let checked = match &self.rule {
            Rule::Roots(roots) => roots
                .verify_server_cert(shown, intermediates, name, stapled, now)
                .map_err(|error| in_words(&error)),
            Rule::Thumbprint(wanted) if seen.as_ref() == wanted => {
                Ok(ServerCertVerified::assertion())
            }
            Rule::Thumbprint(_) => Err("it is not the one that was pinned".to_owned()),
        };
        checked.map_err(|detail| {
            let refused = Refused { seen: spelled(seen.as_ref()), detail };
            CertificateError::Other(OtherError(Arc::new(refused))).into()
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.crypto.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.crypto.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.crypto.signature_verification_algorithms.supported_schemes()
    }
}

/// What is wrong with a certificate, for people; what is not known here is told in the words of the TLS library.
fn in_words(error: &rustls::Error) -> String {
    use CertificateError as Wrong;
    let rustls::Error::InvalidCertificate(wrong) = error else { return error.to_string() };
    // Authorities of other products have the same name, so that only the signature tells them apart.
    let words = if matches!(wrong, Wrong::UnknownIssuer | Wrong::BadSignature) {
        "none of the authorities that are trusted has signed it"
    } else if matches!(wrong, Wrong::Expired | Wrong::ExpiredContext { .. }) {
        "it has expired"
    } else if matches!(wrong, Wrong::NotValidYet | Wrong::NotValidYetContext { .. }) {
        "it is not valid yet, or a clock is wrong"
    } else if matches!(wrong, Wrong::NotValidForName | Wrong::NotValidForNameContext { .. }) {
        "it was made for another name than the one that is called"
    } else if matches!(wrong, Wrong::Other(other) if other.to_string() == "CaUsedAsEndEntity") {
        "it is the certificate of an authority itself, as servers show that signed their own"
    } else {
        return error.to_string();
    };
    words.to_owned()
}

fn spelled(digest: &[u8]) -> String {
    let pairs: Vec<_> = digest.iter().map(|it| format!("{it:02X}")).collect();
    pairs.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thumbprint_is_read_with_and_without_colons() {
        let digits = "aB".repeat(32);
        let colons = vec!["AB"; 32].join(":");
        assert_eq!(Trust::thumbprint(&digits), Trust::thumbprint(&colons));
        assert_eq!(Trust::thumbprint(&digits), Ok(Trust::Thumbprint([0xab; 32])));
        for bad in ["", "AB", &"ab".repeat(20), &"zz".repeat(32)] {
            assert_eq!(Trust::thumbprint(bad), Err(BadTrust::Thumbprint), "{bad}");
        }
    }

    #[test]
    fn an_authority_without_a_certificate_is_refused() {
        for pem in ["", "nothing", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
        {
            let trust = Trust::Authority(pem.to_owned());
            assert_eq!(trust.config().err(), Some(BadTrust::Authority), "{pem}");
            assert_eq!(Trust::authority(pem.to_owned()), Err(BadTrust::Authority), "{pem}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_certificate_is_told_in_words() {
        let own = Refused { seen: String::new(), detail: "CaUsedAsEndEntity".to_owned() };
        for (wrong, words) in [
            (CertificateError::UnknownIssuer, "authorities"),
            (CertificateError::BadSignature, "authorities"),
            (CertificateError::Expired, "expired"),
            (CertificateError::NotValidForName, "another name"),
            (CertificateError::Other(OtherError(Arc::new(own))), "signed their own"),
        ] {
            let said = in_words(&rustls::Error::InvalidCertificate(wrong));
            assert!(said.contains(words) && !said.contains("Other"), "{said}");
        }
    }
}
