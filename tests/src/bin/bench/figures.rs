//! Figures: medians of timings, tables for people, JSON for machines.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use comfy_table::{LineStyle, Table, TableStyle};
use serde_json::{Value, json};

/// One measured line.
pub(crate) struct Figure {
    /// On which database.
    pub(crate) database: &'static str,
    /// What was measured.
    pub(crate) what: &'static str,
    /// The result, with its unit.
    pub(crate) value: String,
    /// What it is held against, where there is a goal.
    pub(crate) goal: String,
    /// Whether the goal is met; none where there is no goal.
    pub(crate) met: Option<bool>,
}

impl Figure {
    /// A line without a goal.
    pub(crate) fn plain(database: &'static str, what: &'static str, value: String) -> Self {
        Self { database, what, value, goal: String::new(), met: None }
    }

    /// A line with a goal that is an upper bound.
    pub(crate) fn at_most(
        database: &'static str,
        what: &'static str,
        value: f64,
        goal: f64,
        unit: &str,
    ) -> Self {
        Self {
            database,
            what,
            value: format!("{value:.2} {unit}").trim().to_owned(),
            goal: format!("≤ {goal} {unit}").trim().to_owned(),
            met: Some(value <= goal),
        }
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

/// Prints the table, and writes the JSON where asked to.
#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
pub(crate) fn show(title: &str, figures: &[Figure], json: Option<&Path>) -> Result<()> {
    let mut table = Table::new();
    table.load_style(TableStyle::new().header_separator(LineStyle::none().fill('─')));
    table.set_header(["database", "what", "measured", "goal", ""]);
    for figure in figures {
        let cells = [figure.database, figure.what, &figure.value, &figure.goal, figure.verdict()];
        table.add_row(cells);
    }
    println!("{title}\n{table}");
    if let Some(path) = json {
        let rows: Vec<Value> = figures
            .iter()
            .map(|it| {
                json!({"database": it.database, "what": it.what, "value": it.value,
                    "goal": it.goal, "met": it.met})
            })
            .collect();
        std::fs::write(path, serde_json::to_string_pretty(&rows)?)?;
    }
    Ok(())
}
