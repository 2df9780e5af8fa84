//! A job's state as the columns that every table of jobs has.

use hub_domain::fault::Fault;
use hub_domain::job::{JobState, JobStatus};
use hub_domain::time::Timestamp;
use hub_ports::StoreError;
use hub_vm_disk_repo::column;

/// `status`, `started_at`, `finished_at`, `error_code` and `error_text`.
pub(crate) struct StateColumns {
    pub(crate) status: String,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Option<Timestamp>,
    pub(crate) error_code: Option<String>,
    pub(crate) error_text: Option<String>,
}

impl From<&JobState> for StateColumns {
    fn from(state: &JobState) -> Self {
        Self {
            status: state.status().word().to_owned(),
            started_at: state.started_at(),
            finished_at: state.finished_at(),
            error_code: state.fault().map(|fault| fault.code.clone()),
            // PostgreSQL cannot store a NUL, and a fault may quote what came over a wire.
            error_text: state.fault().map(|fault| fault.detail.replace('\0', "\u{fffd}")),
        }
    }
}

impl TryFrom<StateColumns> for JobState {
    type Error = StoreError;

    fn try_from(columns: StateColumns) -> Result<Self, StoreError> {
        let status = column::word("status", &columns.status, JobStatus::from_word)?;
        let fault = columns
            .error_code
            .map(|code| Fault { code, detail: columns.error_text.unwrap_or_default() });
        Self::from_parts(status, columns.started_at, columns.finished_at, fault)
            .ok_or_else(|| column::corrupt("status without its times or its error", columns.status))
    }
}

/// The words of the states that a job can still leave.
pub(crate) fn unfinished_words() -> impl Iterator<Item = &'static str> {
    JobStatus::ALL.into_iter().filter(|status| !status.is_terminal()).map(JobStatus::word)
}
