//! A `qemu-nbd` process that cannot outlive its owner.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use super::QemuOptions;

/// How much of what a reader says is kept.
const MAX_WORDS: usize = 4096;

/// Signal 6: qemu gives up on an image that it did not expect.
const SIGABRT: i32 = 6;

/// A reader process; dropping it kills it.
pub(super) struct QemuChild {
    child: Child,
    words: Arc<Mutex<Vec<u8>>>,
    listener: JoinSet<()>,
}

/// How a reader ended before it was asked to.
pub(super) struct Ended {
    pub(super) reason: String,
    /// Whether the image is of a kind that it does not read.
    pub(super) unsupported: bool,
}

impl QemuChild {
    /// Starts a reader for an image on a socket that does not exist yet.
    ///
    /// `setpriv` ties the reader's life to the thread that starts it, so this is called on a thread that lives as
    /// long as the runtime: from an async task, never from `spawn_blocking`.
    pub(super) fn start(options: &QemuOptions, image: &str, socket: &Path) -> Result<Self, String> {
        let mut command = Command::new(&options.setpriv);
        command.args(["--pdeathsig", "KILL", "--no-new-privs", "--"]);
        // Trap D5: with the default of one client, a second connection would wait for ever.
        command.arg(&options.qemu_nbd).args(["--read-only", "--persistent", "--shared=8"]);
        command.args(["--allocation-depth", "--socket"]).arg(socket).arg(image);
        command.env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| {
            format!("`{}` cannot be started: {error}", options.setpriv.display())
        })?;
        let words = Arc::new(Mutex::new(Vec::new()));
        let mut listener = JoinSet::new();
        if let Some(mut stderr) = child.stderr.take() {
            let words = words.clone();
            listener.spawn(async move {
                let mut part = [0; 1024];
                while let Ok(count @ 1..) = stderr.read(&mut part).await {
                    let mut words = words.lock();
                    let room = MAX_WORDS.saturating_sub(words.len()).min(count);
                    words.extend(part.iter().take(room));
                }
            });
        }
        Ok(Self { child, words, listener })
    }

    /// Whether it has ended, and how.
    pub(super) async fn ended(&mut self) -> Option<Ended> {
        let status = self.child.try_wait().ok()??;
        while self.listener.join_next().await.is_some() {}
        Some(self.explain(status))
    }

    fn explain(&self, status: ExitStatus) -> Ended {
        let words = self.words();
        let unsupported = status.signal() == Some(SIGABRT)
            || words.contains("Unsupported image type")
            || words.contains("not supported");
        Ended { reason: format!("qemu-nbd ended with {status}: {words}"), unsupported }
    }

    /// What it has said so far, in one line.
    pub(super) fn words(&self) -> String {
        let words = self.words.lock();
        let text = String::from_utf8_lossy(&words);
        let lines: Vec<_> = text.lines().map(str::trim).filter(|it| !it.is_empty()).collect();
        lines.join("; ")
    }

    /// Ends it and waits until it is gone.
    pub(super) async fn kill(mut self) {
        // An error means that it has ended already.
        drop(self.child.kill().await);
    }
}
