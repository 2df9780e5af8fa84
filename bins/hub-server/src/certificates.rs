//! The hub's own authority, and the certificate by which its NBD port proves that it is the hub's.
//!
//! The authority is made at the first start and stays: VMAs keep it when they are registered, and operators check
//! exports against it. What it signs is made anew when its end is near or when the hub gets other addresses.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use hub_domain::time::Timestamp;
use hub_nbd::{ServerTls, fingerprint};
use rcgen::KeyPair;

use crate::data_dir::write_private;
use crate::issuing::{self, Authority};

/// Its directory in the data directory, and what lies there.
const PLACE: &str = "nbd-tls";
const AUTHORITY: &str = "ca.pem";
const AUTHORITY_KEY: &str = "ca.key";
/// Certificate and key in one file, so that replacing it replaces both at once.
const SERVER: &str = "server.pem";

/// What the hub shows on its NBD port, and who vouches for it.
pub(crate) struct NbdCertificates {
    /// Who vouches, PEM.
    pub(crate) authority: String,
    /// Its SHA-256, hexadecimal.
    pub(crate) fingerprint: String,
    /// The name that the hub proves wherever it is.
    pub(crate) server_name: String,
    /// What the port shows.
    pub(crate) tls: ServerTls,
    place: PathBuf,
    names: Vec<String>,
    /// What the port shows, as it was read or made.
    shown: Mutex<String>,
}

impl NbdCertificates {
    /// Reads what an earlier start made, or makes it: whole or not at all, whenever the hub is killed.
    pub(crate) fn open(data_dir: &Path, hosts: &[String], now: Timestamp) -> Result<Self> {
        let place = data_dir.join(PLACE);
        if !place.try_exists()? {
            make(data_dir, &place, now).with_context(|| {
                format!("no authority for NBD can be made in {}", place.display())
            })?;
        }
        let authority = read(&place, AUTHORITY)?;
        let fingerprint = fingerprint(&authority).with_context(|| broken(&place, AUTHORITY))?;
        let server_name = format!("hub-{}.internal", &fingerprint[..16]);
        let names = issuing::provable(&server_name, hosts);
        let server = match present(&place, &authority, &names, now) {
            Some(server) => server,
            None => issue(&place, &authority, &names, now)?,
        };
        let tls = ServerTls::from_pem(&server, &server).with_context(|| broken(&place, SERVER))?;
        let shown = Mutex::new(server);
        Ok(Self { authority, fingerprint, server_name, tls, place, names, shown })
    }

    /// Shows the certificate that is kept, which is made anew when its end is near or when it is lost; whether the port
    /// shows another one now.
    ///
    /// What is kept and what is shown are compared, so that a new one that did not come as far as the port is put there
    /// the next time.
    pub(crate) fn renew_if_due(&self, now: Timestamp) -> Result<bool> {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = match present(&self.place, &self.authority, &self.names, now) {
            Some(kept) if kept.trim_end() == shown.trim_end() => return Ok(false),
            Some(kept) => kept,
            None => issue(&self.place, &self.authority, &self.names, now)?,
        };
        self.tls.replace(&kept, &kept).with_context(|| broken(&self.place, SERVER))?;
        *shown = kept;
        Ok(true)
    }
}

/// Lays everything out under another name first; the last rename makes it exist.
fn make(data_dir: &Path, place: &Path, now: Timestamp) -> Result<()> {
    let partial = data_dir.join(format!("{PLACE}.partial"));
    match fs::remove_dir_all(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        Ok(()) | Err(_) => (),
    }
    DirBuilder::new().mode(0o700).create(&partial)?;
    let key = KeyPair::generate()?;
    let authority = Authority::new(key)?;
    write_private(&partial.join(AUTHORITY_KEY), authority.key_pem().trim_end())?;
    write_private(&partial.join(AUTHORITY), authority.certificate(now)?.trim_end())?;
    fs::rename(&partial, place)?;
    Ok(File::open(data_dir)?.sync_all()?)
}

/// The certificate that is kept, if it is a good one and has its key; it may be missing or torn.
fn present(place: &Path, authority: &str, names: &[String], now: Timestamp) -> Option<String> {
    let text = fs::read_to_string(place.join(SERVER)).ok()?;
    let is_whole = ServerTls::from_pem(&text, &text).is_ok();
    (is_whole && issuing::is_good(authority, &text, names, now)).then_some(text)
}

/// Makes and keeps a certificate for these names.
fn issue(place: &Path, authority: &str, names: &[String], now: Timestamp) -> Result<String> {
    let key = read(place, AUTHORITY_KEY)?;
    let signer =
        Authority::new(KeyPair::from_pem(&key).with_context(|| broken(place, AUTHORITY_KEY))?)?;
    let server = signer.certify(names, now)?;
    ensure!(
        issuing::is_good(authority, &server, names, now),
        "{AUTHORITY} and {AUTHORITY_KEY} in {} do not belong together; {}",
        place.display(),
        what_to_do()
    );
    let path = place.join(SERVER);
    write_private(&path, server.trim_end())
        .with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(server)
}

fn read(place: &Path, name: &str) -> Result<String> {
    fs::read_to_string(place.join(name)).with_context(|| broken(place, name))
}

fn broken(place: &Path, name: &str) -> String {
    format!("{} cannot be used; {}", place.join(name).display(), what_to_do())
}

fn what_to_do() -> String {
    format!(
        "put the directory {PLACE} back from a backup of the data directory, or remove it: then the hub makes another \
         authority, and every VMA has to forget this hub (`vma --forget-hub`) and to be registered again"
    )
}

#[cfg(test)]
mod tests;
