//! A `qemu-nbd` beside which ours is measured.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hub_tests::processes::{Lifetime, Program};

/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is looked whether it listens.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// One export on a socket; it ends when it is dropped.
pub(crate) struct QemuNbd {
    pub(crate) socket: PathBuf,
    program: Program,
}

impl QemuNbd {
    /// Serves a file under a name of its own below `place`.
    pub(crate) async fn start(
        place: &Path,
        name: &str,
        arguments: &[&str],
        file: &Path,
    ) -> Result<Self> {
        let socket = place.join(format!("{name}.sock"));
        if socket.exists() {
            fs::remove_file(&socket)?;
        }
        let text = |path: &Path| path.to_str().map(str::to_owned).context("a path is not UTF-8");
        let mut all: Vec<_> = arguments.iter().map(|&it| it.to_owned()).collect();
        all.extend(["--persistent", "--shared=8", "--socket"].map(str::to_owned));
        all.extend([text(&socket)?, text(file)?]);
        let (path, logs) = (Path::new("qemu-nbd"), place.join("logs"));
        let mut program = Program::start(name, path, &all, &[], &logs, Lifetime::Owned)?;
        let deadline = Instant::now() + PATIENCE;
        while UnixStream::connect(&socket).is_err() {
            let ended = program.has_ended()?.is_some();
            ensure!(!ended && Instant::now() < deadline, "no {name}\n{}", program.tail());
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(Self { socket, program })
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.program.id()
    }

    /// How a client names it.
    pub(crate) fn uri(&self) -> String {
        format!("nbd+unix:///?socket={}", self.socket.display())
    }
}
