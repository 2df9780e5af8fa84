//! Why a job ended badly: a code for programs, a sentence for people.

/// A cause of failure as a job stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Stable, with a slash (`backup/proof-mismatch`); each has a page under `docs/problems`.
    pub code: String,
    /// What happened and what to do; never a secret.
    pub detail: String,
}

impl Fault {
    /// Makes a fault from its parts.
    pub fn new(code: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { code: code.into(), detail: detail.into() }
    }

    /// The code of a VMA whose endpoint leads to another vCenter than the one that is meant.
    pub const OTHER_VCENTER: &str = "source/other-vcenter";

    /// Whether a VMA has refused a copy because it has as many at work as it takes: nothing is wrong, and it takes the
    /// copy later.
    pub fn is_for_later(&self) -> bool {
        self.code == "vma/too-many-jobs"
    }

    /// The hub that did the work is gone; its successor says so at its start.
    pub fn hub_restarted() -> Self {
        Self::new(
            "job/hub-restarted",
            "the hub was restarted while this job was at work; start it again",
        )
    }

    /// Nobody asked the job to stop: it was the hub that stopped.
    pub fn hub_stopped() -> Self {
        Self::new(
            "job/hub-stopped",
            "the hub was stopped while this job was at work; start it again",
        )
    }
}
