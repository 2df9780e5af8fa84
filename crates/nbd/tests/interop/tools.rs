//! External programs: whether they are here, and running them so that none outlives its test.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hub_nbd::Endpoint;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use crate::served::within;

/// Whether all programs are installed; tests that lack one skip loudly, or fail where they are required.
#[expect(clippy::print_stderr, reason = "a skipped test has to be seen")]
pub(crate) fn present(programs: &[&str]) -> Result<bool> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let here = |name: &&&str| std::env::split_paths(&path).any(|it| it.join(name).is_file());
    let missing: Vec<_> = programs.iter().filter(|name| !here(name)).collect();
    if missing.is_empty() {
        return Ok(true);
    }
    if std::env::var_os("HUB_TEST_REQUIRE").is_some_and(|it| it == "1") {
        bail!("required programs are missing: {missing:?}");
    }
    eprintln!("SKIPPED: {missing:?} are not installed");
    Ok(false)
}

/// Runs a program to its end, whatever that is.
pub(crate) async fn attempt(program: &str, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    Ok(within(program, command.output()).await??)
}

/// Runs a program that must succeed, and returns what it printed.
pub(crate) async fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = attempt(program, arguments).await?;
    if !output.status.success() {
        bail!("{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Starts a server and waits until its socket answers.
pub(crate) async fn spawn(program: &str, arguments: &[&str], socket: &Path) -> Result<Child> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn().with_context(|| format!("cannot start {program}"))?;
    let ready = async {
        loop {
            if socket.exists() && UnixStream::connect(socket).await.is_ok() {
                return Ok(());
            }
            if let Some(status) = child.try_wait()? {
                bail!("{program} {arguments:?} ended: {status}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within(program, ready).await??;
    Ok(child)
}

/// Starts `nbdkit` with these arguments behind a socket of its own.
pub(crate) async fn nbdkit(folder: &Path, arguments: &[&str]) -> Result<(Child, Endpoint)> {
    let socket = folder.join("nbdkit.sock");
    let all = [&["-f", "-U", text(&socket)?][..], arguments].concat();
    Ok((spawn("nbdkit", &all, &socket).await?, Endpoint::Unix(socket)))
}

/// Starts `qemu-nbd` with these arguments over an image, as the export `disk`.
pub(crate) async fn qemu_nbd(
    folder: &Path,
    arguments: &[&str],
    image: &str,
) -> Result<(Child, Endpoint)> {
    let socket = folder.join("qemu.sock");
    let own = ["--persistent", "-x", "disk", "-k", text(&socket)?];
    let all = [&own[..], arguments, &[image]].concat();
    Ok((spawn("qemu-nbd", &all, &socket).await?, Endpoint::Unix(socket)))
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is not text")
}
