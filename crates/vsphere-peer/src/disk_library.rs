//! What stands in for VMware's VDDK: a library of ours, below the plugin that really loads the other one.

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File};
use std::hash::{Hash as _, Hasher as _};
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::program::target_directory;

/// The library.
const SOURCE: &str = include_str!("../c/disk_library.c");

/// The package that has the plugin; Debian 12 has none, and loads that of Debian 13.
const PACKAGE: &str = "nbdkit-plugin-vddk";

/// Where that package lies.
const SUITE: &str = "trixie contrib";

/// What the archive's signature is checked with; every Debian has it.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A library directory of its own, which goes with this value.
///
/// `c/disk_library.c` says what may stand in its script.
#[derive(Debug)]
pub struct DiskLibrary {
    home: TempDir,
    plugin: PathBuf,
}

/// What is compiled and fetched once: the library, and the plugin.
#[derive(Debug)]
struct Parts {
    library: PathBuf,
    plugin: PathBuf,
}

impl DiskLibrary {
    /// Makes one; `None`, said loudly, where it cannot be had and need not.
    pub fn make() -> Result<Option<Self>> {
        let Some(Parts { library, plugin }) = ensure()? else { return Ok(None) };
        let home = tempfile::tempdir()?;
        let place = home.path().join("lib64");
        fs::create_dir(&place)?;
        symlink(library, place.join("libvixDiskLib.so.6"))?;
        let made = Self { home, plugin };
        made.script(&[])?;
        Ok(Some(made))
    }

    /// The directory that VDDK would be unpacked to.
    pub fn directory(&self) -> &Path {
        self.home.path()
    }

    /// The plugin of nbdkit.
    pub fn plugin(&self) -> &Path {
        &self.plugin
    }

    /// Gives new orders, in place of all earlier ones.
    pub fn script(&self, orders: &[String]) -> Result<()> {
        // It may be read at this moment, so it is replaced as a whole.
        let next = self.home.path().join("script.next");
        fs::write(&next, orders.join("\n") + "\n")?;
        Ok(fs::rename(next, self.home.path().join("script"))?)
    }

    /// How it was called, in order.
    pub fn calls(&self) -> Result<Vec<String>> {
        match fs::read_to_string(self.home.path().join("calls")) {
            Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Compiles the library and fetches the plugin, and says where the library lies; `None`, said loudly, where that cannot
/// be and need not.
pub fn ensure_disk_library() -> Result<Option<PathBuf>> {
    Ok(ensure()?.map(|it| it.library))
}

fn ensure() -> Result<Option<Parts>> {
    match parts() {
        Ok(parts) => Ok(Some(parts)),
        Err(error) if std::env::var_os("HUB_TEST_REQUIRE").is_some_and(|it| it == "1") => {
            Err(error.context("the disk library is missing and required"))
        }
        Err(error) => {
            skipped(&format!("{error:#}"));
            Ok(None)
        }
    }
}

#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
fn skipped(why: &str) {
    eprintln!("SKIPPED: no disk library: {why}; `cargo xtask test` installs nbdkit");
}

fn parts() -> Result<Parts> {
    let mut hasher = DefaultHasher::new();
    SOURCE.hash(&mut hasher);
    let home = target_directory()?.join("disk-library");
    let place = home.join(format!("{:016x}", hasher.finish()));
    fs::create_dir_all(&place)?;
    // Test binaries run at once, and one download is enough.
    let lock = File::create(home.join("lock"))?;
    lock.lock()?;
    let library = place.join("libvixDiskLib.so.6");
    if !library.is_file() {
        let (source, made) = (place.join("disk_library.c"), place.join("library.new"));
        fs::write(&source, SOURCE)?;
        let flags = ["-O1", "-Wall", "-shared", "-fPIC", "-o"];
        run(Command::new("cc").args(flags).arg(&made).arg(&source))?;
        fs::rename(made, &library)?;
    }
    let plugin = match installed() {
        Ok(plugin) => plugin,
        Err(_) => fetched(&home)?,
    };
    Ok(Parts { library, plugin })
}

/// The plugin where nbdkit has it.
fn installed() -> Result<PathBuf> {
    let said = run(Command::new("nbdkit").args(["vddk", "--dump-plugin"]))?;
    let path = said.lines().find_map(|it| it.strip_prefix("path="));
    path.map(PathBuf::from).context("nbdkit does not say where its plugin lies")
}

/// The plugin from Debian's package, which apt has checked; nothing of the machine's own set-up is changed.
fn fetched(home: &Path) -> Result<PathBuf> {
    let unpacked = home.join("plugin");
    let inside = "usr/lib/x86_64-linux-gnu/nbdkit/plugins/nbdkit-vddk-plugin.so";
    let plugin = unpacked.join(inside);
    if plugin.is_file() {
        return Ok(plugin);
    }
    let apt = home.join("apt");
    for directory in [apt.join("lists"), apt.join("cache").join("archives")] {
        fs::create_dir_all(directory.join("partial"))?;
    }
    let sources = apt.join("sources.list");
    let archive = archive()?;
    fs::write(&sources, format!("deb [signed-by={KEYRING}] {archive} {SUITE}\n"))?;
    let option = |name: &str, value: &Path| format!("-o{name}={}", value.display());
    let own = [
        option("Dir::Etc::SourceList", &sources),
        option("Dir::Etc::SourceParts", Path::new("/dev/null")),
        option("Dir::State::Lists", &apt.join("lists")),
        option("Dir::State::Status", Path::new("/dev/null")),
        option("Dir::Cache", &apt.join("cache")),
        "-oAPT::Sandbox::User=root".to_owned(),
        "-oAcquire::Retries=3".to_owned(),
    ];
    run(Command::new("apt-get").current_dir(&apt).args(&own).arg("update"))?;
    run(Command::new("apt-get").current_dir(&apt).args(&own).args(["download", PACKAGE]))?;
    let entries = fs::read_dir(&apt)?.collect::<Result<Vec<_>, _>>()?;
    let package = entries
        .iter()
        .map(fs::DirEntry::path)
        .find(|it| it.extension().is_some_and(|it| it == "deb"));
    let package = package.context("apt has downloaded nothing")?;
    let next = home.join("plugin.new");
    run(Command::new("dpkg-deb").arg("-x").arg(package).arg(&next))?;
    fs::rename(next, &unpacked)?;
    Ok(plugin)
}

/// The mirror that this machine takes Debian itself from.
fn archive() -> Result<String> {
    let format = "$(REPO_URI) $(RELEASE) $(COMPONENT) $(CREATED_BY)";
    let said = run(Command::new("apt-get").args(["indextargets", "--format", format]))?;
    let main = said.lines().find_map(|it| it.strip_suffix(" main Packages"));
    let (archive, _) = main.and_then(|it| it.split_once(' ')).context("apt has no sources")?;
    Ok(archive.to_owned())
}

fn run(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let done = command.output().with_context(|| format!("`{name}` cannot be started"))?;
    if !done.status.success() {
        bail!("`{name}`: {}", String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}
