//! What a copy waits for, in line or at its source, as the API shows it.

use std::collections::BTreeMap;

use hub_domain::copy_line::Limited;
use hub_domain::disk::DiskKey;
use hub_domain::job::JobStatus;
use hub_job_runner::{JobKey, Waiting};
use hub_ports::SourceWait;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::state::Hub;

/// Why a copy does not go on: nothing is open for one that is queued, neither a snapshot nor a target; one that is
/// running waits for its VMA, which has a limit of its own at each host.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Waiting)]
pub(crate) struct WaitingView {
    /// A sentence: `2 of 2 copies of VMA site-a are at work; 3rd in line`.
    reason: String,
    /// Whose limit is reached.
    limited_by: LimitedBy,
    /// Copies that may be at work there at a time; null for one that is running.
    limit: Option<u32>,
    /// Copies at work there; null for one that is running.
    at_work: Option<u32>,
    /// Its place among those that wait for the same limit; 1 is next. Null for one that is running.
    place: Option<u32>,
}

/// Whose limit it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LimitedBy {
    Hub,
    Vma,
    Source,
    Repository,
}

/// Everybody who waits at one moment.
#[derive(Default)]
pub(crate) struct Line {
    queued: BTreeMap<JobKey, Waiting>,
    running: BTreeMap<Uuid, SourceWait>,
}

impl Line {
    pub(crate) fn of(hub: &Hub) -> Self {
        let mut running = hub.backup.waits.all();
        running.extend(hub.replication.waits.all());
        Self { queued: hub.supervisor.copies().all_waiting(), running }
    }

    /// What a job in this state waits for, if it does.
    pub(crate) fn waiting(&self, kind: &str, id: Uuid, status: JobStatus) -> Option<WaitingView> {
        self.wait(kind, id, status, |_| true)
    }

    /// The same for one disk of it: those of a queued job wait as one, of a running one only those that have not begun.
    pub(crate) fn disk_waiting(
        &self,
        kind: &str,
        id: Uuid,
        status: JobStatus,
        disk: &DiskKey,
    ) -> Option<WaitingView> {
        self.wait(kind, id, status, |wait| wait.disks.contains(disk))
    }

    fn wait(
        &self,
        kind: &str,
        id: Uuid,
        status: JobStatus,
        is_meant: impl FnOnce(&SourceWait) -> bool,
    ) -> Option<WaitingView> {
        match status {
            JobStatus::Queued => self.queued.get(&JobKey::new(kind, id)).map(WaitingView::from),
            JobStatus::Running => {
                let wait = self.running.get(&id)?;
                is_meant(wait).then(|| WaitingView::from(wait))
            }
            JobStatus::Cancelling
            | JobStatus::Succeeded
            | JobStatus::Failed
            | JobStatus::Cancelled
            | JobStatus::Interrupted => None,
        }
    }
}

impl From<&Waiting> for WaitingView {
    fn from(Waiting { wait, reason }: &Waiting) -> Self {
        let limited_by = match wait.at {
            Limited::Hub => LimitedBy::Hub,
            Limited::Vma(_) => LimitedBy::Vma,
            Limited::Source(_) => LimitedBy::Source,
            Limited::Repository(_) => LimitedBy::Repository,
        };
        Self {
            reason: reason.clone(),
            limited_by,
            limit: Some(wait.limit),
            at_work: Some(wait.at_work),
            place: Some(wait.place),
        }
    }
}

impl From<&SourceWait> for WaitingView {
    fn from(wait: &SourceWait) -> Self {
        let (limited_by, limit, at_work, place) = (LimitedBy::Vma, None, None, None);
        Self { reason: wait.reason.clone(), limited_by, limit, at_work, place }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_job_that_runs_only_disks_wait_that_have_not_begun() {
        let [begun, queued] = ["disk-2000", "disk-2001"].map(|key| DiskKey::new(key).unwrap());
        let (id, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let reason = "waits for a place".to_owned();
        let wait = SourceWait { reason, disks: [queued.clone()].into_iter().collect() };
        let line = Line { running: [(id, wait)].into_iter().collect(), ..Line::default() };
        let disk = |status, key| line.disk_waiting("backup", id, status, key).is_some();
        assert!(disk(JobStatus::Running, &queued) && !disk(JobStatus::Running, &begun));
        assert!(line.waiting("backup", id, JobStatus::Running).is_some());
        assert!(line.waiting("backup", other, JobStatus::Running).is_none());
        for status in [JobStatus::Queued, JobStatus::Cancelling, JobStatus::Succeeded] {
            assert!(line.waiting("backup", id, status).is_none(), "{status:?}");
            assert!(!disk(status, &queued), "{status:?}");
        }
    }
}
