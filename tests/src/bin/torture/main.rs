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
use clap::{Parser, ValueEnum};
use hub_block::failpoint::Point;
use hub_testkit::database::DatabaseKind;

use campaign::Campaign;
use parts::Lane;
use scoreboard::Scoreboard;

/// The seed of the short form unless one is given: the same sequence each time.
const SHORT_SEED: u64 = 20_250_101;

/// Kills, starves and damages a hub and a VMA, and judges after each injection what is left.
///
/// The exit code says whether anything was lost, or a named failpoint was never reached.
#[derive(Debug, Parser)]
struct Arguments {
    /// How long it goes on; random kills go on to the end beside everything else.
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
    /// The catalogue's database.
    #[arg(long, value_enum, default_value = "sqlite")]
    database: Database,
    /// A file for the scoreboard as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Where everything about a loss is kept.
    #[arg(long)]
    evidence: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("The campaign itself failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A database that a catalogue can be in.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Database {
    Sqlite,
    Mariadb,
    Postgres,
}

impl From<Database> for DatabaseKind {
    fn from(database: Database) -> Self {
        match database {
            Database::Sqlite => Self::Sqlite,
            Database::Mariadb => Self::MariaDb,
            Database::Postgres => Self::Postgres,
        }
    }
}

/// Runs the campaign and shows the scoreboard; answers whether nothing was lost.
fn run(arguments: &Arguments) -> Result<bool> {
    let seed = match arguments.seed {
        Some(seed) => seed,
        None if arguments.short => SHORT_SEED,
        None => fresh_seed()?,
    };
    println!("seed {seed}");
    let lanes = if arguments.short {
        // A test among others: one thing after the other.
        Lane::ALL.map(|lane| travel(arguments, seed, lane))
    } else {
        beside_each_other(arguments, seed)
    };
    let (mut board, mut failed) = (Scoreboard::default(), Vec::new());
    for (counted, done) in lanes {
        board.absorb(counted);
        failed.extend(done.err());
    }
    let all = Point::ALL.iter().map(|point| point.name());
    let whole = arguments.only.is_empty() && failed.is_empty();
    let unreached = if whole { board.never_reached(all) } else { Vec::new() };
    println!("\n{}\n", board.table());
    for loss in board.losses() {
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
    println!("{} random kills; again with --seed {seed}", board.injected(kills::KIND));
    if let Some(path) = &arguments.json {
        let text = format!("{:#}\n", board.json(seed));
        std::fs::write(path, text).with_context(|| path.display().to_string())?;
    }
    match failed.into_iter().next() {
        Some(error) => Err(error),
        None => Ok(board.losses().is_empty() && unreached.is_empty()),
    }
}

/// Every lane on a thread of its own, because most of their time is waiting.
fn beside_each_other(arguments: &Arguments, seed: u64) -> [(Scoreboard, Result<()>); 4] {
    std::thread::scope(|scope| {
        let lanes = Lane::ALL.map(|lane| scope.spawn(move || travel(arguments, seed, lane)));
        lanes.map(|lane| {
            let panicked = || (Scoreboard::default(), Err(anyhow::anyhow!("a lane panicked")));
            lane.join().unwrap_or_else(|_| panicked())
        })
    })
}

/// Runs one lane on this thread, which its processes do not outlive; answers what it has counted, and whether it came
/// to its end.
fn travel(arguments: &Arguments, seed: u64, lane: Lane) -> (Scoreboard, Result<()>) {
    let evidence = match &arguments.evidence {
        Some(place) => place.clone(),
        None => std::env::temp_dir().join(format!("torture-{seed}")),
    };
    let length = Duration::from_secs(arguments.minutes * 60);
    let evidence = evidence.join(lane.name());
    let database = arguments.database;
    let mut campaign = Campaign::new(seed, arguments.short, length, evidence, database.into());
    let done = walk(&mut campaign, lane, &arguments.only);
    (campaign.board, done.with_context(|| format!("the lane `{}`", lane.name())))
}

fn walk(campaign: &mut Campaign, lane: Lane, only: &str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::select! {
            done = lane.run(campaign, only) => done,
            // Dropping its world ends the processes and removes their directory.
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        }
    })
}

/// A seed that nobody chose; short enough to be typed.
fn fresh_seed() -> Result<u64> {
    let mut bytes = [0; 4];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
    Ok(u32::from_le_bytes(bytes).into())
}
