//! The backup engine and what it is made of.

use std::sync::Arc;
use std::time::Duration;

use hub_domain::audit::AuditRuns;
use hub_ports::{
    BackupStorage, Clock, IdGen, RateReadings, SourceNode, SourceWaits, Store, WatchOptions,
};

/// Backs up, cancels, deletes and recovers; cloning gives another handle to the same.
#[derive(Clone)]
pub struct Backup {
    /// The catalogue.
    pub store: Arc<dyn Store>,
    /// Reaches the VMAs.
    pub source: Arc<dyn SourceNode>,
    /// Keeps the images.
    pub storage: Arc<dyn BackupStorage>,
    /// Gives the time.
    pub clock: Arc<dyn Clock>,
    /// Gives ids to runs and jobs.
    pub ids: Arc<dyn IdGen>,
    /// Reads the limits of VMAs; all engines of a hub have the same.
    pub rates: RateReadings,
    /// What its runs wait for at their sources.
    pub waits: SourceWaits,
    /// How patient it is.
    pub options: Options,
}

/// How patient a backup is.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How the copy is watched.
    pub watch: WatchOptions,
    /// Time between two writes of a job's progress.
    pub progress_interval: Duration,
    /// How often a copy is ordered, the first time included, when machines or connections are lost on the way.
    pub copy_attempts: u32,
    /// Time between a loss and the next order, times the number of attempts so far.
    pub attempt_pause: Duration,
    /// Within how many runs every block of a disk is audited, where a run does not say it itself.
    pub audit_runs: AuditRuns,
    /// How long the catalogue may be away before a run gives up writing down how it went.
    pub store_patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            watch: WatchOptions::default(),
            progress_interval: Duration::from_secs(1),
            copy_attempts: 3,
            attempt_pause: Duration::from_secs(2),
            audit_runs: AuditRuns::DEFAULT,
            store_patience: Duration::from_secs(600),
        }
    }
}
