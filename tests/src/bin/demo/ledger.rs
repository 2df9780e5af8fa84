//! What happened: the restore points with their bytes and times, and what each judge said.

use std::fmt::Display;

use anyhow::Result;
use chrono::DateTime;
use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};
use hub_tests::api::Fields as _;
use serde_json::Value;

use crate::screen::{bytes, seconds};

/// Everything that the last screen shows.
#[derive(Default)]
pub(crate) struct Ledger {
    points: Vec<[String; 8]>,
    proofs: Vec<Proof>,
}

struct Proof {
    subject: String,
    judge: &'static str,
    outcome: Result<()>,
}

impl Ledger {
    /// Notes a finished backup of one disk.
    pub(crate) fn point(&mut self, backup: &Value) -> Result<()> {
        let took = DateTime::parse_from_rfc3339(&backup.text("/finished_at")?)?
            - DateTime::parse_from_rfc3339(&backup.text("/started_at")?)?;
        let proven = backup.flag("/proof/agrees")?;
        self.points.push([
            format!("{} disk {}", backup.text("/vm_name")?, backup.number("/disk_id")?),
            backup.text("/backup_type")?,
            backup.text("/method")?,
            bytes(backup.number("/bytes/read")?),
            bytes(backup.number("/bytes/sent")?),
            bytes(backup.number("/stored_bytes")?),
            seconds(took.to_std()?),
            if proven { "both ends agree".to_owned() } else { "NOT PROVEN".to_owned() },
        ]);
        self.prove(&disk_name(backup)?, "both ends", expect(&proven, &true));
        Ok(())
    }

    /// Notes what a judge said about a subject.
    pub(crate) fn prove(&mut self, subject: &str, judge: &'static str, outcome: Result<()>) {
        self.proofs.push(Proof { subject: subject.to_owned(), judge, outcome });
    }

    /// How many judgements were good, and how many there are.
    pub(crate) fn score(&self) -> (usize, usize) {
        let good = self.proofs.iter().filter(|proof| proof.outcome.is_ok()).count();
        (good, self.proofs.len())
    }

    /// What was not as it should be.
    pub(crate) fn failures(&self) -> Vec<String> {
        let failed = self.proofs.iter().filter_map(|proof| {
            let error = proof.outcome.as_ref().err()?;
            Some(format!("{}, {}: {error:#}", proof.subject, proof.judge))
        });
        failed.collect()
    }

    /// One row per restore point.
    pub(crate) fn points_table(&self) -> String {
        let mut table = table();
        table.set_header(["disk", "point", "method", "read", "sent", "stored", "time", "proof"]);
        table.add_rows(&self.points);
        for column in table.column_iter_mut().skip(3).take(4) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        trimmed(&table)
    }

    /// One row per disk, one column per judge; a judge that was asked several times must have agreed each time.
    pub(crate) fn proofs_table(&self) -> String {
        let (mut subjects, mut judges) = (Vec::new(), Vec::new());
        for proof in &self.proofs {
            if !subjects.contains(&proof.subject.as_str()) {
                subjects.push(proof.subject.as_str());
            }
            if !judges.contains(&proof.judge) {
                judges.push(proof.judge);
            }
        }
        let mut table = table();
        table.set_header(std::iter::once("disk").chain(judges.iter().copied()));
        for subject in subjects {
            let cells = judges.iter().map(|judge| self.cell(subject, judge));
            table.add_row(std::iter::once(subject.to_owned()).chain(cells));
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Center);
        }
        trimmed(&table)
    }

    fn cell(&self, subject: &str, judge: &str) -> String {
        let asked = self.proofs.iter().filter(|it| it.subject == subject && it.judge == judge);
        let (good, all) = asked.fold((0, 0), |(good, all), proof| {
            (good + usize::from(proof.outcome.is_ok()), all + 1)
        });
        match (good, all) {
            (_, 0) => String::new(),
            (1, 1) => "✓".to_owned(),
            (good, all) if good == all => format!("✓ ×{all}"),
            (good, all) => format!("✗ {} of {all}", all - good),
        }
    }
}

/// The disk that a backup is of, as the tables name it.
pub(crate) fn disk_name(backup: &Value) -> Result<String> {
    Ok(format!("{} disk {}", backup.text("/vm_name")?, backup.number("/disk_id")?))
}

/// Fails unless both are equal.
pub(crate) fn expect<T: PartialEq + Display>(found: &T, expected: &T) -> Result<()> {
    anyhow::ensure!(found == expected, "found {found}, expected {expected}");
    Ok(())
}

fn table() -> Table {
    let mut table = Table::new();
    table.load_style(TableStyle::new().header_separator(LineStyle::none().fill('─')));
    table
}

fn trimmed(table: &Table) -> String {
    let lines = table.to_string();
    lines.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}
