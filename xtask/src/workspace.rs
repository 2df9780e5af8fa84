//! The workspace on disk and what cargo says about it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;

/// Variables that `cargo run` sets for this program, and that would confuse a cargo beneath it.
const OWN_VARIABLES: [&str; 5] =
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_NAME", "CARGO_BIN_NAME", "LD_LIBRARY_PATH"];

/// The checkout that the commands work on.
pub(crate) struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// Asks cargo where the workspace of the current directory is.
    pub(crate) fn locate() -> anyhow::Result<Self> {
        let manifest = output(Command::new("cargo").args([
            "locate-project",
            "--workspace",
            "--message-format",
            "plain",
        ]))?;
        let root = Path::new(manifest.trim()).parent().context("cargo named no directory")?;
        Ok(Self { root: root.to_owned() })
    }

    /// The directory of the root manifest.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A cargo that runs in the root, free of what the cargo above has set.
    pub(crate) fn cargo(&self) -> Command {
        let mut cargo = Command::new("cargo");
        cargo.current_dir(&self.root);
        for (name, _) in std::env::vars_os() {
            let own = name
                .to_str()
                .is_some_and(|name| OWN_VARIABLES.iter().any(|own| name.starts_with(own)));
            if own {
                cargo.env_remove(&name);
            }
        }
        cargo
    }

    /// The members of the workspace with their declared dependencies.
    pub(crate) fn metadata(&self) -> anyhow::Result<Metadata> {
        let json = output(self.cargo().args(["metadata", "--format-version", "1", "--no-deps"]))?;
        let raw: RawMetadata =
            serde_json::from_str(&json).context("cargo metadata has changed its shape")?;
        raw.relative_to(&self.root)
    }

    /// Builds every binary and some examples, and answers the directory in which they lie.
    ///
    /// A test target is named along with them, because cargo then resolves features as it does for `cargo test`,
    /// and the tests reuse what is compiled here.
    pub(crate) fn build_binaries<'a>(
        &self,
        examples: impl IntoIterator<Item = &'a str>,
    ) -> anyhow::Result<PathBuf> {
        let metadata = self.metadata()?;
        let mut cargo = self.cargo();
        cargo.args(["build", "--workspace", "--bins", "--test", "wire"]);
        for example in examples {
            cargo.args(["--example", example]);
        }
        passes(&mut cargo)?;
        Ok(metadata.target_directory.join("debug"))
    }

    /// Builds every binary as it ships, and answers the directory in which they lie.
    pub(crate) fn build_release_binaries(&self) -> anyhow::Result<PathBuf> {
        let metadata = self.metadata()?;
        passes(self.cargo().args(["build", "--workspace", "--bins", "--release"]))?;
        Ok(metadata.target_directory.join("release"))
    }
}

/// What this program needs of `cargo metadata`.
pub(crate) struct Metadata {
    /// Where cargo puts what it builds.
    pub(crate) target_directory: PathBuf,
    /// Every member.
    pub(crate) packages: Vec<Package>,
}

/// One member of the workspace.
pub(crate) struct Package {
    /// Package name.
    pub(crate) name: String,
    /// Directory, relative to the root (`crates/domain`).
    pub(crate) directory: String,
    /// Everything that its manifest names.
    pub(crate) dependencies: Vec<Dependency>,
}

/// One line of a dependency table.
#[derive(Clone, Deserialize)]
pub(crate) struct Dependency {
    /// Package name of the dependency.
    pub(crate) name: String,
    /// `None` for a normal dependency, else `dev` or `build`.
    pub(crate) kind: Option<String>,
}

impl Dependency {
    /// Whether only tests, examples and benches see it.
    pub(crate) fn is_dev(&self) -> bool {
        self.kind.as_deref() == Some("dev")
    }
}

#[derive(Deserialize)]
struct RawMetadata {
    target_directory: PathBuf,
    packages: Vec<RawPackage>,
}

#[derive(Deserialize)]
struct RawPackage {
    name: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
}

impl RawMetadata {
    fn relative_to(self, root: &Path) -> anyhow::Result<Metadata> {
        let packages = self.packages.into_iter().map(|package| {
            let directory = package
                .manifest_path
                .parent()
                .and_then(|directory| directory.strip_prefix(root).ok())
                .and_then(Path::to_str)
                .with_context(|| format!("package {} lies outside the workspace", package.name))?
                .to_owned();
            Ok(Package { name: package.name, directory, dependencies: package.dependencies })
        });
        Ok(Metadata {
            target_directory: self.target_directory,
            packages: packages.collect::<anyhow::Result<_>>()?,
        })
    }
}

/// Runs a command with its output on the terminal; anything but success is an error.
pub(crate) fn passes(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("cannot run {}", spelled(command)))?;
    ensure!(status.success(), "`{}` ended with {status}", spelled(command));
    Ok(())
}

/// Runs a command and answers what it wrote; anything but success is an error that quotes its complaint.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let done = command.output().with_context(|| format!("cannot run {}", spelled(command)))?;
    if !done.status.success() {
        let complaint = String::from_utf8_lossy(&done.stderr);
        bail!("`{}` ended with {}:\n{}", spelled(command), done.status, complaint.trim());
    }
    String::from_utf8(done.stdout).with_context(|| format!("`{}` wrote no UTF-8", spelled(command)))
}

fn spelled(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
