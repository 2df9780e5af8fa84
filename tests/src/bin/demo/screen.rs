//! What a person sees: one line per step, and a bar while a step runs on a terminal.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Columns of the text of a step; the time stands behind it.
const WIDTH: usize = 82;

/// The output of the demo.
pub(crate) struct Screen {
    is_terminal: bool,
    number: usize,
    name: &'static str,
    started: Instant,
    bar: Option<ProgressBar>,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        Self { is_terminal, number: 0, name: "start", started: Instant::now(), bar: None }
    }

    /// The headline.
    pub(crate) fn title(&self, text: &str) {
        let (bold, plain) = if self.is_terminal { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        println!("{bold}{text}{plain}\n");
    }

    /// A line, or several.
    pub(crate) fn say(&self, text: &str) {
        println!("{text}");
    }

    /// Begins a step.
    pub(crate) fn begin(&mut self, name: &'static str) {
        self.number += 1;
        self.name = name;
        self.started = Instant::now();
        if self.is_terminal {
            let bar = ProgressBar::new(0);
            bar.set_style(style("{spinner:.cyan} {prefix:<15} {elapsed}"));
            bar.set_prefix(name);
            bar.enable_steady_tick(Duration::from_millis(100));
            self.bar = Some(bar);
        }
    }

    /// Shows how far the step is, in bytes.
    pub(crate) fn progress(&self, done: u64, total: u64) {
        let Some(bar) = &self.bar else { return };
        if bar.length() != Some(total) {
            bar.set_style(style(
                "{spinner:.cyan} {prefix:<15} {bar:40.cyan/dim} {binary_bytes} of {binary_total_bytes}, {elapsed}",
            ));
            bar.set_length(total);
        }
        bar.set_position(done);
    }

    /// Ends a step with what came of it; each further line stands below the first.
    pub(crate) fn end(&mut self, outcome: &[String]) {
        let took = seconds(self.started.elapsed());
        self.abandon();
        for (number, line) in outcome.iter().enumerate() {
            if number == 0 {
                let padding = " ".repeat(WIDTH.saturating_sub(line.chars().count()));
                println!("{:>2}  {:<15}{line}{padding} {took:>8}", self.number, self.name);
            } else {
                println!("{:19}{line}", "");
            }
        }
    }

    /// Takes the bar away.
    pub(crate) fn abandon(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// The step that runs, or that ran last.
    pub(crate) fn step_name(&self) -> &'static str {
        self.name
    }
}

/// A long text in lines that the screen has room for.
pub(crate) fn folded(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut().filter(|it| it.chars().count() + word.chars().count() < WIDTH) {
            Some(line) => line.extend([" ", word]),
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

/// A template of ours; one that indicatif refuses would only cost the bar its look.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// A duration for people.
pub(crate) fn seconds(duration: Duration) -> String {
    if duration < Duration::from_millis(950) {
        format!("{} ms", duration.as_millis())
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}

/// A count of bytes for people.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    for (unit, name) in UNITS {
        if count >= unit {
            // Tenths, because a size as a float would be exact no longer and a whole unit says too little.
            let tenths = count.saturating_mul(10) / unit;
            return format!("{}.{} {name}", tenths / 10, tenths % 10);
        }
    }
    format!("{count} B")
}
