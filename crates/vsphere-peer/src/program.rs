//! The peer's program: compiled once per content of its sources, beside what cargo compiles.

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File};
use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;

/// Where Debian's package keeps the simulator, below a directory that Go calls a path.
const GO_PATH: &str = "/usr/share/gocode";

/// The package that the overlay becomes a part of.
const SIMULATOR: &str = "/usr/share/gocode/src/github.com/vmware/govmomi/simulator";

/// The sources of the program itself.
const SOURCES: [(&str, &str); 4] = [
    ("main.go", include_str!("../go/main.go")),
    ("front.go", include_str!("../go/front.go")),
    ("control.go", include_str!("../go/control.go")),
    ("shape.go", include_str!("../go/shape.go")),
];

/// What is compiled into the simulator's package.
const OVERLAY: [(&str, &str); 2] =
    [("inside", include_str!("../go/inside.go")), ("tracking", include_str!("../go/tracking.go"))];

/// The program's path, built where it is not yet; `None`, said loudly, when it cannot be and need not.
pub fn ensure_built() -> Result<Option<PathBuf>> {
    let missing: Vec<_> = [("go", go().is_none()), ("govmomi", !Path::new(SIMULATOR).is_dir())]
        .into_iter()
        .filter_map(|(name, gone)| gone.then_some(name))
        .collect();
    if missing.is_empty() {
        return build().map(Some);
    }
    let packages = "golang-go golang-github-vmware-govmomi-dev";
    let required = std::env::var_os("HUB_TEST_REQUIRE").is_some_and(|it| it == "1");
    if required {
        bail!("missing and required: {}; install {packages}", missing.join(", "));
    }
    skipped(&missing, packages);
    Ok(None)
}

#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
fn skipped(missing: &[&str], packages: &str) {
    eprintln!(
        "SKIPPED: not installed: {}; `cargo xtask test` installs {packages}",
        missing.join(", ")
    );
}

/// The compiler, where there is one.
fn go() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<_> = std::env::split_paths(&path).collect();
    places.push(PathBuf::from("/usr/bin"));
    places.into_iter().map(|it| it.join("go")).find(|it| it.is_file())
}

fn build() -> Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    (SOURCES, OVERLAY).hash(&mut hasher);
    let home = target_directory()?.join("vsphere-peer");
    let place = home.join(format!("{:016x}", hasher.finish()));
    let program = place.join("vsphere-peer");
    if program.is_file() {
        return Ok(program);
    }
    fs::create_dir_all(&place)?;
    // Test binaries run at once, and one build is enough.
    let lock = File::create(home.join("lock"))?;
    lock.lock()?;
    if program.is_file() {
        return Ok(program);
    }
    let mut replaced = serde_json::Map::new();
    for (name, text) in OVERLAY {
        // Not named as Go's, or it would be compiled as a part of the program, too.
        let file = place.join(format!("{name}.go.txt"));
        fs::write(&file, text)?;
        replaced.insert(format!("{SIMULATOR}/sendense_{name}.go"), json!(file));
    }
    let overlay = json!({ "Replace": replaced });
    fs::write(place.join("overlay.json"), overlay.to_string())?;
    let built = place.join("vsphere-peer.new");
    let mut command = Command::new(go().context("there is no Go compiler")?);
    command.current_dir(&place).env("GO111MODULE", "off").env("GOFLAGS", "");
    command.env("GOPATH", GO_PATH).env("GOCACHE", home.join("cache"));
    command.args(["build", "-overlay", "overlay.json", "-o"]).arg(&built);
    for (name, text) in SOURCES {
        fs::write(place.join(name), text)?;
        command.arg(name);
    }
    let done = command.output().context("the Go compiler cannot be started")?;
    let complaint = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "the vSphere peer cannot be built: {complaint}");
    fs::rename(&built, &program)?;
    Ok(program)
}

/// The directory that cargo builds into: above the profile of the program that asks.
pub(crate) fn target_directory() -> Result<PathBuf> {
    let own = std::env::current_exe().context("the path of this program is not known")?;
    let profile = |it: &&Path| it.file_name().is_some_and(|it| it == "debug" || it == "release");
    let found = own.ancestors().find(profile).and_then(Path::parent);
    found.map(Path::to_owned).context("this program does not lie in cargo's target directory")
}
