//! How fast jobs may send: what the hub told last, and what this VMA allows at most.

use std::num::NonZeroU64;
use std::sync::Arc;

use hub_data_mover::RateLimit;
use hub_vma_api::{CopyRates, RateReading};
use parking_lot::Mutex;

use super::job::Job;

/// The limit that all jobs share.
pub(super) struct Rates {
    cap: Option<NonZeroU64>,
    shared: Arc<RateLimit>,
    /// When the hub read what holds now.
    read: Mutex<Option<RateReading>>,
}

impl Rates {
    /// No limit but this VMA's own.
    pub(super) fn new(cap: Option<NonZeroU64>) -> Self {
        Self { cap, shared: Arc::new(RateLimit::new(cap)), read: Mutex::default() }
    }

    /// Takes in what came with a request, for copies at work as well; requests overtake each other, and the VMA's limit
    /// that was read last holds.
    pub(super) fn told(&self, job: &Job, rates: CopyRates) {
        job.rate().set(rates.job.and_then(NonZeroU64::new));
        let mut read = self.read.lock();
        if is_older(rates.read, *read) {
            return;
        }
        *read = rates.read.or(*read);
        let told = rates.vma.and_then(NonZeroU64::new);
        self.shared.set(self.cap.into_iter().chain(told).min());
    }

    /// What the bytes of a job pass, in the order in which everybody asks.
    pub(super) fn of(&self, job: &Job) -> Vec<Arc<RateLimit>> {
        vec![job.rate().clone(), self.shared.clone()]
    }
}

/// Readings of two starts of a hub are not compared.
fn is_older(read: Option<RateReading>, known: Option<RateReading>) -> bool {
    let (Some(read), Some(known)) = (read, known) else { return false };
    read.epoch == known.epoch && read.number < known.number
}

#[cfg(test)]
mod tests {
    use hub_vma_api::NbdTarget;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::doubles::{copying, full_disk};
    use crate::jobs::request::ValidRequest;

    fn job() -> Job {
        let export = "x".to_owned();
        let target = NbdTarget { host: "127.0.0.1".to_owned(), port: 1, export, tls: None };
        let request = copying("one", vec![full_disk("disk-2000", 65_536, target)]);
        Job::new(&ValidRequest::new(request).unwrap(), CancellationToken::new())
    }

    /// The VMA's limit after words that arrive in this order: epoch, number, rate.
    fn after(words: &[(u64, u64, Option<u64>)]) -> Option<u64> {
        let (rates, job) = (Rates::new(None), job());
        for (epoch, number, vma) in words {
            let read = Some(RateReading { epoch: *epoch, number: *number });
            rates.told(&job, CopyRates { job: None, vma: *vma, read });
        }
        rates.shared.get().map(NonZeroU64::get)
    }

    #[test]
    fn an_order_that_was_overtaken_does_not_bring_an_older_limit_back() {
        let (low, high) = (Some(70_000), Some(900_000));
        assert_eq!(after(&[(7, 2, low), (7, 1, high)]), low);
        assert_eq!(after(&[(7, 2, None), (7, 1, high)]), None, "no limit is a word, too");
        assert_eq!(after(&[(7, 1, high), (7, 2, low)]), low);
        // Of a catalogue that was away, and of another start of the hub.
        assert_eq!(after(&[(7, 2, low), (7, 0, high)]), low);
        assert_eq!(after(&[(7, 0, high)]), high);
        assert_eq!(after(&[(7, 9, high), (8, 1, low)]), low);
    }

    #[test]
    fn a_hub_that_counts_nothing_is_believed_in_the_order_of_arrival() {
        let (rates, job) = (Rates::new(NonZeroU64::new(100_000)), job());
        let told = |vma| rates.told(&job, CopyRates { job: Some(80_000), vma, read: None });
        told(Some(70_000));
        assert_eq!(rates.shared.get().map(NonZeroU64::get), Some(70_000));
        told(Some(900_000));
        assert_eq!(rates.shared.get().map(NonZeroU64::get), Some(100_000), "its own is lower");
        assert_eq!(job.rate().get().map(NonZeroU64::get), Some(80_000));
    }
}
