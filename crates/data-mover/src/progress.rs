//! Counters of a copy that others may look at while it runs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The counters of one copy or verification, in bytes; none of them ever falls.
///
/// Made anew for each call and shared as an `Arc`: the copy counts, anybody takes a [`snapshot`](Self::snapshot).
#[derive(Debug, Default)]
pub struct Progress {
    total: AtomicU64,
    done: AtomicU64,
    read: AtomicU64,
    sent: AtomicU64,
    /// Microseconds.
    held: AtomicU64,
}

/// The counters at one moment, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProgressSnapshot {
    /// What the plan examines: the disk's size, or the sum of its areas; 0 until the plan is made.
    pub total: u64,
    /// What of it has been dealt with: read, or known to be zero, and sent where it differed.
    pub done: u64,
    /// What was read.
    pub read: u64,
    /// What was written as data; zeroes that are only asked for do not count.
    pub sent: u64,
    /// How long sends were held back by limits, summed over all that waited.
    pub held: Duration,
}

impl Progress {
    /// All counters; read one after the other, so they may be a request apart.
    pub fn snapshot(&self) -> ProgressSnapshot {
        ProgressSnapshot {
            held: Duration::from_micros(self.held.load(Ordering::Acquire)),
            sent: self.sent.load(Ordering::Acquire),
            read: self.read.load(Ordering::Acquire),
            done: self.done.load(Ordering::Acquire),
            total: self.total.load(Ordering::Acquire),
        }
    }

    pub(crate) fn add_held(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.held.fetch_add(micros, Ordering::AcqRel);
    }

    pub(crate) fn add_total(&self, bytes: u64) {
        self.total.fetch_add(bytes, Ordering::AcqRel);
    }

    pub(crate) fn add_done(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::AcqRel);
    }

    pub(crate) fn add_read(&self, bytes: u64) {
        self.read.fetch_add(bytes, Ordering::AcqRel);
    }

    pub(crate) fn add_sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::AcqRel);
    }
}
