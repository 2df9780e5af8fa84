//! Programs of the system that make and judge disks.
//!
//! A test whose tools are missing says so loudly, and fails where `HUB_TEST_REQUIRE=1` forbids to skip.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

/// What every test with real disks needs.
pub const DISK_TOOLS: [&str; 8] =
    ["qemu-img", "qemu-io", "qemu-nbd", "setpriv", "mke2fs", "debugfs", "nbdinfo", "nbdcopy"];

/// A program with its arguments, found also where Debian keeps the tools of an administrator.
pub fn command(program: &str, arguments: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).env("LC_ALL", "C").env("PATH", search_path());
    command
}

/// Runs a program in a directory and answers what it wrote; a failure quotes its complaint.
pub fn run_in(directory: &Path, program: &str, arguments: &[impl AsRef<OsStr>]) -> Result<String> {
    let mut command = command(program, arguments);
    let done = command.current_dir(directory).output();
    let done = done.with_context(|| format!("`{program}` cannot be started"))?;
    if !done.status.success() {
        let complaint = String::from_utf8_lossy(&done.stderr);
        let said = String::from_utf8_lossy(&done.stdout);
        bail!("{} ended with {}: {complaint}{said}", spelled(&command), done.status);
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Runs a program and answers what it wrote; a failure quotes its complaint.
pub fn run(program: &str, arguments: &[impl AsRef<OsStr>]) -> Result<String> {
    run_in(Path::new("/"), program, arguments)
}

/// Whether all tools are there; what is missing is said aloud, and is an error where tools are required.
pub fn present(tools: &[&str]) -> Result<bool> {
    let path = search_path();
    let is_there =
        |tool: &str| std::env::split_paths(&path).any(|place| place.join(tool).is_file());
    let missing: Vec<_> = tools.iter().copied().filter(|tool| !is_there(tool)).collect();
    if missing.is_empty() {
        return Ok(true);
    }
    let required = std::env::var_os("HUB_TEST_REQUIRE").is_some_and(|it| it == "1");
    ensure!(!required, "missing and required: {}", missing.join(", "));
    skipped(&missing);
    Ok(false)
}

#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
fn skipped(missing: &[&str]) {
    eprintln!("SKIPPED: not installed: {}; `cargo xtask test` installs them", missing.join(", "));
}

fn search_path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/sbin:/sbin");
    path
}

fn spelled(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_program_is_quoted_with_its_complaint() {
        let error = run("sh", &["-c", "echo no such disk >&2; exit 3"]).unwrap_err().to_string();
        assert!(error.contains("no such disk") && error.contains("sh -c"), "{error}");
    }

    #[test]
    fn a_tool_that_nobody_has_is_missing() {
        let required = std::env::var_os("HUB_TEST_REQUIRE").is_some_and(|it| it == "1");
        let found = present(&["sh", "a-tool-that-nobody-has"]);
        assert_eq!(found.ok(), (!required).then_some(false));
    }
}
