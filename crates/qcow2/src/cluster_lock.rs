//! Locks on ranges of clusters, so that partial writes to one cluster all arrive.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Who works on which clusters; ranges that overlap take turns in the order of asking.
///
/// Only writers lock. Turns are first come, first served, so a range over everything waits for all
/// earlier writers and stops all later ones.
#[derive(Debug, Default)]
pub(crate) struct ClusterLocks {
    queue: Mutex<Queue>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    next_ticket: u64,
    ranges: BTreeMap<u64, Range<u64>>,
}

/// The right to change a range of clusters; it travels with the work, not with the future that asked.
#[derive(Debug)]
pub(crate) struct ClusterGuard {
    locks: Arc<ClusterLocks>,
    ticket: u64,
}

impl ClusterLocks {
    /// Waits until nobody who asked earlier holds any of these clusters.
    pub(crate) async fn acquire(self: &Arc<Self>, clusters: Range<u64>) -> ClusterGuard {
        let guard = self.enqueue(clusters);
        loop {
            // Made before the look, so that a release in between is not missed.
            let changed = self.changed.notified();
            if self.is_free(guard.ticket) {
                return guard;
            }
            changed.await;
        }
    }

    /// The lock, if nobody who asked earlier holds or waits for any of these clusters.
    pub(crate) fn try_acquire(self: &Arc<Self>, clusters: Range<u64>) -> Option<ClusterGuard> {
        let guard = self.enqueue(clusters);
        self.is_free(guard.ticket).then_some(guard)
    }

    fn enqueue(self: &Arc<Self>, clusters: Range<u64>) -> ClusterGuard {
        let mut queue = self.queue.lock();
        let ticket = queue.next_ticket;
        queue.next_ticket += 1;
        queue.ranges.insert(ticket, clusters);
        ClusterGuard { locks: self.clone(), ticket }
    }

    fn is_free(&self, ticket: u64) -> bool {
        let queue = self.queue.lock();
        let Some(mine) = queue.ranges.get(&ticket) else { return true };
        queue.ranges.range(..ticket).all(|(_, it)| it.end <= mine.start || mine.end <= it.start)
    }
}

impl Drop for ClusterGuard {
    fn drop(&mut self) {
        self.locks.queue.lock().ranges.remove(&self.ticket);
        self.locks.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn overlapping_ranges_take_turns_in_order() {
        let locks = Arc::new(ClusterLocks::default());
        let mut first = pin!(locks.acquire(0..4));
        let Poll::Ready(held) = poll(first.as_mut()) else { panic!("nobody else is here") };
        let mut second = pin!(locks.acquire(3..8));
        let mut third = pin!(locks.acquire(7..9));
        let mut apart = pin!(locks.acquire(20..21));
        assert!(poll(second.as_mut()).is_pending());
        assert!(poll(third.as_mut()).is_pending());
        assert!(poll(apart.as_mut()).is_ready());
        drop(held);
        let Poll::Ready(held) = poll(second.as_mut()) else { panic!("it is the second's turn") };
        assert!(poll(third.as_mut()).is_pending());
        drop(held);
        assert!(poll(third.as_mut()).is_ready());
    }

    #[test]
    fn one_who_cannot_wait_takes_only_what_is_free() {
        let locks = Arc::new(ClusterLocks::default());
        let held = locks.try_acquire(0..4).unwrap();
        assert!(locks.try_acquire(3..8).is_none());
        let mut waiting = pin!(locks.acquire(2..6));
        assert!(poll(waiting.as_mut()).is_pending());
        assert!(locks.try_acquire(5..6).is_none(), "nobody overtakes one who waits");
        assert!(locks.try_acquire(6..8).is_some());
        drop(held);
        assert!(poll(waiting.as_mut()).is_ready());
    }

    #[test]
    fn one_who_stops_waiting_blocks_nobody() {
        let locks = Arc::new(ClusterLocks::default());
        let mut first = pin!(locks.acquire(0..4));
        let Poll::Ready(held) = poll(first.as_mut()) else { panic!("nobody else is here") };
        {
            let mut gave_up = pin!(locks.acquire(0..9));
            assert!(poll(gave_up.as_mut()).is_pending());
        }
        let mut later = pin!(locks.acquire(5..6));
        assert!(poll(later.as_mut()).is_ready());
        drop(held);
    }
}
