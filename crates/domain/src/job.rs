//! The life of a job: one state machine for backup, replication, restore and verification.

use crate::fault::Fault;
use crate::time::Timestamp;

/// Where a job stands; each state carries its own times, so that none can be forgotten (trap D25).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobState {
    /// Accepted and stored, and nobody is at work: nothing was done yet, or the hub that did it is gone.
    Queued,
    /// At work.
    Running {
        /// Since when.
        started: Timestamp,
    },
    /// Asked to stop; work is being undone.
    Cancelling {
        /// When the work began.
        started: Timestamp,
    },
    /// Everything asked for is durable.
    Succeeded {
        /// When the work began.
        started: Timestamp,
        /// When it was durable.
        finished: Timestamp,
    },
    /// Ended by a fault; what it had made is gone.
    Failed {
        /// When the work began, if it had.
        started: Option<Timestamp>,
        /// When it ended.
        finished: Timestamp,
        /// Why.
        fault: Fault,
    },
    /// Ended because it was asked to; what it had made is gone.
    Cancelled {
        /// When the work began, if it had.
        started: Option<Timestamp>,
        /// When it ended.
        finished: Timestamp,
    },
    /// The hub stopped, or lost its claim, while the job was at work; what it had made is gone.
    Interrupted {
        /// When the work began, if it had.
        started: Option<Timestamp>,
        /// When the interruption was found.
        finished: Timestamp,
        /// What interrupted it.
        fault: Fault,
    },
}

/// What happens to a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobEvent {
    /// A worker took it.
    Started,
    /// Its result is durable.
    Succeeded,
    /// It cannot succeed.
    Failed(Fault),
    /// Somebody asked it to stop.
    CancelRequested,
    /// It has stopped and undone its work.
    Cancelled,
    /// The hub went away under it.
    Interrupted(Fault),
    /// The hub went away under it, and another one takes it to work again.
    Requeued,
}

impl JobState {
    /// The only way to change a state: what is not in this table is refused (trap C31).
    pub fn apply(self, event: JobEvent, at: Timestamp) -> Result<Self, IllegalTransition> {
        let from = self.status();
        let started = self.started_at();
        match (self, event) {
            (Self::Queued, JobEvent::Started) => Ok(Self::Running { started: at }),
            (Self::Queued, JobEvent::CancelRequested) => {
                Ok(Self::Cancelled { started: None, finished: at })
            }
            // Work that was finished before the wish to stop took hold is finished.
            (Self::Running { started } | Self::Cancelling { started }, JobEvent::Succeeded) => {
                Ok(Self::Succeeded { started, finished: at.max(started) })
            }
            (Self::Running { .. }, JobEvent::Requeued) => Ok(Self::Queued),
            (Self::Running { started }, JobEvent::CancelRequested) => {
                Ok(Self::Cancelling { started })
            }
            (
                Self::Queued | Self::Running { .. } | Self::Cancelling { .. },
                JobEvent::Failed(fault),
            ) => Ok(Self::Failed { started, finished: later(at, started), fault }),
            (
                Self::Queued | Self::Running { .. } | Self::Cancelling { .. },
                JobEvent::Cancelled,
            ) => Ok(Self::Cancelled { started, finished: later(at, started) }),
            (
                Self::Queued | Self::Running { .. } | Self::Cancelling { .. },
                JobEvent::Interrupted(fault),
            ) => Ok(Self::Interrupted { started, finished: later(at, started), fault }),
            (_, event) => Err(IllegalTransition { from, event: event.name() }),
        }
    }

    /// The word of the state.
    pub const fn status(&self) -> JobStatus {
        match self {
            Self::Queued => JobStatus::Queued,
            Self::Running { .. } => JobStatus::Running,
            Self::Cancelling { .. } => JobStatus::Cancelling,
            Self::Succeeded { .. } => JobStatus::Succeeded,
            Self::Failed { .. } => JobStatus::Failed,
            Self::Cancelled { .. } => JobStatus::Cancelled,
            Self::Interrupted { .. } => JobStatus::Interrupted,
        }
    }

    /// When the work began, if it had.
    pub const fn started_at(&self) -> Option<Timestamp> {
        match self {
            Self::Queued => None,
            Self::Running { started }
            | Self::Cancelling { started }
            | Self::Succeeded { started, .. } => Some(*started),
            Self::Failed { started, .. }
            | Self::Cancelled { started, .. }
            | Self::Interrupted { started, .. } => *started,
        }
    }

    /// When it ended, if it has.
    pub const fn finished_at(&self) -> Option<Timestamp> {
        match self {
            Self::Queued | Self::Running { .. } | Self::Cancelling { .. } => None,
            Self::Succeeded { finished, .. }
            | Self::Failed { finished, .. }
            | Self::Cancelled { finished, .. }
            | Self::Interrupted { finished, .. } => Some(*finished),
        }
    }

    /// Why it ended badly, if it did.
    pub const fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Failed { fault, .. } | Self::Interrupted { fault, .. } => Some(fault),
            Self::Queued
            | Self::Running { .. }
            | Self::Cancelling { .. }
            | Self::Succeeded { .. }
            | Self::Cancelled { .. } => None,
        }
    }

    /// Rebuilds a state from the columns of a row; `None` when they contradict each other.
    pub fn from_parts(
        status: JobStatus,
        started: Option<Timestamp>,
        finished: Option<Timestamp>,
        fault: Option<Fault>,
    ) -> Option<Self> {
        Some(match status {
            JobStatus::Queued => Self::Queued,
            JobStatus::Running => Self::Running { started: started? },
            JobStatus::Cancelling => Self::Cancelling { started: started? },
            JobStatus::Succeeded => Self::Succeeded { started: started?, finished: finished? },
            JobStatus::Failed => Self::Failed { started, finished: finished?, fault: fault? },
            JobStatus::Cancelled => Self::Cancelled { started, finished: finished? },
            JobStatus::Interrupted => {
                Self::Interrupted { started, finished: finished?, fault: fault? }
            }
        })
    }
}

/// Times never go backwards, even where the clock does.
fn later(at: Timestamp, started: Option<Timestamp>) -> Timestamp {
    started.map_or(at, |started| at.max(started))
}

impl JobEvent {
    /// The event's name, for errors.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Succeeded => "succeeded",
            Self::Failed(_) => "failed",
            Self::CancelRequested => "cancel_requested",
            Self::Cancelled => "cancelled",
            Self::Interrupted(_) => "interrupted",
            Self::Requeued => "requeued",
        }
    }
}

/// The word of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobStatus {
    /// See [`JobState::Queued`].
    Queued,
    /// See [`JobState::Running`].
    Running,
    /// See [`JobState::Cancelling`].
    Cancelling,
    /// See [`JobState::Succeeded`].
    Succeeded,
    /// See [`JobState::Failed`].
    Failed,
    /// See [`JobState::Cancelled`].
    Cancelled,
    /// See [`JobState::Interrupted`].
    Interrupted,
}

impl JobStatus {
    /// All of them, for tables and checks.
    pub const ALL: [Self; 7] = [
        Self::Queued,
        Self::Running,
        Self::Cancelling,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Interrupted,
    ];

    /// The word for it in the catalogue and on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Cancelling => "cancelling",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
        }
    }

    /// The status of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.word() == word)
    }

    /// Whether it will not change any more.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled | Self::Interrupted)
    }
}

/// The status of a whole made of parts: it is folded, never stored twice.
///
/// Anything still at work keeps the whole at work; only when all parts succeeded has the whole (trap D26).
pub fn fold_status(parts: impl IntoIterator<Item = JobStatus>) -> JobStatus {
    let parts: Vec<JobStatus> = parts.into_iter().collect();
    let any = |status: JobStatus| parts.contains(&status);
    if parts.iter().all(|part| *part == JobStatus::Queued) {
        JobStatus::Queued
    } else if any(JobStatus::Cancelling) {
        JobStatus::Cancelling
    } else if any(JobStatus::Running) || any(JobStatus::Queued) {
        JobStatus::Running
    } else if any(JobStatus::Failed) {
        JobStatus::Failed
    } else if any(JobStatus::Interrupted) {
        JobStatus::Interrupted
    } else if any(JobStatus::Cancelled) {
        JobStatus::Cancelled
    } else {
        JobStatus::Succeeded
    }
}

/// An event that the state does not allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a job that is {} cannot be {event}", from.word())]
pub struct IllegalTransition {
    /// Where the job stands.
    pub from: JobStatus,
    /// What was tried.
    pub event: &'static str,
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + TimeDelta::seconds(second)
    }

    fn event() -> impl Strategy<Value = JobEvent> {
        prop_oneof![
            Just(JobEvent::Started),
            Just(JobEvent::Succeeded),
            Just(JobEvent::Failed(Fault::new("a/b", "c"))),
            Just(JobEvent::CancelRequested),
            Just(JobEvent::Cancelled),
            Just(JobEvent::Interrupted(Fault::new("a/b", "c"))),
            Just(JobEvent::Requeued),
        ]
    }

    proptest! {
        #[test]
        fn terminal_states_stay_and_times_never_go_back(
            events in prop::collection::vec((event(), 0_i64..100), 1..20)
        ) {
            let mut state = JobState::Queued;
            for (event, second) in events {
                let before = state.clone();
                match state.apply(event, at(second)) {
                    Ok(next) => {
                        prop_assert!(!before.status().is_terminal());
                        if let (Some(started), Some(finished)) = (next.started_at(), next.finished_at()) {
                            prop_assert!(started <= finished);
                        }
                        let parts = JobState::from_parts(
                            next.status(), next.started_at(), next.finished_at(), next.fault().cloned(),
                        );
                        prop_assert_eq!(parts.as_ref(), Some(&next));
                        state = next;
                    }
                    Err(_) => state = before,
                }
            }
        }
    }

    #[test]
    fn trap_d26_success_is_all_parts_succeeded() {
        use JobStatus::{Cancelled, Failed, Queued, Running, Succeeded};
        assert_eq!(fold_status([Succeeded, Succeeded]), Succeeded);
        assert_eq!(fold_status([Succeeded, Queued]), Running);
        assert_eq!(fold_status([Succeeded, Running, Failed]), Running);
        assert_eq!(fold_status([Succeeded, Failed, Cancelled]), Failed);
        assert_eq!(fold_status([]), Queued);
    }

    #[test]
    fn trap_c31_a_failed_job_is_not_resurrected() {
        let failed =
            JobState::Queued.apply(JobEvent::Failed(Fault::new("a/b", "c")), at(1)).unwrap();
        assert!(failed.clone().apply(JobEvent::Started, at(2)).is_err());
        assert!(failed.apply(JobEvent::Succeeded, at(2)).is_err());
    }
}
