//! The nbdkit of one disk: its arguments, its password, its socket, its last words, its end.

use std::ffi::OsString;
use std::fs::{File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hub_nbd::Endpoint;
use parking_lot::Mutex;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, Signal, kill_process};
use secrecy::ExposeSecret as _;
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::Instant;

use super::complaint::NotLetIn;
use super::{VddkOptions, complaint};
use crate::source::SourceError;
use crate::vsphere::host_budget::Place;
use crate::vsphere::reader::FrozenDisk;
use crate::vsphere::session::Logins;
use crate::vsphere::{Tasks, listing};

/// How much of what the process says is kept: its last words.
const KEPT: usize = 16 << 10;

/// How often it is looked whether the process answers.
pub(super) const LOOK: Duration = Duration::from_millis(10);

/// How long a process that was told to end may take to log out of the server.
const FAREWELL: Duration = Duration::from_secs(10);

/// How long the last words of a process that has ended may be on their way.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// A process that serves one disk; dropping it ends the process.
pub(super) struct Nbdkit {
    /// Holds the socket; readable by nobody else.
    home: TempDir,
    /// Memory that the process reads the password from; it has no name, and goes with the last who holds it.
    password: File,
    child: Arc<Mutex<Option<Child>>>,
    said: Arc<Mutex<Vec<u8>>>,
    /// Whether the server has refused its login.
    refused: Arc<AtomicBool>,
    tasks: Arc<Tasks>,
    /// Free when the process has gone.
    place: Option<Place>,
}

impl Nbdkit {
    /// Starts it and waits until it answers on its socket.
    pub(super) async fn start(
        options: &VddkOptions,
        frozen: &FrozenDisk,
        place: Place,
        tasks: &Arc<Tasks>,
        logins: &Arc<Logins>,
        deadline: Instant,
    ) -> Result<Self, SourceError> {
        let unusable = |what: &str, error: &dyn std::fmt::Display| {
            SourceError::VddkUnusable(format!("{what}: {error}"))
        };
        let private = Permissions::from_mode(0o700);
        let home = tempfile::Builder::new().prefix("sendense-vddk-").permissions(private).tempdir();
        let home = home.map_err(|it| unusable("no private directory can be made", &it))?;
        let handed = |it: std::io::Error| unusable("the password cannot be handed to nbdkit", &it);
        let password = written_password(frozen).map_err(handed)?;
        let mut command = Command::new(&options.nbdkit);
        command.args(arguments(options, frozen, home.path()));
        // Its words are looked for, so they have to be in one language.
        command.env("LC_ALL", "C").env_remove("LD_LIBRARY_PATH").kill_on_drop(true);
        command.stdin(password.try_clone().map_err(handed)?);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| {
            let program = options.nbdkit.display();
            unusable(&format!("`{program}` cannot be started; install nbdkit"), &error)
        })?;
        let (said, refused) = (Arc::<Mutex<Vec<u8>>>::default(), Arc::<AtomicBool>::default());
        let stderr = child.stderr.take();
        let child = Arc::new(Mutex::new(Some(child)));
        if let Some(stderr) = stderr {
            let (refused, child) = (refused.clone(), child.clone());
            let (logins, login) = (logins.clone(), frozen.client.login().clone());
            let vm = frozen.vm.clone();
            let when_refused = move |how, reason| {
                let only = (how == NotLetIn::Here).then_some(vm.value.as_str());
                logins.is_refused_beside(&login, only, reason);
                refused.store(true, Ordering::Release);
                // Its filter would log in again and again, until the account is locked.
                if let Some(child) = child.lock().as_mut() {
                    let _ = child.start_kill();
                }
            };
            tasks.spawn(listen(stderr, said.clone(), when_refused));
        }
        let (tasks, place) = (tasks.clone(), Some(place));
        let started = Self { home, password, child, said, refused, tasks, place };
        started.answers(deadline).await?;
        tracing::debug!(disk.id = listing::disk_id(&frozen.disk), "VDDK serves a disk");
        Ok(started)
    }

    /// Where it listens.
    pub(super) fn endpoint(&self) -> Endpoint {
        Endpoint::Unix(self.home.path().join("socket"))
    }

    /// Empties the memory with the password: the process has read it.
    pub(super) fn forget_password(&self) {
        let _ = self.password.set_len(0);
    }

    /// Whether the server has refused its login, which ends it.
    pub(super) fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Acquire)
    }

    /// Why something failed, and what to do; `error` where the process says nothing about it.
    pub(super) async fn complaint(&self, error: &str) -> String {
        // The answer may be here before the words that go with it, and these come in pieces.
        let deadline = Instant::now() + LAST_WORDS;
        while !self.said.lock().ends_with(b"\n") && Instant::now() < deadline {
            tokio::time::sleep(LOOK).await;
        }
        let ended = self.has_ended();
        let said = String::from_utf8_lossy(&self.said.lock()).into_owned();
        complaint::reason(&said, ended.as_deref(), error)
    }

    /// Waits until the socket is there, the process has ended, or it is too late.
    async fn answers(&self, deadline: Instant) -> Result<(), SourceError> {
        let socket = self.home.path().join("socket");
        // A connection that says nothing would be an error among its words.
        while !socket.exists() {
            if self.has_ended().is_some() {
                let reason = self.complaint("it does not say why").await;
                return Err(SourceError::VddkUnusable(reason));
            }
            if Instant::now() > deadline {
                let reason = self.complaint("nbdkit did not answer in time").await;
                return Err(SourceError::VddkUnusable(reason));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Whether the process has ended, or does so with what it has just been asked.
    pub(super) async fn ends_soon(&self) -> bool {
        let deadline = Instant::now() + LAST_WORDS;
        while self.has_ended().is_none() && Instant::now() < deadline {
            tokio::time::sleep(LOOK).await;
        }
        self.has_ended().is_some()
    }

    /// How the process ended, where it has.
    pub(super) fn has_ended(&self) -> Option<String> {
        let ended = self.child.lock().as_mut()?.try_wait();
        match ended {
            Ok(None) => None,
            Ok(Some(status)) => Some(status.to_string()),
            Err(error) => Some(error.to_string()),
        }
    }
}

impl Drop for Nbdkit {
    /// Asks the process to end, so that it logs out of the server, and ends it when it does not.
    fn drop(&mut self) {
        let Some(mut child) = self.child.lock().take() else { return };
        let pid = child.id().and_then(|it| Pid::from_raw(i32::try_from(it).ok()?));
        let Some(pid) = pid else { return };
        let _ = kill_process(pid, Signal::TERM);
        let place = self.place.take();
        self.tasks.spawn(async move {
            let _place = place;
            if tokio::time::timeout(FAREWELL, child.wait()).await.is_err() {
                tracing::warn!("a reader did not end when it was told to, and is killed");
                drop(child.kill().await);
            }
        });
    }
}

/// The password goes through memory without a name: arguments and environments can be seen, a pipe can be read only once
/// though nbdkit starts itself anew to load the library, and a file would outlive a VMA that is killed.
fn written_password(frozen: &FrozenDisk) -> std::io::Result<File> {
    let mut memory = File::from(memfd_create("sendense-vddk", MemfdFlags::CLOEXEC)?);
    memory.write_all(frozen.client.login().password.expose_secret().as_bytes())?;
    Ok(memory)
}

/// Arguments as `docs/vsphere.md` explains them; the filter next to the plugin stands last.
fn arguments(options: &VddkOptions, frozen: &FrozenDisk, home: &Path) -> Vec<OsString> {
    let mut all: Vec<OsString> = ["-r", "-f", "--exit-with-parent", "-U"].map(Into::into).into();
    all.push(home.join("socket").into());
    all.extend(["blocksize", "cacheextents", "retry"].map(|it| format!("--filter={it}").into()));
    all.push(options.plugin.clone().map_or_else(|| "vddk".into(), Into::into));
    let mut pair = |name: &str, value: OsString| {
        let mut argument = OsString::from(format!("{name}="));
        argument.push(value);
        all.push(argument);
    };
    let endpoint = frozen.client.endpoint();
    pair("libdir", options.libdir.clone().into());
    pair("server", endpoint.host().into());
    if let Some(port) = endpoint.port() {
        pair("port", port.to_string().into());
    }
    pair("user", frozen.client.login().username.clone().into());
    // A plain `-0` is refused for standard input, which is the one descriptor that a child gets without unsafe code.
    pair("password", "+/proc/self/fd/0".into());
    pair("thumbprint", options.thumbprint.clone().into());
    pair("vm", format!("moref={}", frozen.vm.value).into());
    pair("snapshot", frozen.snapshot.value.clone().into());
    if let Some(transports) = &options.transports {
        pair("transports", transports.into());
    }
    if let Some(compression) = &options.compression {
        pair("compression", compression.into());
    }
    pair("file", frozen.disk.backing.file_name.clone().into());
    // VDDK knows sectors only, and a host refuses larger reads when many are under way.
    pair("minblock", "512".into());
    pair("maxdata", "2M".into());
    pair("retries", options.retries.to_string().into());
    all
}

/// Keeps the last of what the process says, and tells once when that is that its login is refused.
async fn listen(
    mut from: ChildStderr,
    said: Arc<Mutex<Vec<u8>>>,
    when_refused: impl FnOnce(NotLetIn, String) + Send,
) {
    let (mut buffer, mut when_refused) = (vec![0; 4096], Some(when_refused));
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let words = {
            let mut said = said.lock();
            said.extend_from_slice(buffer.get(..length).unwrap_or_default());
            let surplus = said.len().saturating_sub(KEPT);
            said.drain(..surplus);
            String::from_utf8_lossy(&said).into_owned()
        };
        if let Some(how) = complaint::not_let_in(&words)
            && let Some(tell) = when_refused.take()
        {
            tell(how, complaint::reason(&words, None, "the login was refused"));
        }
    }
}
