//! `check`: what must hold before a change is shown to anybody, quickest step first.

use crate::steps::Steps;
use crate::workspace::{Workspace, passes};
use crate::{generated, tidy};

/// Runs every step and stops at the first that fails.
pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    let mut steps = Steps::default();
    steps.run("fmt", || passes(workspace.cargo().args(["fmt", "--all", "--check"])))?;
    steps.run("tidy", || tidy::run(workspace))?;
    steps.run("clippy", || {
        passes(workspace.cargo().args([
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]))
    })?;
    steps.run("doc", || {
        passes(workspace.cargo().env("RUSTDOCFLAGS", "-Dwarnings").args([
            "doc",
            "--workspace",
            "--no-deps",
        ]))
    })?;
    steps.run("gen", || generated::run(workspace, &generated::Arguments { check: true }))?;
    println!("check passed: {}", steps.summary());
    Ok(())
}
