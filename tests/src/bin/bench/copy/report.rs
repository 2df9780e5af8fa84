//! The table of the copies: medians, ratios, and the goals beside them.

use std::path::Path;

use anyhow::Result;
use comfy_table::{LineStyle, Table, TableStyle};
use serde_json::{Value, json};

use super::peers::Peer;
use super::plan::Goals;
use super::rivals::Took;
use crate::figures::median as seconds;
use crate::ours::Copied;

/// Everything measured in one case.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) ours: Vec<Copied>,
    pub(super) peers: Vec<(Peer, Vec<Took>)>,
    pub(super) goals: Goals,
    /// Bytes that the source has allocated.
    pub(super) allocated: u64,
    /// Bytes that had changed since the parent; all that is allocated for a full copy.
    pub(super) changed: u64,
    /// Disks copied at once.
    pub(super) disks: usize,
    /// Median seconds of our full copy of the same disk, for an incremental.
    pub(super) full: Option<f64>,
    /// Most memory of VMA and hub, in MiB.
    pub(super) peaks: [f64; 2],
}

/// Most memory of a process for each disk that it copies, in MiB.
const MEMORY: f64 = 128.0;

/// A ratio or size, and the bound that it is held against.
#[derive(Debug, PartialEq)]
struct Check {
    what: &'static str,
    value: f64,
    bound: f64,
}

impl Check {
    fn met(&self) -> bool {
        self.value <= self.bound
    }

    fn line(&self) -> String {
        let verdict = if self.met() { "met" } else { "MISSED" };
        format!("{} {:.2} ≤ {} {verdict}", self.what, self.value, self.bound)
    }
}

impl Case {
    /// Median seconds of our wall time.
    pub(super) fn median(&self) -> f64 {
        seconds(self.ours.iter().map(|it| it.wall).collect())
    }

    fn job_median(&self) -> f64 {
        seconds(self.ours.iter().map(|it| it.job).collect())
    }

    fn best(&self, wanted: impl Fn(Peer) -> bool) -> Option<f64> {
        let wanted = self.peers.iter().filter(|(peer, _)| wanted(*peer));
        wanted.map(|(_, took)| wall_of(took)).min_by(f64::total_cmp)
    }

    /// Median seconds of processor time of our runs.
    fn cpu_median(&self) -> f64 {
        seconds(self.ours.iter().map(|it| it.cpu).collect())
    }

    /// Processor time of ours ÷ that of the peer that needs the least.
    fn cpu_ratio(&self) -> Option<f64> {
        let least = self.peers.iter().map(|(_, took)| cpu_of(took)).min_by(f64::total_cmp);
        least.filter(|least| *least > 0.0).map(|least| self.cpu_median() / least)
    }

    /// Our processor time in seconds for each GiB that had changed.
    fn cpu_per_gib(&self) -> f64 {
        self.cpu_median() / share(self.changed, 1 << 30)
    }

    fn ratio(&self, wanted: impl Fn(Peer) -> bool) -> Option<f64> {
        self.best(wanted).map(|best| self.median() / best)
    }

    /// Bytes that our images take.
    fn stored(&self) -> u64 {
        self.ours.iter().map(|it| it.stored).max().unwrap_or(0)
    }

    /// Our images ÷ the smallest of a tuned peer.
    fn image_ratio(&self) -> Option<f64> {
        let tuned = self.peers.iter().filter(|(peer, _)| peer.is_tuned());
        let least = tuned.flat_map(|(_, took)| took).map(|it| it.stored).min();
        least.filter(|least| *least > 0).map(|least| share(self.stored(), least))
    }

    /// The most that any round read, ÷ `bytes`.
    fn read_of(&self, bytes: u64) -> f64 {
        share(self.ours.iter().map(|it| it.read).max().unwrap_or(0), bytes)
    }

    /// The most that any round sent, ÷ what had changed.
    fn sent(&self) -> f64 {
        share(self.ours.iter().map(|it| it.sent).max().unwrap_or(0), self.changed)
    }

    fn checks(&self) -> Vec<Check> {
        let goals = self.goals;
        let full = self.full.map(|full| self.median() / full);
        #[expect(clippy::cast_precision_loss, reason = "a handful of disks")]
        let disks = self.disks.max(1) as f64;
        let [vma, hub] = self.peaks.map(|it| Some(it / disks));
        let wanted = self.changed + self.ours.iter().map(|it| it.audited).max().unwrap_or(0);
        let all = [
            ("÷ best tuned", self.ratio(Peer::is_tuned), goals.tuned),
            ("÷ best default", self.ratio(|it| !it.is_tuned()), goals.default),
            ("÷ own full", full, goals.full),
            ("read ÷ allocated", Some(self.read_of(self.allocated)), goals.read),
            ("read ÷ changed + audited", Some(self.read_of(wanted)), goals.read_changed),
            ("sent ÷ changed", Some(self.sent()), goals.sent),
            ("image ÷ best tuned", self.image_ratio(), goals.image),
            ("VMA MiB per disk", vma, Some(MEMORY)),
            ("hub MiB per disk", hub, Some(MEMORY)),
        ];
        let check = |(what, value, bound): (_, Option<_>, Option<_>)| {
            Some(Check { what, value: value?, bound: bound? })
        };
        all.into_iter().filter_map(check).collect()
    }

    fn row(&self) -> [String; 10] {
        let lines = |it: Vec<String>| it.join("\n");
        let peers = self.peers.iter();
        let checks = self.checks();
        [
            self.name.clone(),
            format!("{:.2}\n(job {:.2})", self.median(), self.job_median()),
            lines(
                peers
                    .map(|(peer, took)| {
                        let (wall, cpu) = (wall_of(took), cpu_of(took));
                        format!("{} {wall:.2} (cpu {cpu:.2})", peer.label())
                    })
                    .collect(),
            ),
            self.ratio(|_| true).map(|it| format!("{it:.2}")).unwrap_or_default(),
            lines(vec![
                format!("{:.2}", self.cpu_median()),
                format!("{:.2} per GiB", self.cpu_per_gib()),
                self.cpu_ratio().map(|it| format!("{it:.2} ÷ least")).unwrap_or_default(),
            ]),
            format!("{:.3}", self.read_of(self.allocated)),
            format!("{:.3}", self.sent()),
            lines(vec![
                format!("{:.0}", mib(self.stored())),
                self.image_ratio().map(|it| format!("{it:.3} ÷ tuned")).unwrap_or_default(),
            ]),
            format!("{:.0} / {:.0}", self.peaks[0], self.peaks[1]),
            lines(checks.iter().map(Check::line).collect()),
        ]
    }

    fn json(&self) -> Value {
        let peers = self.peers.iter().map(|(peer, took)| {
            let rounds = |what: fn(&Took) -> f64| took.iter().map(what).collect::<Vec<_>>();
            json!({"peer": peer.label(), "tuned": peer.is_tuned(),
                "rounds_s": rounds(|it| it.wall.as_secs_f64()),
                "cpu_s": rounds(|it| it.cpu.as_secs_f64()),
                "image_bytes": took.iter().map(|it| it.stored).max(),
                "median_s": wall_of(took), "cpu_median_s": cpu_of(took)})
        });
        let checks = self.checks();
        let checks = checks.iter().map(
            |it| json!({"what": it.what, "value": it.value, "bound": it.bound, "met": it.met()}),
        );
        let ours = self.ours.iter().map(|it| {
            json!({"wall_s": it.wall.as_secs_f64(), "job_s": it.job.as_secs_f64(),
                "cpu_s": it.cpu.as_secs_f64(), "read": it.read, "sent": it.sent,
                "image_bytes": it.stored})
        });
        json!({"case": self.name, "median_s": self.median(), "cpu_median_s": self.cpu_median(),
            "cpu_s_per_gib": self.cpu_per_gib(), "rounds": ours.collect::<Vec<_>>(),
            "peers": peers.collect::<Vec<_>>(), "goals": checks.collect::<Vec<_>>(),
            "allocated": self.allocated, "changed": self.changed, "disks": self.disks,
            "vma_peak_mib": self.peaks[0], "hub_peak_mib": self.peaks[1]})
    }
}

/// Prints the table, and writes the JSON where asked to.
#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
pub(super) fn show(title: &str, cases: &[Case], json: Option<&Path>) -> Result<()> {
    let mut table = Table::new();
    table.load_style(TableStyle::new().header_separator(LineStyle::none().fill('─')));
    table.set_header([
        "case",
        "ours, s",
        "peers, s",
        "ours ÷ best",
        "our CPU, s",
        "read ÷ allocated",
        "sent ÷ changed",
        "image, MiB",
        "VMA / hub, MiB",
        "goals",
    ]);
    for case in cases {
        table.add_row(case.row());
    }
    println!("{title}\n{table}");
    if let Some(path) = json {
        let rows: Vec<_> = cases.iter().map(Case::json).collect();
        std::fs::write(path, serde_json::to_string_pretty(&rows)?)?;
    }
    Ok(())
}

fn wall_of(took: &[Took]) -> f64 {
    seconds(took.iter().map(|it| it.wall).collect())
}

fn cpu_of(took: &[Took]) -> f64 {
    seconds(took.iter().map(|it| it.cpu).collect())
}

fn mib(bytes: u64) -> f64 {
    share(bytes, 1 << 20)
}

#[expect(clippy::cast_precision_loss, reason = "a ratio of a few digits")]
fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_goal_is_held_against_its_own_peers() {
        let took = |ms: [u64; 3]| {
            ms.map(|ms| Took {
                wall: Duration::from_millis(ms),
                cpu: Duration::from_millis(ms / 2),
                stored: ms,
            })
            .to_vec()
        };
        let case = Case {
            name: "a".to_owned(),
            ours: vec![Copied::example(Duration::from_secs(3), 110, 100)],
            peers: vec![
                (Peer::Convert, took([9000, 6000, 1000])),
                (Peer::NbdCopy, took([8000, 8000, 8000])),
                (Peer::ConvertTuned, took([4000, 4000, 4000])),
            ],
            goals: Goals {
                tuned: Some(0.8),
                default: Some(0.4),
                read: Some(1.02),
                image: Some(1.02),
                ..Goals::default()
            },
            allocated: 100,
            changed: 100,
            disks: 1,
            full: None,
            peaks: [10.0, 200.0],
        };
        let found: Vec<_> = case.checks().iter().map(|it| (it.what, it.value, it.met())).collect();
        let expected = [
            ("÷ best tuned", 0.75, true),
            ("÷ best default", 0.5, false),
            ("read ÷ allocated", 1.1, false),
            ("image ÷ best tuned", 0.025, true),
            ("VMA MiB per disk", 10.0, true),
            ("hub MiB per disk", 200.0, false),
        ];
        assert_eq!(found, expected);
        assert_eq!(case.cpu_ratio(), Some(1.5), "its own least, not that of the fastest");
    }
}
