//! Figures: medians of timings, tables for people, JSON for machines.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use comfy_table::{LineStyle, Table, TableStyle};
use serde_json::{Value, json};

/// One measured line.
pub(crate) struct Figure {
    /// On which database, or of which disks.
    case: String,
    /// What was measured.
    what: String,
    /// The result, with its unit.
    value: String,
    /// The result as a number, where it is held against a goal.
    number: Option<f64>,
    /// What it is held against, where there is a goal.
    goal: String,
    /// Whether the goal is met; none where there is no goal.
    met: Option<bool>,
    /// What stands in the way of a goal that is missed.
    limit: &'static str,
}

impl Figure {
    /// A line without a goal.
    pub(crate) fn plain(case: &str, what: &str, value: String) -> Self {
        let (case, what) = (case.to_owned(), what.to_owned());
        Self { case, what, value, number: None, goal: String::new(), met: None, limit: "" }
    }

    /// A line with a goal that is an upper bound.
    pub(crate) fn at_most(case: &str, what: &str, value: f64, goal: f64, unit: &str) -> Self {
        Self::against(case, what, (value, unit), ('≤', goal), value <= goal)
    }

    /// A line with a goal that is a lower bound.
    pub(crate) fn at_least(case: &str, what: &str, value: f64, goal: f64, unit: &str) -> Self {
        Self::against(case, what, (value, unit), ('≥', goal), value >= goal)
    }

    fn against(
        case: &str,
        what: &str,
        (value, unit): (f64, &str),
        (sign, goal): (char, f64),
        met: bool,
    ) -> Self {
        let spelled = format!("{value:.2} {unit}").trim().to_owned();
        Self {
            number: Some(value),
            goal: format!("{sign} {goal} {unit}").trim().to_owned(),
            met: Some(met),
            ..Self::plain(case, what, spelled)
        }
    }

    /// Says what stands in the way, should the goal be missed.
    #[must_use]
    pub(crate) fn limited_by(mut self, limit: &'static str) -> Self {
        self.limit = limit;
        self
    }

    fn verdict(&self) -> &'static str {
        match self.met {
            None => "",
            Some(true) => "met",
            Some(false) => "MISSED",
        }
    }
}

/// The value at this share of the sorted durations, in milliseconds.
pub(crate) fn percentile(durations: &mut [Duration], share: f64) -> f64 {
    durations.sort_unstable();
    let last = durations.len().saturating_sub(1);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index among a few thousand"
    )]
    let index = (last as f64 * share).ceil() as usize;
    durations.get(index.min(last)).map_or(0.0, |it| it.as_secs_f64() * 1000.0)
}

/// The median in seconds.
pub(crate) fn median(mut took: Vec<Duration>) -> f64 {
    percentile(&mut took, 0.5) / 1000.0
}

/// Prints the table, and writes the JSON where asked to.
#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
pub(crate) fn show(title: &str, figures: &[Figure], json: Option<&Path>) -> Result<()> {
    let mut table = Table::new();
    table.load_style(TableStyle::new().header_separator(LineStyle::none().fill('─')));
    table.set_header(["case", "what", "measured", "goal", ""]);
    for figure in figures {
        let cells = [&*figure.case, &figure.what, &figure.value, &figure.goal, figure.verdict()];
        table.add_row(cells);
    }
    println!("{title}\n{table}");
    for missed in figures.iter().filter(|it| it.met == Some(false) && !it.limit.is_empty()) {
        println!("{}, {}: {}", missed.case, missed.what, missed.limit);
    }
    if let Some(path) = json {
        let rows: Vec<Value> = figures
            .iter()
            .map(|it| {
                json!({"case": it.case, "what": it.what, "value": it.value, "number": it.number,
                    "goal": it.goal, "met": it.met})
            })
            .collect();
        std::fs::write(path, serde_json::to_string_pretty(&rows)?)?;
    }
    Ok(())
}
