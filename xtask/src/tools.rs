//! The programs that tests need, and the Debian packages that bring them.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::workspace::passes;

/// A program and the package that has it.
pub(crate) struct Tool {
    program: &'static str,
    package: &'static str,
}

impl Tool {
    /// A program, and the package that has it.
    pub(crate) const fn new(program: &'static str, package: &'static str) -> Self {
        Self { program, package }
    }
}

/// Images, network block devices, file systems and the vSphere peer: needed whatever the database.
pub(crate) const COMMON: [Tool; 13] = [
    Tool { program: "qemu-img", package: "qemu-utils" },
    Tool { program: "qemu-nbd", package: "qemu-utils" },
    Tool { program: "qemu-io", package: "qemu-utils" },
    Tool { program: "nbdinfo", package: "libnbd-bin" },
    Tool { program: "nbdcopy", package: "libnbd-bin" },
    Tool { program: "nbdkit", package: "nbdkit" },
    Tool { program: "fio", package: "fio" },
    Tool { program: "b3sum", package: "b3sum" },
    Tool { program: "mkfs.ext4", package: "e2fsprogs" },
    Tool { program: "mount", package: "mount" },
    Tool { program: "go", package: "golang-go" },
    // A library has no program; one of its files stands for it.
    Tool { program: VENV, package: "python3-venv" },
    Tool { program: GOVMOMI, package: "golang-github-vmware-govmomi-dev" },
];

/// What `python3 -m venv` needs beyond Python; Debian packages it apart.
const VENV: &str = "/usr/share/doc/python3-venv/copyright";

/// The simulator that the vSphere peer is built from.
const GOVMOMI: &str = "/usr/share/gocode/src/github.com/vmware/govmomi/simulator/simulator.go";

/// What a private MariaDB needs.
pub(crate) const MARIADB: [Tool; 3] = [
    Tool { program: "mariadbd", package: "mariadb-server" },
    Tool { program: "mariadb-install-db", package: "mariadb-server" },
    Tool { program: "mariadb", package: "mariadb-client" },
];

/// What a private PostgreSQL needs.
pub(crate) const POSTGRES: [Tool; 4] = [
    Tool { program: "postgres", package: "postgresql" },
    Tool { program: "initdb", package: "postgresql" },
    Tool { program: "psql", package: "postgresql-client" },
    Tool { program: "setpriv", package: "util-linux" },
];

/// Where programs may lie, beyond what `PATH` says: Debian keeps servers out of a user's `PATH`.
pub(crate) fn search_path() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<_> = std::env::split_paths(&path).collect();
    places.extend(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from));
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<_> = versions.map(|it| it.path().join("bin")).collect();
    // The newest version first; they are numbers, so a longer name is a newer one.
    versions.sort_by_key(|it| std::cmp::Reverse((it.as_os_str().len(), it.clone())));
    places.extend(versions);
    places
}

/// `PATH` for a child that has to find the same programs.
pub(crate) fn path_variable() -> anyhow::Result<OsString> {
    Ok(std::env::join_paths(search_path())?)
}

/// The full path of a program.
pub(crate) fn find(program: &str) -> anyhow::Result<PathBuf> {
    let found = search_path().into_iter().map(|place| place.join(program)).find(|it| it.is_file());
    found.with_context(|| format!("`{program}` is not installed"))
}

/// Whether this program may install packages and change accounts.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|it| it.uid() == 0)
}

/// Installs the packages of missing tools, or says which command does.
pub(crate) fn ensure<'a>(
    tools: impl IntoIterator<Item = &'a Tool>,
    may_install: bool,
) -> anyhow::Result<()> {
    let packages = missing(tools, |program| find(program).is_ok());
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    if !may_install || !is_root() || !Path::new("/usr/bin/apt-get").exists() {
        bail!(
            "tools are missing; install them with:\n    apt-get update && apt-get install -y --no-install-recommends {list}"
        );
    }
    println!("installing Debian packages that the tests need: {list}");
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args([
            "-q",
            "-o",
            "DPkg::Lock::Timeout=300",
        ]);
        passes(command.args(arguments))
    };
    apt(&["update"])?;
    apt(&[&["install", "-y", "--no-install-recommends"], packages.as_slice()].concat())
}

/// The packages of the tools that are not there, each once.
fn missing<'a>(
    tools: impl IntoIterator<Item = &'a Tool>,
    is_there: impl Fn(&str) -> bool,
) -> Vec<&'static str> {
    let gone = tools.into_iter().filter(|tool| !is_there(tool.program));
    let mut packages: Vec<_> = gone.map(|tool| tool.package).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_asked_for_once() {
        let packages = missing(&COMMON, |program| program == "mount");
        let expected = [
            "b3sum",
            "e2fsprogs",
            "fio",
            "golang-github-vmware-govmomi-dev",
            "golang-go",
            "libnbd-bin",
            "nbdkit",
            "python3-venv",
            "qemu-utils",
        ];
        assert_eq!(packages, expected);
        assert!(missing(&COMMON, |_| true).is_empty());
    }
}
