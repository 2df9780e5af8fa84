//! The crash and fault campaign: hub and VMA are killed, starved and lied to, and everything is judged after each time.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the campaign talks to a person at a terminal"
)]

mod campaign;
mod chains;
mod choices;
mod content;
mod cuts;
mod damage;
mod errors;
mod first_start;
mod judge;
mod kills;
mod machine;
mod parts;
mod points;
mod proxy;
mod rot;
mod scoreboard;
mod work;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use hub_block::failpoint::Point;
use hub_testkit::database::DatabaseKind;

use campaign::Campaign;

/// The seed of the short form unless one is given: the same sequence each time.
const SHORT_SEED: u64 = 20_250_101;

/// Kills, starves and damages a hub and a VMA, and judges after each injection what is left.
///
/// The exit code says whether anything was lost, or a named failpoint was never reached.
#[derive(Debug, Parser)]
struct Arguments {
    /// How long it goes on; systematic parts take as much of it as they need, random kills the rest.
    #[arg(long, default_value_t = 20)]
    minutes: u64,
    /// What every random decision is a function of; chosen and printed unless given.
    #[arg(long)]
    seed: Option<u64>,
    /// A sample of every part, counted and not timed, with the same seed each time unless one is given.
    #[arg(long)]
    short: bool,
    /// Only the parts whose name holds this text.
    #[arg(long, default_value = "")]
    only: String,
    /// The catalogue's database: sqlite, mariadb or postgres.
    #[arg(long, default_value = "sqlite")]
    database: String,
    /// A file for the scoreboard as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Where everything about a loss is kept.
    #[arg(long)]
    evidence: Option<PathBuf>,
}

/// One thread, because the processes live as long as the thread that starts them.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let told = tokio::select! {
        told = run(&arguments) => told,
        // Dropping the campaign ends its processes and removes its directory.
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    match told {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("The campaign itself failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the campaign and shows the scoreboard; answers whether nothing was lost.
async fn run(arguments: &Arguments) -> Result<bool> {
    let seed = match arguments.seed {
        Some(seed) => seed,
        None if arguments.short => SHORT_SEED,
        None => fresh_seed()?,
    };
    let evidence = match &arguments.evidence {
        Some(place) => place.clone(),
        None => std::env::temp_dir().join(format!("torture-{seed}")),
    };
    let database = match arguments.database.as_str() {
        "sqlite" => DatabaseKind::Sqlite,
        "mariadb" => DatabaseKind::MariaDb,
        "postgres" => DatabaseKind::Postgres,
        other => anyhow::bail!("`{other}` is no database of the catalogue"),
    };
    println!("seed {seed}");
    let length = Duration::from_secs(arguments.minutes * 60);
    let mut campaign = Campaign::new(seed, arguments.short, length, evidence, database);
    let whole = parts::run(&mut campaign, &arguments.only).await?;
    let all = Point::ALL.iter().map(|point| point.name());
    let unreached = if whole { campaign.board.never_reached(all) } else { Vec::new() };
    println!("\n{}\n", campaign.board.table());
    for loss in campaign.board.losses() {
        println!(
            "LOST {}: {}\n  {}\n  {}",
            loss.kind,
            loss.what,
            loss.why,
            loss.evidence.display()
        );
    }
    for point in &unreached {
        println!("NEVER REACHED {point}");
    }
    println!("{} random kills; again with --seed {seed}", campaign.board.injected(kills::KIND));
    if let Some(path) = &arguments.json {
        let text = format!("{:#}\n", campaign.board.json(seed));
        std::fs::write(path, text).with_context(|| path.display().to_string())?;
    }
    Ok(campaign.board.losses().is_empty() && unreached.is_empty())
}

/// A seed that nobody chose; short enough to be typed.
fn fresh_seed() -> Result<u64> {
    let mut bytes = [0; 4];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
    Ok(u32::from_le_bytes(bytes).into())
}
