//! Settings: file, then environment, then flags; each later one wins.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use config::{Config, Environment, File, FileFormat};
use hub_vma_agent::PlainNbd;
use serde::{Deserialize, Serialize};

use crate::source_settings::SourceSettings;

/// The node agent of Sendense Hub: lists VMs beside the hypervisor, opens their disks, and moves the bytes to the hub.
///
/// Settings come from the file named by --config, then from the environment (VMA__SECTION__KEY, for example
/// VMA__HTTP__LISTEN), then from flags. limits.max_bytes_per_second is what all copies together may send, whatever the
/// hub allows.
///
/// The hub shows a token with every call. It is read from --token-file, or else from `token` in the state
/// directory. When neither exists, a new one is made there, readable by the owner only, and printed once to stdout
/// as `VMA token: …`; give it to the hub when you register this VMA.
///
/// On stdout there is also the line `listening on http://ADDRESS:PORT`; the log goes to stderr.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Flags {
    /// Settings file (TOML).
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print the effective settings, without secrets, and exit.
    #[arg(long)]
    pub(crate) check_config: bool,
    /// Forget the hub that this VMA belongs to, so that another one can register it, and exit.
    #[arg(long)]
    pub(crate) forget_hub: bool,
    /// Address and port to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// A datastore: a directory whose subdirectories hold VMs; may be given several times.
    #[arg(long, value_name = "DIRECTORY")]
    datastore: Vec<PathBuf>,
    /// The name of this VMA and of its source.
    #[arg(long)]
    name: Option<String>,
    /// Where the token lies.
    #[arg(long, value_name = "DIRECTORY")]
    state_dir: Option<PathBuf>,
    /// A file that holds the token, in place of the one in the state directory.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    #[cfg(debug_assertions)]
    #[command(flatten)]
    pub(crate) failpoints: crate::failpoints::Failpoints,
}

/// All settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    pub(crate) agent: AgentSettings,
    pub(crate) http: HttpSettings,
    pub(crate) nbd: NbdSettings,
    pub(crate) auth: AuthSettings,
    pub(crate) source: SourceSettings,
    pub(crate) jobs: JobSettings,
    pub(crate) limits: LimitSettings,
    pub(crate) log: LogSettings,
}

/// Who this VMA is and where it keeps things.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AgentSettings {
    pub(crate) name: String,
    pub(crate) state_dir: PathBuf,
    /// Digest tables; the system's temporary directory unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) run_dir: Option<PathBuf>,
}

impl Default for AgentSettings {
    fn default() -> Self {
        let state_dir = PathBuf::from("/var/lib/sendense-vma");
        Self { name: "vma".to_owned(), state_dir, run_dir: None }
    }
}

/// Where it listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct HttpSettings {
    pub(crate) listen: SocketAddr,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 8081)) }
    }
}

/// How disks travel to the hub.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct NbdSettings {
    /// Where they may travel in the clear: `loopback`, `everywhere` or `never`.
    pub(crate) plain: PlainNbd,
}

/// What the hub has to show; the token itself is never in the settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AuthSettings {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token_file: Option<PathBuf>,
}

/// How much it does at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct JobSettings {
    pub(crate) disks_at_once: usize,
    pub(crate) max_running: usize,
    /// How long a hub that was lost in the middle of a copy is dialled again.
    pub(crate) redial_seconds: u64,
}

impl Default for JobSettings {
    fn default() -> Self {
        Self { disks_at_once: 2, max_running: 64, redial_seconds: 60 }
    }
}

/// What it allows at most, whatever the hub says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LimitSettings {
    /// What all copies together may send.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_bytes_per_second: Option<NonZeroU64>,
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
        Self { filter: "info".to_owned(), format: LogFormat::Text }
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
        let environment = Environment::with_prefix("VMA").prefix_separator("__").separator("__");
        let environment = environment.try_parsing(true).list_separator(",");
        Self::from_sources(flags, environment.with_list_parse_key("source.datastores"))
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
        Ok(settings)
    }

    fn apply(&mut self, flags: &Flags) {
        if let Some(listen) = flags.listen {
            self.http.listen = listen;
        }
        if !flags.datastore.is_empty() {
            self.source.datastores.clone_from(&flags.datastore);
        }
        if let Some(name) = &flags.name {
            self.agent.name.clone_from(name);
        }
        if let Some(state_dir) = &flags.state_dir {
            self.agent.state_dir.clone_from(state_dir);
        }
        if flags.token_file.is_some() {
            self.auth.token_file.clone_from(&flags.token_file);
        }
    }

    fn check(&self) -> Result<()> {
        let name = &self.agent.name;
        let plain = (1..=128).contains(&name.len()) && !name.contains(char::is_control);
        ensure!(plain, "agent.name has 1 to 128 bytes and no control characters");
        self.source.check()?;
        ensure!(self.jobs.disks_at_once > 0, "jobs.disks_at_once is at least 1");
        ensure!(self.jobs.max_running > 0, "jobs.max_running is at least 1");
        let rate = self.limits.max_bytes_per_second.map(NonZeroU64::get);
        ensure!(
            rate.is_none_or(|rate| rate >= 64 * 1024),
            "limits.max_bytes_per_second is at least 65536"
        );
        ensure!(self.jobs.redial_seconds <= 3600, "jobs.redial_seconds is at most 3600");
        Ok(())
    }

    /// The effective settings; there is no secret among them.
    pub(crate) fn redacted(&self) -> Result<String> {
        Ok(toml::to_string_pretty(self)?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn load(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Settings> {
        let flags = Flags::try_parse_from([&["vma"], arguments].concat())?;
        let variables: HashMap<String, String> =
            environment.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let source = Environment::with_prefix("VMA").prefix_separator("__").separator("__");
        let source = source.try_parsing(true).list_separator(",");
        let source = source.with_list_parse_key("source.datastores").source(Some(variables));
        Settings::from_sources(&flags, source)
    }

    #[test]
    fn flags_win_over_environment_over_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("vma.toml");
        let text = "[agent]\nname = \"file\"\nstate_dir = \"/file\"\n[jobs]\nmax_running = 3\n[source]\ndatastores = [\"/a\"]\n";
        std::fs::write(&file, text).unwrap();
        let arguments = ["--config", file.to_str().unwrap(), "--name", "flag"];
        let environment = [
            ("VMA__AGENT__NAME", "environment"),
            ("VMA__AGENT__STATE_DIR", "/environment"),
            ("VMA__SOURCE__DATASTORES", "/b,/c"),
            ("VMA__LOG__FORMAT", "json"),
        ];
        let settings = load(&arguments, &environment).unwrap();
        assert_eq!(settings.agent.name, "flag");
        assert_eq!(settings.agent.state_dir, PathBuf::from("/environment"));
        assert_eq!(settings.source.datastores, [PathBuf::from("/b"), PathBuf::from("/c")]);
        assert_eq!((settings.jobs.max_running, settings.log.format), (3, LogFormat::Json));
        let printed: Settings = toml::from_str(&settings.redacted().unwrap()).unwrap();
        assert_eq!(printed, settings);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let refused = |arguments: &[&str], environment: &[(&str, &str)]| {
            format!("{:#}", load(arguments, environment).unwrap_err())
        };
        assert!(refused(&[], &[]).contains("no datastore"));
        let store = ["--datastore", "/a"];
        assert!(refused(&store, &[("VMA__HTTP__LISTEM", "x")]).contains("listem"));
        assert!(refused(&store, &[("VMA__JOBS__DISKS_AT_ONCE", "0")]).contains("at least 1"));
        let slow = [("VMA__LIMITS__MAX_BYTES_PER_SECOND", "65535")];
        assert!(refused(&store, &slow).contains("at least 65536"));
        assert!(refused(&["--datastore", "/a", "--name", ""], &[]).contains("agent.name"));
        assert!(refused(&["--config", "/nowhere.toml"], &[]).contains("nowhere"));
    }
}
