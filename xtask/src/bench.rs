//! `bench`: builds the programs as they ship, and measures them beside their peers.

use std::process::Command;

use clap::Args;

use crate::database::{Choice, Databases};
use crate::tools::{self, Tool};
use crate::workspace::{Workspace, passes};

/// The peers that are not databases' servers.
const PEERS: [Tool; 2] =
    [Tool::new("sqlite3", "sqlite3"), Tool::new("mariadb-dump", "mariadb-client")];

/// Options of `bench`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Never install a package; say what is missing instead.
    #[arg(long)]
    no_install: bool,
    /// The case and its options, such as `catalogue --vms 1000` or `copy --quick`; `--help` lists them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, default_value = "--help")]
    case: Vec<String>,
}

/// Runs a case; its figures are for people, and no figure makes it fail.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> anyhow::Result<()> {
    // Only these fill a catalogue, which a server may keep; the hub that copies keeps its own file.
    let case = arguments.case.first().map_or("", String::as_str);
    let catalogue = ["catalogue", "vsphere"].contains(&case);
    let databases = if catalogue { Choice::Mariadb } else { Choice::Sqlite };
    let clients: &[Tool] = if catalogue { &PEERS } else { &[] };
    let wanted = tools::COMMON.iter().chain(clients).chain(databases.tools());
    tools::ensure(wanted, !arguments.no_install)?;
    let programs = workspace.build_release_binaries()?;
    if case == "vsphere" {
        // The vSphere peer is no Rust program; this compiles it beside the others.
        passes(&mut Command::new(programs.join("hub-vsphere-peer")))?;
    }
    let databases = Databases::start(databases)?;
    let mut bench = Command::new(programs.join("bench"));
    bench.args(&arguments.case).envs(databases.variables.iter().cloned());
    passes(bench.env("PATH", tools::path_variable()?))
}
