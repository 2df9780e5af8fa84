//! Attempts at one copy: which losses are worth another one, and what a job says about the earlier ones.

use crate::fault::Fault;
use crate::job::JobStatus;

/// Which attempt at its copy a job is at; it also tells the hub at work from one that was replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Counted from 1; never goes back.
    pub number: u32,
    /// Why it is not the first, in a sentence.
    pub reason: Option<String>,
}

impl Default for Attempt {
    fn default() -> Self {
        Self { number: 1, reason: None }
    }
}

impl Attempt {
    /// The one after this, and why there is one.
    pub fn next(&self, reason: impl Into<String>) -> Self {
        Self { number: self.number.saturating_add(1), reason: Some(reason.into()) }
    }

    /// Whether something may be left of an earlier one.
    pub fn is_first(&self) -> bool {
        self.number <= 1
    }

    /// Why a copy that ended by `fault` is worth another attempt, within `limit` attempts; nothing when it is not.
    ///
    /// Only losses of a machine or a connection are: what a source or a repository refuses, it will refuse again.
    pub fn worth_another(&self, fault: &Fault, limit: u32) -> Option<&'static str> {
        if self.number >= limit {
            return None;
        }
        match fault.code.as_str() {
            "vma/unknown-job" | "vma/stopping" | "vma/copy-cancelled" => {
                Some("the VMA was restarted")
            }
            "target/disconnected" => Some("the VMA lost the hub for longer than it dials"),
            // At first it is a wrong address or a closed port, and said at once.
            "target/unreachable" if !self.is_first() => Some("the VMA could not reach the hub"),
            _ => None,
        }
    }

    /// What becomes of an unfinished job of a hub that is gone: another attempt, or an end.
    ///
    /// `sealed` tells that another disk of the same instant is a restore point already: this one cannot be read at that
    /// instant any more (trap D6).
    pub fn after_restart(
        &self,
        status: JobStatus,
        sealed: bool,
        limit: u32,
    ) -> Result<Self, Fault> {
        let ended = |detail: &str| Err(Fault::new("job/hub-restarted", detail));
        match status {
            JobStatus::Cancelling => ended(
                "the hub was restarted while this job was being cancelled; nothing of it is kept",
            ),
            _ if sealed => ended(
                "the hub was restarted after other disks of this run were complete; start a new run, so that all disks are of one instant",
            ),
            // It had not begun, so there is nothing to repeat.
            JobStatus::Queued => Ok(self.clone()),
            _ if self.number >= limit => ended(
                "the hub was restarted once too often while this job was at work; start it again",
            ),
            JobStatus::Running
            | JobStatus::Succeeded
            | JobStatus::Failed
            | JobStatus::Cancelled
            | JobStatus::Interrupted => {
                Ok(self.next("the hub was restarted; the copy began again"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(code: &str) -> Fault {
        Fault::new(code, "something happened")
    }

    #[test]
    fn only_losses_are_worth_another_attempt_and_only_so_many() {
        let first = Attempt::default();
        assert!(first.worth_another(&fault("vma/unknown-job"), 3).is_some());
        assert!(first.worth_another(&fault("target/disconnected"), 3).is_some());
        for refused in ["source/read-failed", "repository/full", "vma/stalled", "target/gone"] {
            assert_eq!(first.worth_another(&fault(refused), 3), None, "{refused}");
        }
        let third = first.next("a").next("b");
        assert_eq!(third.worth_another(&fault("vma/unknown-job"), 3), None);
        assert_eq!((third.number, third.reason.as_deref()), (3, Some("b")));
    }

    #[test]
    fn a_hub_that_cannot_be_reached_at_first_is_a_mistake_and_later_a_loss() {
        let first = Attempt::default();
        assert_eq!(first.worth_another(&fault("target/unreachable"), 3), None);
        let second = first.next("the VMA was restarted");
        assert!(second.worth_another(&fault("target/unreachable"), 3).is_some());
    }

    #[test]
    fn after_a_restart_a_job_goes_on_unless_that_would_mix_or_never_end() {
        let first = Attempt::default();
        let running = JobStatus::Running;
        assert_eq!(first.after_restart(running, false, 3).unwrap().number, 2);
        assert_eq!(first.after_restart(JobStatus::Queued, false, 3), Ok(first.clone()));
        for (attempt, status, sealed) in [
            (first.clone(), JobStatus::Cancelling, false),
            (first.clone(), running, true),
            (first.clone(), JobStatus::Queued, true),
            (first.next("a").next("b"), running, false),
        ] {
            let fault = attempt.after_restart(status, sealed, 3).unwrap_err();
            assert_eq!(fault.code, "job/hub-restarted");
        }
    }
}
