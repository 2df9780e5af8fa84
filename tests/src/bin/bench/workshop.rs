//! What the measurements of the data path have in common: how large they are, where they work, what they say.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use hub_tests::tool;
use tempfile::TempDir;

/// How large, where, and where the figures go.
#[derive(clap::Args)]
pub(crate) struct Terms {
    /// Disks of an eighth of the size, for every day.
    #[arg(long, conflicts_with = "half")]
    quick: bool,
    /// Disks of half the size, where there is no room for whole ones.
    #[arg(long)]
    half: bool,
    /// Where disks and images lie while it runs; the system's temporary directory unless set.
    #[arg(long)]
    place: Option<PathBuf>,
    /// Also writes the figures as JSON.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
}

impl Terms {
    /// What sizes are divided by.
    pub(crate) const fn shrink(&self) -> u64 {
        match (self.quick, self.half) {
            (true, _) => 8,
            (false, true) => 2,
            (false, false) => 1,
        }
    }

    /// The size in words.
    pub(crate) const fn size(&self) -> &'static str {
        match (self.quick, self.half) {
            (true, _) => "an eighth of the size",
            (false, true) => "half the size",
            (false, false) => "full size",
        }
    }
}

/// A directory that goes with all that is in it.
pub(crate) fn folder(terms: &Terms) -> Result<TempDir> {
    ensure!(tool::present(&tool::DISK_TOOLS)?, "`cargo xtask bench` installs the tools");
    let mut folder = tempfile::Builder::new();
    let folder = folder.prefix("hub-bench-");
    Ok(match &terms.place {
        Some(place) => folder.tempdir_in(place)?,
        None => folder.tempdir()?,
    })
}

#[expect(clippy::print_stdout, reason = "progress of a long run")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}
