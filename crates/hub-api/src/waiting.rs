//! What a queued copy waits for, as the API shows it.

use std::collections::BTreeMap;
use std::fmt::Display;

use hub_domain::copy_line::Limited;
use hub_job_runner::{JobKey, Waiting};
use serde::Serialize;
use utoipa::ToSchema;

use crate::state::Hub;

/// Why a queued copy has not begun; nothing is open for it, neither a snapshot nor a target.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Waiting)]
pub(crate) struct WaitingView {
    /// A sentence: `2 of 2 copies of VMA site-a are at work; 3rd in line`.
    reason: String,
    /// Whose limit is reached.
    limited_by: LimitedBy,
    /// Copies that may be at work there at a time.
    limit: u32,
    /// Copies at work there.
    at_work: u32,
    /// Its place among those that wait for the same limit; 1 is next.
    place: u32,
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

/// Everybody in line at one moment.
#[derive(Default)]
pub(crate) struct Line(BTreeMap<JobKey, Waiting>);

impl Line {
    pub(crate) fn of(hub: &Hub) -> Self {
        Self(hub.supervisor.copies().all_waiting())
    }

    /// What a job waits for, if it does.
    pub(crate) fn waiting(&self, kind: &str, id: impl Display) -> Option<WaitingView> {
        self.0.get(&JobKey::new(kind, id)).map(WaitingView::from)
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
        let (limit, at_work, place) = (wait.limit, wait.at_work, wait.place);
        Self { reason: reason.clone(), limited_by, limit, at_work, place }
    }
}
