//! What was injected, what survived it, and what was lost: one table, and the same as JSON.

use std::collections::BTreeMap;
use std::path::PathBuf;

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};
use serde_json::{Value, json};

/// A loss: the campaign's only failure that counts.
#[derive(Clone, Debug)]
pub(crate) struct Loss {
    /// The kind of injection.
    pub(crate) kind: &'static str,
    /// Which injection of that kind, for a run with the same seed.
    pub(crate) what: String,
    /// What the judge said.
    pub(crate) why: String,
    /// Where everything was left as it was.
    pub(crate) evidence: PathBuf,
}

/// The counts of a campaign.
#[derive(Debug, Default)]
pub(crate) struct Scoreboard {
    rows: Vec<(&'static str, Row)>,
    losses: Vec<Loss>,
    /// How often each named point was reached, and how often a process died there.
    points: BTreeMap<&'static str, (u64, u64)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Row {
    injected: u64,
    survived: u64,
    lost: u64,
}

impl Scoreboard {
    fn row(&mut self, kind: &'static str) -> &mut Row {
        let known = self.rows.iter().position(|(name, _)| *name == kind).unwrap_or(self.rows.len());
        if known == self.rows.len() {
            self.rows.push((kind, Row::default()));
        }
        &mut self.rows[known].1
    }

    /// An injection after which everything was as it must be.
    pub(crate) fn survived(&mut self, kind: &'static str) {
        let row = self.row(kind);
        row.injected += 1;
        row.survived += 1;
    }

    /// An injection after which something was not.
    pub(crate) fn lost(&mut self, loss: Loss) {
        let row = self.row(loss.kind);
        row.injected += 1;
        row.lost += 1;
        self.losses.push(loss);
    }

    /// Adds what another lane has counted.
    pub(crate) fn absorb(&mut self, other: Self) {
        for (kind, counted) in other.rows {
            let row = self.row(kind);
            row.injected += counted.injected;
            row.survived += counted.survived;
            row.lost += counted.lost;
        }
        self.losses.extend(other.losses);
        for (point, (times, deaths)) in other.points {
            let known = self.points.entry(point).or_default();
            known.0 += times;
            known.1 += deaths;
        }
    }

    /// Counts how often a point was reached.
    pub(crate) fn reached(&mut self, point: &'static str, times: u64) {
        self.points.entry(point).or_default().0 += times;
    }

    /// Counts a death at a point.
    pub(crate) fn died_at(&mut self, point: &'static str) {
        self.points.entry(point).or_default().1 += 1;
    }

    /// The points of `all` that no process came to.
    pub(crate) fn never_reached(
        &self,
        all: impl Iterator<Item = &'static str>,
    ) -> Vec<&'static str> {
        all.filter(|point| self.points.get(point).is_none_or(|(times, _)| *times == 0)).collect()
    }

    /// The losses.
    pub(crate) fn losses(&self) -> &[Loss] {
        &self.losses
    }

    /// How often processes were killed, at points and at random.
    pub(crate) fn injected(&self, kind: &str) -> u64 {
        self.rows.iter().find(|(name, _)| *name == kind).map_or(0, |(_, row)| row.injected)
    }

    /// The table for people.
    pub(crate) fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(TableStyle::new().header_separator(LineStyle::none().fill('─')));
        table.set_header(["kind", "injected", "survived", "lost"]);
        let mut sum = Row::default();
        for (kind, row) in &self.rows {
            table.add_row([
                (*kind).to_owned(),
                text(row.injected),
                text(row.survived),
                text(row.lost),
            ]);
            sum.injected += row.injected;
            sum.survived += row.survived;
            sum.lost += row.lost;
        }
        table.add_row(["all".to_owned(), text(sum.injected), text(sum.survived), text(sum.lost)]);
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table.to_string()
    }

    /// The same for programs.
    pub(crate) fn json(&self, seed: u64) -> Value {
        let kinds = self.rows.iter().map(|(kind, row)| {
            json!({"kind": kind, "injected": row.injected, "survived": row.survived, "lost": row.lost})
        });
        let losses = self.losses.iter().map(|loss| {
            json!({
                "kind": loss.kind,
                "what": loss.what,
                "why": loss.why,
                "evidence": loss.evidence.display().to_string(),
            })
        });
        let points = self.points.iter().map(|(point, (reached, deaths))| {
            json!({"point": point, "reached": reached, "deaths": deaths})
        });
        json!({
            "seed": seed,
            "kinds": kinds.collect::<Vec<_>>(),
            "losses": losses.collect::<Vec<_>>(),
            "points": points.collect::<Vec<_>>(),
        })
    }
}

fn text(count: u64) -> String {
    count.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_counted_and_shown_with_its_evidence() {
        let mut board = Scoreboard::default();
        board.survived("kill");
        let (what, why) = ("step 2".to_owned(), "a block is stale".to_owned());
        board.lost(Loss { kind: "kill", what, why, evidence: "/e".into() });
        assert_eq!((board.injected("kill"), board.losses().len()), (2, 1));
        let json = board.json(7);
        assert_eq!(json.pointer("/kinds/0/lost"), Some(&json!(1)));
        assert_eq!(json.pointer("/losses/0/evidence"), Some(&json!("/e")));
        assert!(board.table().contains("kill"));
    }

    #[test]
    fn lanes_are_added_up() {
        let (mut one, mut other) = (Scoreboard::default(), Scoreboard::default());
        one.survived("kill");
        one.reached("a", 1);
        other.survived("kill");
        other.died_at("a");
        let (what, why) = ("step 2".to_owned(), "a block is stale".to_owned());
        other.lost(Loss { kind: "cut", what, why, evidence: "/e".into() });
        one.absorb(other);
        assert_eq!((one.injected("kill"), one.injected("cut"), one.losses().len()), (2, 1, 1));
        let json = one.json(7);
        let point = json.pointer("/points/0").unwrap();
        assert_eq!(*point, json!({"point": "a", "reached": 1, "deaths": 1}));
    }

    #[test]
    fn a_point_that_nobody_came_to_is_told() {
        let mut board = Scoreboard::default();
        board.reached("a", 2);
        board.died_at("b");
        assert_eq!(board.never_reached(["a", "b", "c"].into_iter()), ["b", "c"]);
    }
}
