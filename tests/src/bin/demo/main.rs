//! The mission told once on real parts: from discovery to a proven restore, by the public API alone.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the demo talks to a person at a terminal"
)]

mod ledger;
mod screen;
mod stage;
mod story;
mod vsphere;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;

use ledger::Ledger;
use screen::Screen;
use stage::Stage;

/// Makes two VMs with real file systems, protects and restores them, and judges the result with foreign tools.
#[derive(Debug, Parser)]
struct Arguments {
    /// Leave hub and VMA running afterwards, and say how to reach and how to stop them.
    #[arg(long, conflicts_with = "vsphere")]
    keep: bool,
    /// Read a VM of a simulated vCenter in place of a datastore folder.
    #[arg(long)]
    vsphere: bool,
}

/// One thread, because the processes live as long as the thread that starts them.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut screen = Screen::new();
    let told = tokio::select! {
        told = run(&arguments, &mut screen) => told,
        // Dropping the story ends its processes and removes its directory.
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    match told {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            screen.abandon();
            eprintln!("\nThe demo failed in step \"{}\": {error:#}", screen.step_name());
            ExitCode::FAILURE
        }
    }
}

/// Tells the story; answers whether every judge agreed.
async fn run(arguments: &Arguments, screen: &mut Screen) -> Result<bool> {
    if arguments.vsphere {
        return vsphere::run(screen).await;
    }
    let start = Instant::now();
    screen.title("Sendense Hub: from discovery to a proven restore");
    let mut stage = Stage::build(arguments.keep, screen).await?;
    let told = story::tell(&mut stage, screen).await;
    let ledger = match told {
        Ok(ledger) => ledger,
        Err(error) => {
            screen.abandon();
            eprintln!("{}\n{}", stage.hub.program.tail(), stage.vma.program.tail());
            return Err(error);
        }
    };
    show_tables(&ledger, screen);
    stage.close(screen).await?;
    Ok(show_score(&ledger, screen, start))
}

/// Shows the points, what each judge said, and what was not as it should be.
fn show_tables(ledger: &Ledger, screen: &Screen) {
    screen.say(&format!("\n{}\n\n{}", ledger.points_table(), ledger.proofs_table()));
    for failure in ledger.failures() {
        screen.say(&format!("FAILED {failure}"));
    }
}

/// The last line; answers whether every judge agreed.
fn show_score(ledger: &Ledger, screen: &Screen, start: Instant) -> bool {
    let (passed, total) = ledger.score();
    let took = screen::seconds(start.elapsed());
    screen.say(&format!("\n{passed} of {total} comparisons passed in {took}."));
    passed == total
}
