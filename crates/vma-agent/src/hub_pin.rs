//! The hub that this VMA belongs to: known by its certificate, kept for good, and the only one that disks are sent to.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use hub_nbd::{ClientSecurity, ClientTls, TlsError, fingerprint};
use hub_vma_api::{Fault, NbdTarget};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// The name of the certificate's file in the state directory.
const FILE: &str = "hub-ca.pem";

/// The longest certificate that is kept, in bytes; that of a hub has some 700.
const MAX_PEM: usize = 64 * 1024;

/// Whether disks may go over the network in the clear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlainNbd {
    /// Only to a hub on this machine.
    #[default]
    Loopback,
    /// To wherever the hub says.
    Everywhere,
    /// Nowhere.
    Never,
}

/// The hub that this VMA belongs to.
///
/// The first hub that makes itself known, and proves that it knows the token, is kept until somebody on this VMA's
/// machine forgets it ([`forget`]): a token that was read on the wire sends no disk to anybody else.
#[derive(Debug, Default)]
pub struct HubPin {
    /// Where it is kept; nothing for a pin that lives as long as the process.
    path: Option<PathBuf>,
    plain: PlainNbd,
    pinned: Mutex<Option<Pinned>>,
}

#[derive(Clone, Debug)]
struct Pinned {
    pem: String,
    fingerprint: String,
}

/// Why a hub is not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PinError {
    /// What it shows is no certificate.
    #[error("the hub's certificate cannot be used: {0}")]
    Certificate(#[source] TlsError),
    /// The VMA belongs to another one.
    #[error(
        "this VMA belongs to the hub whose certificate has the SHA-256 {pinned}; if that hub is gone for good, stop \
         the VMA, run it once with --forget-hub, start it and register it again"
    )]
    OtherHub {
        /// Digest of the certificate that is kept.
        pinned: String,
    },
    /// The certificate could not be kept, or one that was kept could not be read.
    #[error("the hub's certificate in {path} cannot be read or written")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl HubPin {
    /// Reads the hub that was pinned earlier, if there is one.
    pub fn open(state_dir: &Path, plain: PlainNbd) -> Result<Self, PinError> {
        let path = state_dir.join(FILE);
        let pinned = match fs::read_to_string(&path) {
            Ok(pem) => Some(Pinned::new(&pem)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(at(&path)(source)),
        };
        Ok(Self { path: Some(path), plain, pinned: Mutex::new(pinned) })
    }

    /// Keeps a hub's certificate, durably, and answers its SHA-256; the same one again changes nothing.
    ///
    /// The caller has made sure that whoever shows it knows the token.
    pub fn pin(&self, pem: &str) -> Result<String, PinError> {
        let new = Pinned::new(pem)?;
        let mut pinned = self.pinned.lock();
        if let Some(known) = &*pinned {
            if known.fingerprint == new.fingerprint {
                return Ok(new.fingerprint);
            }
            return Err(PinError::OtherHub { pinned: known.fingerprint.clone() });
        }
        if let Some(path) = &self.path {
            keep(path, &new.pem).map_err(at(path))?;
        }
        tracing::info!(authority = new.fingerprint, "this VMA belongs to a hub from now on");
        let fingerprint = new.fingerprint.clone();
        *pinned = Some(new);
        Ok(fingerprint)
    }

    /// What the way to a target must be like; a fault says why there is none.
    pub(crate) fn security(&self, target: &NbdTarget) -> Result<ClientSecurity, Fault> {
        let Some(tls) = &target.tls else { return self.in_the_clear(target) };
        let Some(pinned) = self.pinned.lock().clone() else {
            let detail = "this VMA does not know the hub's certificate; test the VMA on the hub, which makes the hub known, then run the job again";
            return Err(fault("target/hub-unknown", detail));
        };
        if !pinned.fingerprint.eq_ignore_ascii_case(&tls.authority) {
            let detail = format!(
                "the order is for a hub that this VMA does not belong to: {}",
                PinError::OtherHub { pinned: pinned.fingerprint }
            );
            return Err(fault("target/other-hub", detail));
        }
        let tls = ClientTls::new(&pinned.pem, &tls.server_name).map_err(|error| {
            fault("target/untrusted", format!("the hub's order cannot be followed: {error}"))
        })?;
        Ok(ClientSecurity::Tls(tls))
    }

    fn in_the_clear(&self, target: &NbdTarget) -> Result<ClientSecurity, Fault> {
        let far = target.host.parse().is_ok_and(|it: IpAddr| !it.to_canonical().is_loopback());
        match self.plain {
            PlainNbd::Everywhere => Ok(ClientSecurity::Plain),
            PlainNbd::Loopback if !far => Ok(ClientSecurity::PlainOnLoopback),
            PlainNbd::Loopback | PlainNbd::Never => Err(plain_refused()),
        }
    }
}

/// Forgets the hub, on the word of somebody on this machine; whether there was one.
pub fn forget(state_dir: &Path) -> Result<bool, PinError> {
    let path = state_dir.join(FILE);
    match fs::remove_file(&path) {
        Ok(()) => (),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(at(&path)(source)),
    }
    let synced = File::open(state_dir).and_then(|it| it.sync_all());
    synced.map(|()| true).map_err(at(&path))
}

impl Pinned {
    fn new(pem: &str) -> Result<Self, PinError> {
        if pem.len() > MAX_PEM {
            let words = format!("it has more than {MAX_PEM} bytes");
            return Err(PinError::Certificate(TlsError::Certificate(words)));
        }
        // Used once for a try, so that what cannot be used is not kept.
        ClientTls::new(pem, "hub.internal").map_err(PinError::Certificate)?;
        let fingerprint = fingerprint(pem).map_err(PinError::Certificate)?;
        Ok(Self { pem: pem.to_owned(), fingerprint })
    }
}

/// The order would have the disk go over the network in the clear.
pub(crate) fn plain_refused() -> Fault {
    let detail = "the hub wants the disk in the clear over the network, which this VMA does not do; set nbd.plain of the hub to `loopback`, or, on a network that is trusted, nbd.plain of the VMA to `everywhere`";
    fault("target/plain-refused", detail)
}

fn fault(code: &str, detail: impl Into<String>) -> Fault {
    Fault { code: code.to_owned(), detail: detail.into() }
}

fn at(path: &Path) -> impl Fn(io::Error) -> PinError {
    move |source| PinError::File { path: path.display().to_string(), source }
}

/// Writes it whole under another name first, so that a crash leaves all of it or nothing.
fn keep(path: &Path, pem: &str) -> io::Result<()> {
    let partial = path.with_extension("partial");
    match fs::remove_file(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => (),
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
    file.write_all(pem.as_bytes())?;
    file.sync_all()?;
    fs::rename(&partial, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use hub_vma_api::NbdTls;

    use super::*;

    fn authority(name: &str) -> String {
        rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap().cert.pem()
    }

    fn target(host: &str, authority: Option<&str>) -> NbdTarget {
        let tls = authority.map(|pem| NbdTls {
            server_name: "hub.internal".to_owned(),
            authority: fingerprint(pem).unwrap(),
        });
        NbdTarget { host: host.to_owned(), port: 10809, export: "secret".to_owned(), tls }
    }

    fn code(pin: &HubPin, target: &NbdTarget) -> String {
        pin.security(target).unwrap_err().code
    }

    #[test]
    fn the_first_hub_is_kept_and_no_other_until_it_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (authority("one"), authority("two"));
        let open = || HubPin::open(folder.path(), PlainNbd::Loopback).unwrap();
        let pin = open();
        assert_eq!(code(&pin, &target("hub", Some(&one))), "target/hub-unknown");
        assert!(matches!(pin.pin("no certificate"), Err(PinError::Certificate(_))));
        assert!(matches!(pin.pin(&one.repeat(200)), Err(PinError::Certificate(_))));
        let kept = pin.pin(&one).unwrap();
        assert_eq!(pin.pin(&one).unwrap(), kept);
        for pin in [pin, open()] {
            let refused = pin.pin(&two).unwrap_err();
            assert!(matches!(&refused, PinError::OtherHub { pinned } if *pinned == kept));
            assert!(refused.to_string().contains("--forget-hub"), "{refused}");
            let security = pin.security(&target("hub", Some(&one))).unwrap();
            assert!(matches!(security, ClientSecurity::Tls(_)));
            assert_eq!(code(&pin, &target("hub", Some(&two))), "target/other-hub");
        }
        assert!(forget(folder.path()).unwrap());
        assert!(!forget(folder.path()).unwrap());
        open().pin(&two).unwrap();
    }

    /// A digest is of one certificate: with two of them, the digest of the hub would stand for somebody else, too.
    #[test]
    fn nobody_is_kept_in_the_shadow_of_the_hub() {
        let (hub, stranger) = (authority("hub"), authority("stranger"));
        let pin = HubPin::default();
        for both in [format!("{hub}{stranger}"), format!("{hub}{hub}")] {
            assert!(matches!(pin.pin(&both), Err(PinError::Certificate(_))));
        }
        pin.pin(&hub).unwrap();
        assert_eq!(*pin.pinned.lock().as_ref().unwrap().pem, *hub);
    }

    #[test]
    fn a_broken_pin_is_not_taken_for_none() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), "torn").unwrap();
        let refused = HubPin::open(folder.path(), PlainNbd::Loopback);
        assert!(matches!(refused, Err(PinError::Certificate(_))));
    }

    #[test]
    fn in_the_clear_goes_what_the_setting_allows() {
        let pin = |plain| HubPin { plain, ..HubPin::default() };
        let security = |plain, host| pin(plain).security(&target(host, None));
        for host in ["127.0.0.1", "::1", "localhost", "hub.example"] {
            let careful = security(PlainNbd::Loopback, host).unwrap();
            assert_eq!(careful, ClientSecurity::PlainOnLoopback, "{host}");
        }
        for host in ["10.0.0.1", "fd00::1"] {
            let refused = security(PlainNbd::Loopback, host).unwrap_err();
            assert_eq!(refused.code, "target/plain-refused");
            assert_eq!(security(PlainNbd::Everywhere, host), Ok(ClientSecurity::Plain));
        }
        assert!(security(PlainNbd::Never, "127.0.0.1").is_err());
    }
}
