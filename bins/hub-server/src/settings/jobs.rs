//! How much the hub does at a time, and how patient it is with it.

use std::time::Duration;

use anyhow::{Context, Result};
use hub_domain::audit::AuditRuns;
use hub_domain::limits::CopyCount;
use serde::{Deserialize, Serialize};

/// How many VMs it copies at a time, whatever VMAs and repositories allow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CopySettings {
    max: u32,
}

impl Default for CopySettings {
    fn default() -> Self {
        Self { max: CopyCount::DEFAULT.get() }
    }
}

impl CopySettings {
    /// The limit.
    pub(crate) fn max(&self) -> Result<CopyCount> {
        CopyCount::new(self.max).context("copies.max")
    }
}

/// How backups are made, where their requests do not say it themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct BackupSettings {
    audit_runs: u32,
}

impl Default for BackupSettings {
    fn default() -> Self {
        Self { audit_runs: AuditRuns::DEFAULT.get().get() }
    }
}

impl BackupSettings {
    /// Within how many incrementals every block that was reported unchanged is read once.
    pub(crate) fn audit_runs(&self) -> Result<AuditRuns> {
        AuditRuns::new(self.audit_runs).context("backup.audit_runs")
    }
}

/// How much it does at a time beside copies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct JobSettings {
    pub(crate) concurrent: usize,
    stop_grace_seconds: u64,
    /// How often a copy is ordered when machines or connections are lost on the way.
    pub(crate) copy_attempts: u32,
    checkpoint_seconds: u64,
    /// After which time a snapshot that could not be removed is warned of.
    owed_alarm_minutes: u64,
}

impl Default for JobSettings {
    fn default() -> Self {
        Self {
            concurrent: 4,
            stop_grace_seconds: 20,
            copy_attempts: 3,
            checkpoint_seconds: 30,
            owed_alarm_minutes: 360,
        }
    }
}

impl JobSettings {
    /// How long jobs may take to stop.
    pub(crate) fn grace(&self) -> Duration {
        Duration::from_secs(self.stop_grace_seconds)
    }

    /// For how long a snapshot may be owed without a warning.
    pub(crate) fn owed_alarm(&self) -> Duration {
        Duration::from_secs(self.owed_alarm_minutes.saturating_mul(60))
    }

    /// Time between two checkpoints of an image that is being written.
    pub(crate) fn checkpoint_every(&self) -> Duration {
        Duration::from_secs(self.checkpoint_seconds.max(1))
    }
}
