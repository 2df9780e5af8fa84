//! `demo`: makes sure of the tools, builds the programs, and has the demo tell its story.

use std::process::Command;

use clap::Args;

use crate::tools;
use crate::workspace::{Workspace, passes};

/// Options of `demo`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Leave hub and VMA running afterwards, and say how to reach and how to stop them.
    #[arg(long, conflicts_with = "vsphere")]
    keep: bool,
    /// Read a VM of a simulated vCenter in place of a datastore folder: discover, pre-flight, full, change,
    /// incremental by changed blocks, audit, restore.
    #[arg(long)]
    vsphere: bool,
    /// Never install a package; say what is missing instead.
    #[arg(long)]
    no_install: bool,
}

/// Runs the demo; a comparison that fails makes this fail.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> anyhow::Result<()> {
    tools::ensure(&tools::COMMON, !arguments.no_install)?;
    let programs = workspace.build_binaries([])?;
    let mut demo = Command::new(programs.join("demo"));
    demo.env("PATH", tools::path_variable()?);
    if arguments.keep {
        demo.arg("--keep");
    }
    if arguments.vsphere {
        // The vSphere peer is no Rust program; this compiles it, so that its time is not the demo's.
        passes(workspace.cargo().args(["run", "--quiet", "-p", "hub-vsphere-peer"]))?;
        demo.arg("--vsphere");
    }
    passes(&mut demo)
}
