//! `torture`: builds hub, VMA and the campaign with debug assertions, and lets the campaign kill, starve and damage them.

use std::process::Command;

use clap::Args;

use crate::database::{Choice, Databases};
use crate::tools;
use crate::workspace::{Workspace, passes};

/// Options of `torture`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// How long it goes on; random kills go on to the end beside everything else.
    #[arg(long, default_value_t = 20)]
    minutes: u64,
    /// What every random decision is a function of; chosen and printed unless given.
    #[arg(long)]
    seed: Option<u64>,
    /// A sample of every part, counted and not timed, with the same seed each time unless one is given.
    #[arg(long)]
    short: bool,
    /// Only the parts whose name holds this text: first-start, points, errors, rot, chains, cuts, kills.
    #[arg(long)]
    only: Option<String>,
    /// The catalogue's database, on a server of its own.
    #[arg(long, value_enum, default_value = "sqlite")]
    db: Choice,
    /// Never install a package; say what is missing instead.
    #[arg(long)]
    no_install: bool,
}

/// Runs the campaign; a loss, or a failpoint that was never reached, makes this fail.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> anyhow::Result<()> {
    let database = match arguments.db {
        Choice::Sqlite => "sqlite",
        Choice::Mariadb => "mariadb",
        Choice::Postgres => "postgres",
        Choice::All => anyhow::bail!("a campaign has one database: sqlite, mariadb or postgres"),
    };
    tools::ensure(tools::COMMON.iter().chain(arguments.db.tools()), !arguments.no_install)?;
    // Failpoints exist in debug builds only.
    let programs = workspace.build_binaries([])?;
    let databases = Databases::start(arguments.db)?;
    let mut campaign = Command::new(programs.join("torture"));
    campaign.envs(databases.variables.iter().cloned()).arg("--database").arg(database);
    campaign.env("PATH", tools::path_variable()?);
    campaign.arg("--minutes").arg(arguments.minutes.to_string());
    campaign.arg("--json").arg(programs.join("torture.json"));
    if let Some(seed) = arguments.seed {
        campaign.arg("--seed").arg(seed.to_string());
    }
    if let Some(only) = &arguments.only {
        campaign.arg("--only").arg(only);
    }
    if arguments.short {
        campaign.arg("--short");
    }
    passes(&mut campaign)
}
