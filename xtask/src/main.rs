#![doc = include_str!("../README.md")]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "these commands talk to a person at a terminal"
)]

mod bench;
mod check;
mod database;
mod demo;
mod generated;
mod server;
mod steps;
mod suite;
mod tidy;
mod tools;
mod torture;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Developer commands of the workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Formatting, lints, house rules, rustdoc and generated documents.
    Check,
    /// The house rules alone.
    Tidy,
    /// Every test, on every database; arguments after `--` go to `cargo test`.
    Test(suite::Arguments),
    /// Runs private database servers until interrupted, and prints how to reach them.
    Db(database::Arguments),
    /// Tells the whole story on real disks: discover, replicate, back up, restore, compare.
    Demo(demo::Arguments),
    /// Measures a release build beside its peers, in the same run.
    Bench(bench::Arguments),
    /// Kills, starves and damages hub and VMA, and judges after each injection what is left.
    Torture(torture::Arguments),
    /// Writes the generated documents.
    Gen(generated::Arguments),
}

fn main() -> ExitCode {
    match run(&Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> anyhow::Result<()> {
    let workspace = workspace::Workspace::locate()?;
    match command {
        Command::Check => check::run(&workspace),
        Command::Tidy => tidy::run(&workspace),
        Command::Test(arguments) => suite::run(&workspace, arguments),
        Command::Db(arguments) => database::run(arguments),
        Command::Demo(arguments) => demo::run(&workspace, arguments),
        Command::Bench(arguments) => bench::run(&workspace, arguments),
        Command::Torture(arguments) => torture::run(&workspace, arguments),
        Command::Gen(arguments) => generated::run(&workspace, arguments),
    }
}
