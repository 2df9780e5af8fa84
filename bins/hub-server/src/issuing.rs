//! How certificates are made and judged, without a file in sight.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use chrono::{Datelike, Days};
use hub_domain::time::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

/// How long the authority lasts: longer than the hub.
const AUTHORITY_DAYS: u64 = 30 * 365;
/// How long a server's certificate lasts.
const SERVER_DAYS: u64 = 2 * 365;
/// It is made anew when it has less than this before it.
const MARGIN: Duration = Duration::from_secs(180 * 24 * 3600);

/// Signs certificates.
pub(crate) struct Authority {
    key: KeyPair,
    params: CertificateParams,
}

impl Authority {
    /// The authority that a key stands for; its name follows from the key, so that nothing else has to be kept.
    pub(crate) fn new(key: KeyPair) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        let mut id = hex::encode(params.key_identifier(&key));
        id.truncate(8);
        params.distinguished_name = named(&format!("Sendense Hub NBD authority {id}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(Self { key, params })
    }

    pub(crate) fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// Its own certificate, which everybody may see.
    pub(crate) fn certificate(&self, now: Timestamp) -> Result<String> {
        let mut params = self.params.clone();
        last(&mut params, now, AUTHORITY_DAYS)?;
        Ok(params.self_signed(&self.key)?.pem())
    }

    /// A certificate for a server with these names, and its fresh key behind it.
    pub(crate) fn certify(&self, names: &[String], now: Timestamp) -> Result<String> {
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = named("Sendense Hub NBD");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        last(&mut params, now, SERVER_DAYS)?;
        let key = KeyPair::generate()?;
        let issuer = Issuer::from_params(&self.params, &self.key);
        let certificate = params.signed_by(&key, &issuer)?;
        Ok(certificate.pem() + &key.serialize_pem())
    }
}

/// The names that a certificate can prove among the hub's: the one that stays, its addresses, and this machine.
pub(crate) fn provable(server_name: &str, hosts: &[String]) -> Vec<String> {
    let near = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let mut names = vec![server_name.to_owned()];
    for name in hosts.iter().cloned().chain(near) {
        if ServerName::try_from(name.as_str()).is_ok() && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Whether a server's certificate proves all names for a good while yet, to whoever believes the authority.
pub(crate) fn is_good(authority: &str, server: &str, names: &[String], now: Timestamp) -> bool {
    let parsed = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes());
    let (Ok(authority), Ok(server)) = (parsed(authority), parsed(server)) else { return false };
    let mut roots = RootCertStore::empty();
    let provider = Arc::new(ring::default_provider());
    let verifier = match roots.add(authority) {
        Ok(()) => WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build(),
        Err(_) => return false,
    };
    let Ok(verifier) = verifier else { return false };
    let seconds = u64::try_from(now.timestamp()).unwrap_or_default();
    let proves = |name: &String, at: Duration| {
        let Ok(name) = ServerName::try_from(name.as_str()) else { return false };
        let at = UnixTime::since_unix_epoch(at);
        verifier.verify_server_cert(&server, &[], &name, &[], at).is_ok()
    };
    let now = Duration::from_secs(seconds);
    names.iter().all(|name| proves(name, now) && proves(name, now + MARGIN))
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// Valid from yesterday, because clocks differ, for so many days.
fn last(params: &mut CertificateParams, now: Timestamp, days: u64) -> Result<()> {
    let day = |at: Option<Timestamp>| {
        let at = at.context("the clock is out of range")?;
        Ok::<_, anyhow::Error>(date_time_ymd(
            at.year(),
            u8::try_from(at.month())?,
            u8::try_from(at.day())?,
        ))
    };
    params.not_before = day(now.checked_sub_days(Days::new(1)))?;
    params.not_after = day(now.checked_add_days(Days::new(days)))?;
    Ok(())
}
