//! Named steps with their times, so that a long command says where it is and what was slow.

use std::time::{Duration, Instant};

/// Runs steps one after the other and remembers how long each took.
#[derive(Default)]
pub(crate) struct Steps {
    done: Vec<(&'static str, Duration)>,
}

impl Steps {
    /// Announces and runs one step; its error ends the command.
    pub(crate) fn run<T>(
        &mut self,
        name: &'static str,
        step: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        println!("==> {name}");
        let start = Instant::now();
        let outcome = step();
        let took = start.elapsed();
        match &outcome {
            Ok(_) => println!("<== {name}: {}", seconds(took)),
            Err(_) => println!("<== {name}: FAILED after {}", seconds(took)),
        }
        self.done.push((name, took));
        outcome
    }

    /// One line that sums up what was run.
    pub(crate) fn summary(&self) -> String {
        let parts: Vec<_> =
            self.done.iter().map(|(name, took)| format!("{name} {}", seconds(*took))).collect();
        let total = self.done.iter().map(|(_, took)| *took).sum();
        format!("{}; {} in all", parts.join(", "), seconds(total))
    }
}

/// A duration for people.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
