//! `test`: builds everything once, runs every test against real databases, and sums up.

mod tally;

use std::io::{BufRead as _, BufReader};
use std::process::Command;

use anyhow::{Context as _, ensure};
use clap::Args;

use crate::database::{Choice, Databases};
use crate::steps::Steps;
use crate::tools;
use crate::workspace::{Workspace, passes};
use tally::Tally;

/// Options of `test`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Which databases to test; anything less than all lets tests of the others skip.
    #[arg(long, value_enum, default_value = "all")]
    db: Choice,
    /// Never install a package; say what is missing instead.
    #[arg(long)]
    no_install: bool,
    /// Arguments of `cargo test`, such as `-p hub-store` or a part of a test's name.
    #[arg(last = true)]
    cargo: Vec<String>,
}

/// Runs the tests; any that fails makes this fail.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> anyhow::Result<()> {
    let mut steps = Steps::default();
    steps.run("tools", || {
        tools::ensure(tools::COMMON.iter().chain(arguments.db.tools()), !arguments.no_install)
    })?;
    let selection = Selection::of(&arguments.cargo);
    steps.run("build", || build(workspace, selection))?;
    let databases = steps.run("databases", || Databases::start(arguments.db))?;
    let tally = steps.run("tests", || {
        let mut cargo = workspace.cargo();
        cargo.args(["test", "--no-fail-fast"]);
        if selection == Selection::Everything {
            cargo.arg("--workspace");
        }
        cargo.args(&arguments.cargo);
        cargo.envs(databases.variables.iter().cloned()).env("PATH", tools::path_variable()?);
        if arguments.db == Choice::All {
            cargo.env("HUB_TEST_REQUIRE", "1");
        }
        watch(cargo)
    });
    steps.run("stop", || {
        drop(databases);
        Ok(())
    })?;
    let tally = tally?;
    print!("{}", tally.report());
    println!("times: {}", steps.summary());
    ensure!(tally.passed(), "not every test passed, or none ran");
    Ok(())
}

/// How much of the workspace the caller's arguments ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Selection {
    /// No package is named.
    Everything,
    /// Some are, and the end-to-end tests are among them.
    WithProcesses,
    /// Some are.
    Libraries,
}

impl Selection {
    fn of(arguments: &[String]) -> Self {
        let before_filters: Vec<_> =
            arguments.iter().map(String::as_str).take_while(|it| *it != "--").collect();
        if before_filters.contains(&"hub-tests") || before_filters.contains(&"--package=hub-tests")
        {
            Self::WithProcesses
        } else if before_filters
            .iter()
            .any(|it| it.starts_with("-p") || it.starts_with("--package"))
        {
            Self::Libraries
        } else {
            Self::Everything
        }
    }
}

/// Compiles in a step of its own what the tests need, so that their time is theirs.
fn build(workspace: &Workspace, selection: Selection) -> anyhow::Result<()> {
    match selection {
        Selection::Everything => {
            passes(workspace.cargo().args(["build", "--workspace", "--all-targets"]))?;
            // The vSphere peer is no Rust program; this compiles it and says where it lies.
            passes(workspace.cargo().args(["run", "--quiet", "-p", "hub-vsphere-peer"]))
        }
        // The end-to-end tests start the binaries, which `cargo test -p` would not build.
        Selection::WithProcesses => workspace.build_binaries([]).map(drop),
        Selection::Libraries => Ok(()),
    }
}

/// Runs a command, shows its output as it comes, and counts what it says.
fn watch(mut command: Command) -> anyhow::Result<Tally> {
    // One pipe for both streams keeps the name of a test binary in front of its results.
    let (reader, writer) = std::io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().context("cannot run cargo")?;
    // The command owns the writing ends; while it lives the pipe would never end.
    drop(command);
    let mut tally = Tally::default();
    for line in BufReader::new(reader).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        println!("{line}");
        tally.read(&line);
    }
    tally.ended(child.wait()?.success());
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(String::from).collect()
    }

    #[test]
    fn a_named_package_narrows_the_run_and_a_filter_does_not() {
        assert_eq!(Selection::of(&words("acceptance --lib")), Selection::Everything);
        assert_eq!(Selection::of(&words("name -- -p")), Selection::Everything);
        assert_eq!(Selection::of(&words("-p hub-store")), Selection::Libraries);
        assert_eq!(Selection::of(&words("--package=hub-store")), Selection::Libraries);
        assert_eq!(Selection::of(&words("-p hub-store -p hub-tests")), Selection::WithProcesses);
    }

    #[test]
    fn both_streams_are_counted_and_the_exit_code_too() {
        let mut command = Command::new("sh");
        let script = "echo '     Running unittests src/lib.rs (target/debug/deps/hub_block-0a)' >&2; \
             echo 'test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s'; exit 101";
        command.args(["-c", script]);
        let tally = watch(command).unwrap();
        assert!(!tally.passed());
        assert!(tally.report().contains("3 passed, 1 failed"), "{}", tally.report());
        assert!(tally.report().contains("hub_block"), "{}", tally.report());
    }
}
