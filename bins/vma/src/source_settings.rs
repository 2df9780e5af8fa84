//! What the VMA reads: datastore folders, or a vCenter or ESXi host.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hub_vma_agent::vsphere::{VddkOptions, VsphereOptions};
use hub_vsphere::{ClientOptions, Endpoint, Login, Trust};
use serde::{Deserialize, Serialize};

/// The longest password or certificate file, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// A session ends after half an hour without calls.
const KEEP_ALIVE: Duration = Duration::from_secs(10 * 60);

/// A hub waits a minute for the test of a login.
const TEST_WITHIN: Duration = Duration::from_secs(45);

/// The kinds of sources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SourceKind {
    /// Directories laid out like datastores.
    #[default]
    Folder,
    /// A vCenter or a standalone ESXi host.
    Vsphere,
}

/// What it reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SourceSettings {
    pub(crate) kind: SourceKind,
    /// Of a folder source.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) datastores: Vec<PathBuf>,
    /// Of a vSphere source: its address, and how it proves who it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) thumbprint: Option<String>,
    /// An account for requests that bring none; the password is in a file and never here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) password_file: Option<PathBuf>,
    /// Whether change tracking is switched on where it is off.
    pub(crate) enable_change_tracking: bool,
    /// Whether guests are brought to rest for a snapshot.
    pub(crate) quiesce: bool,
    /// Reads of datastore files at a time, over all jobs.
    pub(crate) reads_at_once: usize,
    /// Disks that are read from one host at a time, over all jobs.
    pub(crate) readers_per_host: usize,
    /// Snapshots that are removed at one host at a time.
    pub(crate) removals_per_host: usize,
    /// For all answers about the changes of one disk, before it is read as a whole.
    pub(crate) changed_areas_seconds: u64,
    /// Reads disks through VDDK; over HTTPS where this is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) vddk: Option<VddkSettings>,
}

/// VMware's library, which whoever runs the VMA has unpacked beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VddkSettings {
    /// The directory that holds `lib64`.
    libdir: PathBuf,
    /// SHA-1 of the server's certificate.
    thumbprint: String,
    /// The plugin's file, where nbdkit does not find it by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    plugin: Option<PathBuf>,
    /// Ways to the data in the order of preference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    transports: Option<String>,
    /// Of the data on the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    compression: Option<String>,
}

impl VddkSettings {
    fn check(&self) -> Result<()> {
        ensure!(self.libdir.is_absolute(), "source.vddk.libdir is an absolute path");
        let pairs: Vec<_> = self.thumbprint.split(':').collect();
        let pair = |it: &&str| it.len() == 2 && it.bytes().all(|it| it.is_ascii_hexdigit());
        ensure!(
            pairs.len() == 20 && pairs.iter().all(pair),
            "source.vddk.thumbprint is the SHA-1 of the certificate: 20 pairs of digits with colons"
        );
        let modes = ["file", "san", "hotadd", "nbdssl", "nbd"];
        let known = |it: &str| it.split(':').all(|mode| modes.contains(&mode));
        let transports = self.transports.as_deref();
        ensure!(
            transports.is_none_or(known),
            "source.vddk.transports names ways with colons between them: {}",
            modes.join(", ")
        );
        let ways = ["none", "zlib", "fastlz", "skipz"];
        let compression = self.compression.as_deref();
        ensure!(
            compression.is_none_or(|it| ways.contains(&it)),
            "source.vddk.compression is one of {}",
            ways.join(", ")
        );
        Ok(())
    }

    fn options(&self) -> VddkOptions {
        VddkOptions {
            plugin: self.plugin.clone(),
            transports: self.transports.clone(),
            compression: self.compression.clone(),
            ..VddkOptions::new(self.libdir.clone(), self.thumbprint.clone())
        }
    }
}

impl Default for SourceSettings {
    fn default() -> Self {
        Self {
            kind: SourceKind::Folder,
            datastores: Vec::new(),
            endpoint: None,
            ca_file: None,
            thumbprint: None,
            username: None,
            password_file: None,
            enable_change_tracking: true,
            quiesce: true,
            reads_at_once: 8,
            readers_per_host: 6,
            removals_per_host: 4,
            changed_areas_seconds: 600,
            vddk: None,
        }
    }
}

impl SourceSettings {
    /// Whether the settings belong together; no file is read for it.
    pub(crate) fn check(&self) -> Result<()> {
        match self.kind {
            SourceKind::Folder => {
                ensure!(
                    !self.datastores.is_empty(),
                    "no datastore is configured; give --datastore or source.datastores"
                );
                ensure!(self.vddk.is_none(), "source.vddk is for source.kind = \"vsphere\"");
                let foreign = self.endpoint.is_some() || self.username.is_some();
                ensure!(!foreign, "source.endpoint is for source.kind = \"vsphere\"");
            }
            SourceKind::Vsphere => {
                ensure!(self.datastores.is_empty(), "a vSphere source has no source.datastores");
                self.endpoint()?;
                let both = self.ca_file.is_some() && self.thumbprint.is_some();
                ensure!(!both, "give source.ca_file or source.thumbprint, not both");
                let half = self.username.is_some() != self.password_file.is_some();
                ensure!(!half, "source.username and source.password_file go together");
                if let Some(thumbprint) = &self.thumbprint {
                    Trust::thumbprint(thumbprint).context("source.thumbprint")?;
                }
                self.vddk.as_ref().map_or(Ok(()), VddkSettings::check)?;
            }
        }
        ensure!((1..=64).contains(&self.reads_at_once), "source.reads_at_once is 1 to 64");
        ensure!((1..=64).contains(&self.readers_per_host), "source.readers_per_host is 1 to 64");
        ensure!((1..=64).contains(&self.removals_per_host), "source.removals_per_host is 1 to 64");
        ensure!(
            (1..=86_400).contains(&self.changed_areas_seconds),
            "source.changed_areas_seconds is 1 to 86400"
        );
        Ok(())
    }

    /// The options of a vSphere source.
    pub(crate) fn vsphere(&self, state_dir: &Path) -> Result<VsphereOptions> {
        let login = match (&self.username, &self.password_file) {
            (Some(username), Some(file)) => {
                let password = read(file)?;
                let password = password.strip_suffix('\n').unwrap_or(&password).to_owned().into();
                Some(Login { username: username.clone(), password })
            }
            _ => None,
        };
        Ok(VsphereOptions {
            endpoint: self.endpoint()?,
            trust: self.trust()?,
            login,
            state_dir: state_dir.to_owned(),
            enable_change_tracking: self.enable_change_tracking,
            quiesce: self.quiesce,
            reads_at_once: self.reads_at_once,
            readers_per_host: self.readers_per_host,
            removals_per_host: self.removals_per_host,
            test_within: TEST_WITHIN,
            keep_alive: KEEP_ALIVE,
            vddk: self.vddk.as_ref().map(VddkSettings::options),
            client: ClientOptions {
                areas: Duration::from_secs(self.changed_areas_seconds),
                ..ClientOptions::default()
            },
        })
    }

    fn endpoint(&self) -> Result<Endpoint> {
        let text = self.endpoint.as_deref();
        let text =
            text.context("no source.endpoint is configured; it is the vCenter or the host")?;
        Endpoint::parse(text).context("source.endpoint")
    }

    fn trust(&self) -> Result<Trust> {
        if let Some(thumbprint) = &self.thumbprint {
            return Trust::thumbprint(thumbprint).context("source.thumbprint");
        }
        match &self.ca_file {
            Some(file) => Trust::authority(read(file)?)
                .with_context(|| format!("source.ca_file {}", file.display())),
            None => Ok(Trust::System),
        }
    }
}

fn read(file: &Path) -> Result<String> {
    let named = || format!("{} cannot be read", file.display());
    let length = std::fs::metadata(file).with_context(named)?.len();
    ensure!(length <= MAX_FILE, "{} is too long", file.display());
    std::fs::read_to_string(file).with_context(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Result<SourceSettings> {
        let settings: SourceSettings = toml::from_str(text)?;
        settings.check()?;
        Ok(settings)
    }

    #[test]
    fn each_kind_wants_its_own_settings() {
        assert!(settings("datastores = [\"/a\"]").is_ok());
        let vsphere = "kind = \"vsphere\"\n";
        assert!(settings(&format!("{vsphere}endpoint = \"vc.example.com\"")).is_ok());
        for bad in [
            "",
            "kind = \"tape\"",
            "kind = \"vsphere\"",
            "datastores = [\"/a\"]\nendpoint = \"vc\"",
            "kind = \"vsphere\"\nendpoint = \"http://vc\"",
            "kind = \"vsphere\"\nendpoint = \"https://u:p@vc\"",
            "kind = \"vsphere\"\nendpoint = \"vc\"\ndatastores = [\"/a\"]",
            "kind = \"vsphere\"\nendpoint = \"vc\"\nthumbprint = \"00\"",
            "kind = \"vsphere\"\nendpoint = \"vc\"\nusername = \"u\"",
            "kind = \"vsphere\"\nendpoint = \"vc\"\npassword = \"p\"",
            "kind = \"vsphere\"\nendpoint = \"vc\"\nreads_at_once = 0",
            "kind = \"vsphere\"\nendpoint = \"vc\"\nreaders_per_host = 0",
            "kind = \"vsphere\"\nendpoint = \"vc\"\nremovals_per_host = 0",
            "kind = \"vsphere\"\nendpoint = \"vc\"\nchanged_areas_seconds = 0",
        ] {
            assert!(settings(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn vddk_is_set_up_whole_or_not_at_all() {
        let vddk = |changed: &str| {
            let print = vec!["aB"; 20].join(":");
            let whole = format!("libdir = \"/opt/vddk\"\nthumbprint = \"{print}\"\n{changed}");
            format!("kind = \"vsphere\"\nendpoint = \"vc\"\n[vddk]\n{whole}")
        };
        let good = settings(&vddk("transports = \"nbdssl:nbd\"\ncompression = \"fastlz\""));
        let options = good.unwrap().vsphere(Path::new("/state")).unwrap().vddk.unwrap();
        assert_eq!(options.transports.as_deref(), Some("nbdssl:nbd"));
        for bad in ["transports = \"nbd,san\"", "compression = \"zip\"", "password = \"x\""] {
            assert!(settings(&vddk(bad)).is_err(), "{bad}");
        }
        let relative = vddk("").replace("/opt", "opt");
        let sha256 = vddk("").replace("aB:aB\"", &format!("{}\"", vec!["aB"; 14].join(":")));
        for bad in [relative, sha256, vddk("").replace("\"vsphere\"", "\"folder\"")] {
            assert!(settings(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_password_is_read_from_its_file_and_shown_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "hunter2 \n").unwrap();
        let text = format!(
            "kind = \"vsphere\"\nendpoint = \"vc\"\nusername = \"u\"\npassword_file = {file:?}\nthumbprint = {:?}",
            "ab".repeat(32)
        );
        let settings = settings(&text).unwrap();
        let options = settings.vsphere(folder.path()).unwrap();
        let login = options.login.clone().unwrap();
        assert_eq!(secrecy::ExposeSecret::expose_secret(&login.password), "hunter2 ");
        assert_eq!(options.trust, Trust::Thumbprint([0xab; 32]));
        let shown = format!("{options:?} {}", toml::to_string(&settings).unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
        std::fs::remove_file(&file).unwrap();
        assert!(settings.vsphere(folder.path()).is_err());
    }

    #[test]
    fn an_authority_that_cannot_be_used_is_refused_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        let settings =
            settings(&format!("kind = \"vsphere\"\nendpoint = \"vc\"\nca_file = {file:?}"))
                .unwrap();
        for bad in ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
        {
            std::fs::write(&file, bad).unwrap();
            let refused = settings.vsphere(folder.path()).map(drop).unwrap_err();
            let said = format!("{refused:#}");
            assert!(said.contains("source.ca_file") && said.contains("no certificate"), "{said}");
        }
    }
}
