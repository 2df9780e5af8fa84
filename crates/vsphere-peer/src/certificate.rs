//! What the peer shows over TLS: a certificate from an authority that exists for one test.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// An authority and the certificate that it made.
#[derive(Debug)]
pub(crate) struct Certificate {
    /// The authority, PEM.
    pub(crate) authority: String,
    /// SHA-256 of the peer's own certificate.
    pub(crate) thumbprint: [u8; 32],
    /// File of the peer's certificate.
    pub(crate) certificate: PathBuf,
    /// File of its key.
    pub(crate) key: PathBuf,
}

impl Certificate {
    /// Makes both, and writes what the peer needs into a directory.
    pub(crate) fn make(directory: &Path) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // With one name for both, some clients take the peer's certificate for self-signed.
        params.distinguished_name.push(DnType::CommonName, "authority of a vSphere peer");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let own = KeyPair::generate()?;
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let made = CertificateParams::new(names)?.signed_by(&own, &issuer)?;
        let (certificate, key) = (directory.join("peer.crt"), directory.join("peer.key"));
        fs::write(&certificate, made.pem())?;
        fs::write(&key, own.serialize_pem())?;
        let digest = ring::digest::digest(&ring::digest::SHA256, made.der());
        let mut thumbprint = [0; 32];
        thumbprint.copy_from_slice(digest.as_ref());
        Ok(Self { authority: issuer.pem(), thumbprint, certificate, key })
    }
}
