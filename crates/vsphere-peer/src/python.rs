//! VMware's own client for Python, as a second opinion: in an environment of its own beside what cargo compiles.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::VspherePeer;
use crate::program::target_directory;

/// The version that was compared with.
const PYVMOMI: &str = "pyvmomi==9.1.1.0";

/// What it is asked: every VM with its disks and its snapshots.
const INVENTORY: &str = include_str!("../python/inventory.py");

/// The same as a measurement: properties of all VMs, and how long that takes.
const PROPERTIES: &str = include_str!("../python/properties.py");

/// The interpreter with `pyvmomi`, made where it is not yet; `None`, said loudly, when it cannot be and need not.
pub fn ensure_pyvmomi() -> Result<Option<PathBuf>> {
    match make() {
        Ok(python) => Ok(Some(python)),
        Err(error) if std::env::var_os("HUB_TEST_REQUIRE").is_some_and(|it| it == "1") => {
            Err(error.context("pyvmomi is missing and required"))
        }
        Err(error) => {
            skipped(&format!("{error:#}"));
            Ok(None)
        }
    }
}

#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
fn skipped(why: &str) {
    eprintln!("SKIPPED: no pyvmomi: {why}; `cargo xtask test` installs python3-venv");
}

fn make() -> Result<PathBuf> {
    let place = target_directory()?.join("pyvmomi");
    let (python, done) = (place.join("bin").join("python"), place.join(PYVMOMI));
    fs::create_dir_all(&place)?;
    let lock = File::create(place.join("lock"))?;
    lock.lock()?;
    if done.is_file() {
        return Ok(python);
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(&place))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", PYVMOMI];
    run(Command::new(&python).args(pip))?;
    File::create(&done)?;
    Ok(python)
}

fn run(command: &mut Command) -> Result<String> {
    let done = command.output().context("the program cannot be started")?;
    if !done.status.success() {
        bail!("{}", String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

impl VspherePeer {
    /// The inventory as `pyvmomi` sees it; `None` where that is missing and need not be there.
    pub fn seen_by_pyvmomi(&self) -> Result<Option<Value>> {
        let Some(seen) = self.asked_by_pyvmomi(INVENTORY, &[])? else { return Ok(None) };
        ensure!(seen.is_array(), "it lists no VMs: {seen}");
        Ok(Some(seen))
    }

    /// Has `pyvmomi` read these properties of all VMs: `seconds` from login to logout, and how many `vms`.
    pub fn read_by_pyvmomi(&self, paths: &[&str]) -> Result<Option<Value>> {
        self.asked_by_pyvmomi(PROPERTIES, paths)
    }

    fn asked_by_pyvmomi(&self, script: &str, arguments: &[&str]) -> Result<Option<Value>> {
        let Some(python) = ensure_pyvmomi()? else { return Ok(None) };
        let (host, port) = self.address().rsplit_once(':').context("an address without a port")?;
        let authority = self.home().join("authority.pem");
        fs::write(&authority, self.authority())?;
        let mut command = Command::new(python);
        command.args(["-c", script, host, port, self.user()]).arg(&authority).args(arguments);
        let said = run(command.env("VSPHERE_PEER_PASSWORD", self.password()))?;
        Ok(Some(serde_json::from_str(&said)?))
    }
}
