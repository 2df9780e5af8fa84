//! Private database servers that live in a temporary directory and die with this program, whatever ends it.
//!
//! Two things watch over them.
//! The kernel kills a server when the thread that started it ends (`setpriv --pdeathsig`), so start them from the main thread.
//! A shell holds the other end of a pipe; when this program is gone it waits for the servers and removes the directory.

mod mariadb;
mod postgres;

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

pub(crate) use mariadb::MariaDb;
pub(crate) use postgres::Postgres;

/// How long a server may take until it answers; a busy machine with a slow disk needs a while.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// How long a server may take to stop before it is killed.
const STOPPED_WITHIN: Duration = Duration::from_secs(10);

/// Ports for servers, below those that Linux gives to whoever asks for any.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 10_000;

/// Reads process ids until its input ends, waits until those processes are gone, removes the directory.
///
/// It tries more than once, because an installer that was interrupted may still write there.
const KEEPER: &str = r#"
trap : INT TERM HUP
pids=
while read -r pid; do pids="$pids $pid"; done
tries=0
for pid in $pids; do
    while kill -0 "$pid" 2>/dev/null && [ "$tries" -lt 100 ]; do sleep 0.1; tries=$((tries + 1)); done
done
while ! rm -rf -- "$1" 2>/dev/null && [ "$tries" -lt 200 ]; do sleep 0.1; tries=$((tries + 1)); done
"#;

/// A temporary directory with the servers in it; dropping it stops them and removes it.
pub(crate) struct Site {
    directory: PathBuf,
    keeper: Child,
    servers: Vec<Running>,
}

struct Running {
    process: Child,
    stop_signal: &'static str,
}

impl Site {
    /// Makes the directory and sets the keeper over it.
    pub(crate) fn open() -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("hub-databases-").tempdir()?.keep();
        // A server that runs as another account has to pass through.
        fs::set_permissions(&directory, std::os::unix::fs::PermissionsExt::from_mode(0o711))?;
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(&directory)
            .stdin(Stdio::piped())
            .spawn()
            .context("cannot run sh")?;
        Ok(Self { directory, keeper, servers: Vec::new() })
    }

    /// Makes a directory of its own for one server.
    fn place(&self, name: &str) -> anyhow::Result<PathBuf> {
        let place = self.directory.join(name);
        fs::create_dir(&place)?;
        Ok(place)
    }

    /// Starts a server and waits until `answers` succeeds.
    fn start(&mut self, server: Invocation, answers: impl Fn() -> Command) -> anyhow::Result<()> {
        let log = fs::File::create(&server.log)?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", server.stop_signal]).args(&server.account).arg("--");
        command.arg(&server.program).args(&server.arguments);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut child = command.spawn().context("cannot run setpriv")?;
        let noted = self.keeper.stdin.as_mut().map(|keeper| writeln!(keeper, "{}", child.id()));
        if !matches!(noted, Some(Ok(()))) {
            child.kill()?;
            child.wait()?;
            bail!("the keeper of {} is gone", self.directory.display());
        }
        self.servers.push(Running { process: child, stop_signal: server.stop_signal });
        self.await_answer(&server, answers)
    }

    fn await_answer(
        &mut self,
        server: &Invocation,
        answers: impl Fn() -> Command,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        let quiet = |mut probe: Command| {
            probe.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()
        };
        while !quiet(answers())?.success() {
            let ended =
                self.servers.last_mut().map(|it| it.process.try_wait()).transpose()?.flatten();
            if ended.is_some() || Instant::now() > deadline {
                bail!(
                    "{} does not answer; its log ends:\n{}",
                    server.program.display(),
                    tail(&server.log)
                );
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // The data is thrown away, so nothing is lost by not asking the servers to end in order.
        for server in &mut self.servers {
            server.stop();
        }
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

impl Running {
    /// Asks once, then insists; a failure leaves the process to the keeper's patience.
    fn stop(&mut self) {
        if !matches!(self.process.try_wait(), Ok(None)) {
            return;
        }
        let signal = format!("-{}", self.stop_signal);
        let _ = Command::new("kill").arg(signal).arg(self.process.id().to_string()).status();
        let deadline = Instant::now() + STOPPED_WITHIN;
        while matches!(self.process.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.process.kill();
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// How one server is run.
struct Invocation {
    program: PathBuf,
    arguments: Vec<String>,
    /// Options of `setpriv` that change the account; empty keeps ours.
    account: Vec<String>,
    /// What ends it at once, sent by us or, when we are gone, by the kernel.
    stop_signal: &'static str,
    log: PathBuf,
}

/// A port that was free a moment ago; a server that cannot be told to choose gets one of these.
///
/// It is none of those that the system gives to whoever asks for any, so that nobody gets it by chance before the server.
fn free_port() -> anyhow::Result<u16> {
    let start = u16::from_str_radix(&password()?[..4], 16)? % PORTS;
    let mut ports = (0..PORTS).map(|it| FIRST_PORT + (start + it) % PORTS);
    let free = ports.find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    free.context("no port is free")
}

/// A password that no other account on the machine can guess.
fn password() -> anyhow::Result<String> {
    let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    Ok(uuid.trim().replace('-', ""))
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines.get(lines.len().saturating_sub(15)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_site_leaves_neither_process_nor_directory() {
        let mut site = Site::open().unwrap();
        let directory = site.directory.clone();
        let server = Invocation {
            program: "sleep".into(),
            arguments: vec![String::from("600")],
            account: Vec::new(),
            stop_signal: "KILL",
            log: directory.join("log"),
        };
        site.start(server, || Command::new("true")).unwrap();
        let process = format!("/proc/{}", site.servers[0].process.id());
        assert!(Path::new(&process).exists());
        drop(site);
        assert!(!Path::new(&process).exists());
        assert!(!directory.exists());
    }

    #[test]
    fn a_server_that_ends_at_once_is_reported_with_its_log() {
        let mut site = Site::open().unwrap();
        let log = site.directory.join("log");
        let server = Invocation {
            program: "sh".into(),
            arguments: vec![String::from("-c"), String::from("echo port is taken; exit 1")],
            account: Vec::new(),
            stop_signal: "KILL",
            log,
        };
        let error = site.start(server, || Command::new("false")).unwrap_err();
        assert!(error.to_string().contains("port is taken"), "{error}");
    }
}
