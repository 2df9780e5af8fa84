//! What a catalogue was asked to do, seen from outside the hub.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use hub_testkit::database::{DatabaseKind, TestDatabase};

use crate::peer::{Server, piped, sqlite_file};

/// The server's counters of what was executed, prepared or not.
const COUNTERS: [&str; 5] = ["select", "insert", "update", "delete", "commit"];

/// Statements by kind on a server; on SQLite, which counts none, whether its files were written to.
pub(super) enum Statements {
    /// As the server counts them, whoever asked.
    Counted(BTreeMap<String, u64>),
    /// Length and time of the last write of each file of the database.
    Files(Vec<Option<(u64, SystemTime)>>),
    /// Whether these are others than before.
    Written(bool),
}

impl Statements {
    /// How things stand.
    pub(super) fn of(database: &TestDatabase) -> Result<Self> {
        match database.kind {
            DatabaseKind::Sqlite => {
                let file = sqlite_file(&database.url)?;
                let known = ["", "-wal"].map(|end| {
                    let about = fs::metadata(format!("{file}{end}")).ok()?;
                    Some((about.len(), about.modified().ok()?))
                });
                Ok(Self::Files(known.to_vec()))
            }
            DatabaseKind::MariaDb => Self::counted(&database.url),
            DatabaseKind::Postgres => anyhow::bail!("PostgreSQL is not measured here"),
        }
    }

    fn counted(url: &str) -> Result<Self> {
        let arguments = Server::parse(url)?.arguments();
        let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        arguments.extend(["--batch", "--skip-column-names"]);
        let said = piped("mariadb", &arguments, "SHOW GLOBAL STATUS LIKE 'Com_%';\n")?;
        let counted = said.lines().filter_map(|line| {
            let (name, count) = line.strip_prefix("Com_")?.split_once('\t')?;
            COUNTERS.contains(&name).then(|| Some((name.to_owned(), count.trim().parse().ok()?)))?
        });
        let counted: BTreeMap<_, _> = counted.collect();
        counted.get("select").context("the server counts no statements")?;
        Ok(Self::Counted(counted))
    }

    /// What has happened since an earlier look.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        match (self, earlier) {
            (Self::Counted(now), Self::Counted(then)) => {
                let more = |(name, count): (&String, &u64)| {
                    let before = then.get(name).copied().unwrap_or(0);
                    (name.clone(), count.saturating_sub(before))
                };
                Self::Counted(now.iter().map(more).collect())
            }
            (Self::Files(now), Self::Files(then)) => Self::Written(now != then),
            _ => Self::Written(true),
        }
    }

    /// How many wrote; on SQLite 1 where anything did.
    pub(super) fn writing(&self) -> f64 {
        match self {
            Self::Counted(all) => {
                let writing = ["insert", "update", "delete"];
                let count: u64 = writing.iter().filter_map(|it| all.get(*it)).sum();
                u32::try_from(count).map_or(f64::MAX, f64::from)
            }
            Self::Files(_) | Self::Written(true) => 1.0,
            Self::Written(false) => 0.0,
        }
    }
}

impl fmt::Display for Statements {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Counted(all) => {
                let words: Vec<_> = COUNTERS
                    .iter()
                    .map(|it| format!("{} {it}", all.get(*it).copied().unwrap_or(0)))
                    .collect();
                out.write_str(&words.join(", "))
            }
            Self::Files(_) | Self::Written(true) => out.write_str("written to"),
            Self::Written(false) => out.write_str("its files were not written to"),
        }
    }
}
