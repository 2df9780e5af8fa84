//! An authority for one test: certificates, good and bad, and the directories in which tools look for them.

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;

use anyhow::Result;
use hub_nbd::{ClientOptions, ClientSecurity, ClientTls, ServerTls};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

/// The names that a server of these tests has.
pub(crate) const NAMES: [&str; 3] = ["hub.internal", "localhost", "127.0.0.1"];

pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
pub(crate) struct Certified {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Ok(Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate()?)? })
    }

    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for a server with these names, good until a year.
    pub(crate) fn certify(&self, names: &[&str], until: i32) -> Result<Certified> {
        let names: Vec<String> = names.iter().map(|it| (*it).to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params.not_after = date_time_ymd(until, 1, 1);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Certified { certificate, key: key.serialize_pem() })
    }

    /// What a server of this library shows.
    pub(crate) fn server(&self, names: &[&str], until: i32) -> Result<ServerTls> {
        let Certified { certificate, key } = self.certify(names, until)?;
        Ok(ServerTls::from_pem(&certificate, &key)?)
    }

    /// A client that believes this authority about a name.
    pub(crate) fn client(&self, name: &str) -> Result<ClientOptions> {
        let security = ClientSecurity::Tls(ClientTls::new(&self.pem(), name)?);
        Ok(ClientOptions { security, ..ClientOptions::default() })
    }

    /// Writes what clients look for in a directory.
    pub(crate) fn lay_out(&self, folder: &Path) -> Result<()> {
        Ok(fs::write(folder.join("ca-cert.pem"), self.pem())?)
    }

    /// Writes what servers look for in a directory.
    pub(crate) fn lay_out_server(&self, folder: &Path, until: i32) -> Result<()> {
        self.lay_out(folder)?;
        let Certified { certificate, key } = self.certify(&NAMES, until)?;
        fs::write(folder.join("server-cert.pem"), certificate)?;
        Ok(fs::write(folder.join("server-key.pem"), key)?)
    }
}

/// An address of this machine that is not loopback; a test without one skips loudly, or fails where it is required.
#[expect(clippy::print_stderr, reason = "a skipped test has to be seen")]
pub(crate) fn own_address() -> Result<Option<IpAddr>> {
    // Nothing is sent: connecting a datagram socket only asks for the route.
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    let route = socket.connect("198.51.100.1:9").and_then(|()| socket.local_addr());
    if let Ok(address) = route
        && !address.ip().is_loopback()
    {
        return Ok(Some(address.ip()));
    }
    if std::env::var_os("HUB_TEST_REQUIRE").is_some_and(|it| it == "1") {
        anyhow::bail!("this machine has no address but loopback");
    }
    eprintln!("SKIPPED: this machine has no address but loopback");
    Ok(None)
}
