//! `migration`: the catalogue's schema by hand.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use hub_migration::{down, fresh, status, up};

/// Brings the schema of the catalogue forwards and backwards.
///
/// The hub runs `up` by itself at every start; this program is for looking, for going back to an older release,
/// and for preparing a database beforehand.
#[derive(Parser)]
#[command(name = "migration", version, after_help = EXAMPLES)]
struct Arguments {
    /// Which database: sqlite:///path/to/catalogue.db, mariadb://user:password@host/name or
    /// postgres://user:password@host/name.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, global = true, value_name = "URL")]
    database_url: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run every step that the database has not seen.
    Up,
    /// Take steps back, the newest first; refuses to lose rows.
    Down {
        /// How many steps.
        #[arg(short = 'n', long = "steps", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        steps: u32,
        /// Go down although rows are lost; disks without a replication job are archived, and `up` puts them back.
        #[arg(long)]
        allow_data_loss: bool,
    },
    /// Show every step and whether the database has it; changes nothing.
    Status,
    /// Drop the catalogue's tables and make them anew; refuses while they hold rows.
    Fresh {
        /// Drop them although rows are lost.
        #[arg(long)]
        allow_data_loss: bool,
    },
}

const EXAMPLES: &str = "Examples:
  migration status --database-url sqlite:///var/lib/sendense/catalogue.db
  migration up     --database-url mariadb://hub:secret@db.example/hub
  migration down -n 3 --allow-data-loss   (with DATABASE_URL set)

Stop the hub before going down: MariaDB cannot roll a step back that was interrupted, it runs it again.";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(said) => {
            say(&said);
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<String> {
    let Some(url) = arguments.database_url else {
        anyhow::bail!("no database named: give --database-url or set DATABASE_URL");
    };
    match arguments.command {
        Command::Up => up(&url).await?,
        Command::Down { steps, allow_data_loss } => {
            let lost = down(&url, Some(steps), allow_data_loss).await.map_err(|error| {
                let lossy = matches!(error, hub_migration::MigrateError::Lossy { .. });
                let error = anyhow::Error::from(error);
                if lossy {
                    error.context("nothing was changed; --allow-data-loss goes on")
                } else {
                    error
                }
            })?;
            let lost: String = lost.iter().map(|loss| format!("{loss}\n")).collect();
            return Ok(lost + &listed(&url).await?);
        }
        Command::Status => {}
        Command::Fresh { allow_data_loss } => fresh(&url, allow_data_loss).await?,
    }
    listed(&url).await
}

/// Every step on a line of its own.
async fn listed(url: &str) -> anyhow::Result<String> {
    let steps = status(url).await?;
    let lines = steps.iter().map(|step| {
        format!("{:8} {}\n", if step.applied { "applied" } else { "pending" }, step.name)
    });
    Ok(lines.collect())
}

#[expect(clippy::print_stdout, reason = "the answer of a command belongs on its output")]
fn say(text: &str) {
    print!("{text}");
}

#[expect(clippy::print_stderr, reason = "the failure of a command belongs on its error output")]
fn complain(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}
