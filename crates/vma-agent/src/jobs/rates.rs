//! How fast jobs may send: what the hub told last, and what this VMA allows at most.

use std::num::NonZeroU64;
use std::sync::Arc;

use hub_data_mover::RateLimit;
use hub_vma_api::CopyRates;

use super::job::Job;

/// The limit that all jobs share.
pub(super) struct Rates {
    cap: Option<NonZeroU64>,
    shared: Arc<RateLimit>,
}

impl Rates {
    /// No limit but this VMA's own.
    pub(super) fn new(cap: Option<NonZeroU64>) -> Self {
        Self { cap, shared: Arc::new(RateLimit::new(cap)) }
    }

    /// Takes in what came with a request; the latest holds, for copies at work as well.
    pub(super) fn told(&self, job: &Job, rates: CopyRates) {
        job.rate().set(rates.job.and_then(NonZeroU64::new));
        let told = rates.vma.and_then(NonZeroU64::new);
        self.shared.set(self.cap.into_iter().chain(told).min());
    }

    /// What the bytes of a job pass, in the order in which everybody asks.
    pub(super) fn of(&self, job: &Job) -> Vec<Arc<RateLimit>> {
        vec![job.rate().clone(), self.shared.clone()]
    }
}
