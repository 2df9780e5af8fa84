//! Prints the state machine of jobs as a document, found by trying every event in every state.

#![expect(clippy::print_stdout, reason = "printing is what this example is for")]

use hub_domain::fault::Fault;
use hub_domain::job::{JobEvent, JobState, JobStatus};
use hub_domain::time::Timestamp;

fn main() {
    let arrows = arrows();
    println!("# State machines\n");
    println!(
        "Written by `cargo xtask gen` from the types of the domain; a job of any kind lives by this table.\n"
    );
    println!("```mermaid\nstateDiagram-v2\n    [*] --> queued");
    for (from, event, to) in &arrows {
        println!("    {from} --> {to}: {event}");
    }
    for status in JobStatus::ALL.into_iter().filter(|status| status.is_terminal()) {
        println!("    {} --> [*]", status.word());
    }
    println!("```\n");
    println!("| from | event | to |\n|---|---|---|");
    for (from, event, to) in &arrows {
        println!("| {from} | {event} | {to} |");
    }
    println!("\nEvery other event is refused.");
}

/// Every transition, by the words of the states and the name of the event.
fn arrows() -> Vec<(&'static str, &'static str, &'static str)> {
    let at = Timestamp::UNIX_EPOCH;
    let fault = || Fault::new("area/code", "what to do");
    let mut arrows = Vec::new();
    for status in JobStatus::ALL {
        let Some(state) = JobState::from_parts(status, Some(at), Some(at), Some(fault())) else {
            continue;
        };
        let events = [
            JobEvent::Started,
            JobEvent::Succeeded,
            JobEvent::Failed(fault()),
            JobEvent::CancelRequested,
            JobEvent::Cancelled,
            JobEvent::Interrupted(fault()),
            JobEvent::Requeued,
        ];
        for event in events {
            let name = event.name();
            if let Ok(next) = state.clone().apply(event, at) {
                arrows.push((status.word(), name, next.status().word()));
            }
        }
    }
    arrows
}
