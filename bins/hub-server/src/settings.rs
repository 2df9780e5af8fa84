//! Settings: file, then environment, then flags; each later one wins.

mod jobs;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use config::{Config, Environment, File, FileFormat};
use hub_nbd::{ServerSecurity, ServerTls};
use serde::{Deserialize, Serialize};
use url::Url;

pub(crate) use jobs::{BackupSettings, CopySettings, JobSettings};

/// The hub of Sendense Hub: protects VMware virtual machines from Linux.
///
/// It keeps VMs and their disks in a catalogue, orders copies from VMAs, stores them as plain qcow2 chains, restores
/// them and proves that they can be restored. Everything is done through its REST API.
///
/// Settings come from the file named by --config, then from the environment (HUB__SECTION__KEY, for example
/// HUB__SERVER__LISTEN), then from flags. --check-config shows what holds. copies.max (4) is the number of VMs that are
/// copied at a time; limits of single VMAs and repositories are set through the API.
///
/// On stdout there are the lines `API listening on http://ADDRESS:PORT`, `NBD listening on ADDRESS:PORT` and
/// `NBD authority (SHA-256): …`, and at the first start `API token (shown once): …`; the log goes to stderr. SIGTERM
/// ends it in order.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Flags {
    /// Settings file (TOML).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the hub keeps everything; /var/lib/sendense-hub for root, ./hub-data for everybody else.
    #[arg(long, value_name = "DIRECTORY")]
    data_dir: Option<PathBuf>,
    /// Address and port of the API; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Address and port of the NBD exports, which VMAs write to; port 0 takes a free one.
    ///
    /// Beyond this machine it speaks TLS only, unless nbd.plain says otherwise; the certificate to check it against is
    /// at /api/v1/certificates/nbd-ca.pem, and its SHA-256 is on stdout.
    #[arg(long, value_name = "ADDRESS:PORT")]
    nbd_listen: Option<SocketAddr>,
    /// The catalogue's database (sqlite:, mariadb:, mysql: or postgres:); a SQLite file in the data directory unless given.
    ///
    /// A password in a flag can be seen by every user of the machine: better put it into HUB__DATABASE__URL.
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// Also write the first API token to this file, readable by its owner only.
    #[arg(long, value_name = "FILE")]
    pub(crate) initial_token_file: Option<PathBuf>,
    /// Make another API token with this name, print it, and exit; for a token that was lost.
    ///
    /// The hub may be running. Run it with the same settings and as the same user.
    #[arg(long, value_name = "NAME")]
    pub(crate) new_token: Option<String>,
    /// With --new-token: from now on no other token is valid; for a token that others may have seen.
    ///
    /// A running hub goes on accepting one that was used a moment ago, for 15 seconds at most.
    #[arg(long, requires = "new_token")]
    pub(crate) revoke_others: bool,
    /// Print the effective settings, without secrets, and exit.
    #[arg(long)]
    pub(crate) check_config: bool,
    /// Print the OpenAPI document of the API, and exit.
    #[arg(long)]
    pub(crate) openapi: bool,
    #[cfg(debug_assertions)]
    #[command(flatten)]
    pub(crate) failpoints: crate::failpoints::Failpoints,
}

/// All settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    pub(crate) server: ServerSettings,
    pub(crate) database: DatabaseSettings,
    pub(crate) nbd: NbdSettings,
    pub(crate) storage: StorageSettings,
    pub(crate) copies: CopySettings,
    pub(crate) backup: BackupSettings,
    pub(crate) jobs: JobSettings,
    pub(crate) log: LogSettings,
}

/// Where it lives and answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ServerSettings {
    pub(crate) data_dir: PathBuf,
    pub(crate) listen: SocketAddr,
}

impl Default for ServerSettings {
    fn default() -> Self {
        let is_root = rustix::process::geteuid().is_root();
        let data_dir = if is_root { "/var/lib/sendense-hub" } else { "hub-data" };
        Self { data_dir: data_dir.into(), listen: SocketAddr::from(([127, 0, 0, 1], 8080)) }
    }
}

/// Where the catalogue is.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct DatabaseSettings {
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    pub(crate) connections: u32,
}

impl Default for DatabaseSettings {
    fn default() -> Self {
        Self { url: None, connections: 16 }
    }
}

impl std::fmt::Debug for DatabaseSettings {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let url = self.url.as_deref().map(without_password);
        out.debug_struct("DatabaseSettings")
            .field("url", &url)
            .field("connections", &self.connections)
            .finish()
    }
}

/// Where VMAs write to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct NbdSettings {
    pub(crate) listen: SocketAddr,
    /// How VMAs reach it; the listening address unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    advertise_host: Option<String>,
    /// The port that VMAs are told, where something stands before the hub; the listening port unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) advertise_port: Option<u16>,
    /// Where it is spoken in the clear.
    pub(crate) plain: PlainNbd,
}

/// Where NBD is spoken in the clear; everywhere else it is spoken over TLS only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PlainNbd {
    /// On this machine.
    #[default]
    Loopback,
    /// With whoever does not ask for TLS.
    Everywhere,
    /// Nowhere.
    Never,
}

impl Default for NbdSettings {
    fn default() -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 10809));
        Self { listen, advertise_host: None, advertise_port: None, plain: PlainNbd::default() }
    }
}

impl NbdSettings {
    /// The host that VMAs are told.
    pub(crate) fn advertised(&self) -> String {
        self.advertise_host.clone().unwrap_or_else(|| self.listen.ip().to_string())
    }

    /// The names and addresses that its certificate has to prove.
    pub(crate) fn hosts(&self) -> Vec<String> {
        let own = (!self.listen.ip().is_unspecified()).then(|| self.listen.ip().to_string());
        std::iter::once(self.advertised()).chain(own).collect()
    }

    /// Which connections are encrypted.
    pub(crate) fn security(&self, tls: &ServerTls) -> ServerSecurity {
        match self.plain {
            PlainNbd::Loopback => ServerSecurity::BeyondLoopback(tls.clone()),
            PlainNbd::Everywhere => ServerSecurity::Offered(tls.clone()),
            PlainNbd::Never => ServerSecurity::Required(tls.clone()),
        }
    }

    /// Whether VMAs and readers are told to come over TLS.
    pub(crate) fn orders_tls(&self) -> bool {
        match self.plain {
            PlainNbd::Loopback => !is_near(&self.advertised()),
            PlainNbd::Everywhere => false,
            PlainNbd::Never => true,
        }
    }
}

/// Where images lie; below the data directory unless set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct StorageSettings {
    #[serde(skip_serializing_if = "Option::is_none")]
    repository_dir: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replica_dir: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    restore_dir: Option<PathBuf>,
}

/// What it writes to its log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogSettings {
    pub(crate) filter: String,
    pub(crate) format: LogFormat,
}

impl Default for LogSettings {
    fn default() -> Self {
        // The TLS library warns of every client that names an address where a host name belongs, which qemu does.
        let filter = "info,actix_server=warn,rustls=error,sea_orm_migration=warn".to_owned();
        Self { filter, format: LogFormat::Text }
    }
}

/// The shape of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Text,
    Json,
}

impl Settings {
    /// Reads all sources of settings and checks the result.
    pub(crate) fn load(flags: &Flags) -> Result<Self> {
        Self::from_sources(flags, environment())
    }

    fn from_sources(flags: &Flags, environment: Environment) -> Result<Self> {
        let mut sources = Config::builder();
        if let Some(path) = &flags.config {
            sources = sources.add_source(File::from(path.as_path()).format(FileFormat::Toml));
        }
        let read =
            sources.add_source(environment).build().context("the settings cannot be read")?;
        let mut settings: Self =
            read.try_deserialize().context("the settings cannot be understood")?;
        settings.apply(flags);
        settings.check()?;
        let data_dir = &mut settings.server.data_dir;
        *data_dir = std::path::absolute(&*data_dir)?;
        Ok(settings)
    }

    fn apply(&mut self, flags: &Flags) {
        if let Some(data_dir) = &flags.data_dir {
            self.server.data_dir.clone_from(data_dir);
        }
        if let Some(listen) = flags.listen {
            self.server.listen = listen;
        }
        if let Some(listen) = flags.nbd_listen {
            self.nbd.listen = listen;
        }
        if flags.database_url.is_some() {
            self.database.url.clone_from(&flags.database_url);
        }
    }

    fn check(&self) -> Result<()> {
        self.copies.max()?;
        self.backup.audit_runs()?;
        ensure!(self.jobs.concurrent > 0, "jobs.concurrent is at least 1");
        ensure!(self.database.connections > 1, "database.connections is at least 2");
        ensure!(
            self.nbd.advertise_host.is_some() || !self.nbd.listen.ip().is_unspecified(),
            "nbd.listen is {}, which no VMA can be told; set nbd.advertise_host",
            self.nbd.listen
        );
        let known = ["sqlite:", "mariadb:", "mysql:", "postgres:", "postgresql:"];
        let url = self.database.url.as_deref();
        ensure!(
            url.is_none_or(|url| known.iter().any(|scheme| url.starts_with(scheme))),
            "database.url begins with sqlite:, mariadb:, mysql: or postgres:"
        );
        ensure!(
            url.is_none_or(names_a_place),
            "database.url is not a URL such as mysql://user:password@host/database; \
             in a password write # / ? @ : % as %23 %2F %3F %40 %3A %25"
        );
        for path in
            [&self.storage.repository_dir, &self.storage.replica_dir, &self.storage.restore_dir]
        {
            let absolute = path.as_ref().is_none_or(|it| it.is_absolute());
            ensure!(absolute, "the directories of [storage] are absolute paths");
        }
        Ok(())
    }

    /// The catalogue's database.
    pub(crate) fn database_url(&self) -> Result<String> {
        if let Some(url) = &self.database.url {
            return Ok(url.clone());
        }
        let path = self.server.data_dir.join("catalogue.sqlite");
        let path = path.to_str().context("the data directory's path is not text in UTF-8")?;
        // The driver reads the path as a part of a URL.
        Ok(format!("sqlite://{}", path.replace('%', "%25").replace('?', "%3F")))
    }

    /// Where the repository "default" lies.
    pub(crate) fn repository_dir(&self) -> PathBuf {
        self.below(&self.storage.repository_dir, "repository")
    }

    /// Where replicas lie.
    pub(crate) fn replica_dir(&self) -> PathBuf {
        self.below(&self.storage.replica_dir, "replicas")
    }

    /// Where restored files lie.
    pub(crate) fn restore_dir(&self) -> PathBuf {
        self.below(&self.storage.restore_dir, "restores")
    }

    fn below(&self, set: &Option<PathBuf>, name: &str) -> PathBuf {
        set.clone().unwrap_or_else(|| self.server.data_dir.join(name))
    }

    /// The effective settings, with every default in place and no password.
    pub(crate) fn redacted(&self) -> Result<String> {
        let mut shown = self.clone();
        shown.database.url = Some(without_password(&self.database_url()?));
        shown.nbd.advertise_host = Some(self.nbd.advertised());
        shown.storage = StorageSettings {
            repository_dir: Some(self.repository_dir()),
            replica_dir: Some(self.replica_dir()),
            restore_dir: Some(self.restore_dir()),
        };
        Ok(toml::to_string_pretty(&shown)?)
    }
}

fn environment() -> Environment {
    Environment::with_prefix("HUB").prefix_separator("__").separator("__").try_parsing(true)
}

/// Whether a host is this machine by its very name; what only turns out to be so is spoken to over TLS.
fn is_near(host: &str) -> bool {
    let address = host.parse().map(|it: IpAddr| it.to_canonical().is_loopback());
    address.unwrap_or_else(|_| host.eq_ignore_ascii_case("localhost"))
}

/// Whether the driver can read a URL; it would repeat one that it cannot, with the password, where everybody sees it.
fn names_a_place(url: &str) -> bool {
    let read = |url| Url::parse(url).is_ok_and(|url| !url.cannot_be_a_base());
    url.starts_with("sqlite:") || (url.contains("://") && read(url))
}

/// A URL for the eyes: the password goes, wherever the user put it.
fn without_password(url: &str) -> String {
    let (before, query) = url.split_once('?').map_or((url, ""), |(before, query)| (before, query));
    let shown = match before.split_once("://").and_then(|(scheme, rest)| {
        let (login, place) = rest.rsplit_once('@')?;
        let user = login.split(':').next().unwrap_or_default();
        Some(format!("{scheme}://{user}:***@{place}"))
    }) {
        Some(shown) => shown,
        None => before.to_owned(),
    };
    if query.is_empty() { shown } else { format!("{shown}?***") }
}

#[cfg(test)]
mod tests;
