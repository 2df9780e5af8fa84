//! Time and ids that stand still until a test moves them.

use std::sync::atomic::{AtomicU64, Ordering};

use chrono::TimeDelta;
use hub_domain::time::Timestamp;
use hub_ports::{Clock, IdGen};
use parking_lot::Mutex;
use uuid::Uuid;

/// A clock that a test sets.
#[derive(Debug)]
pub struct FixedClock {
    now: Mutex<Timestamp>,
    tick: TimeDelta,
}

impl FixedClock {
    /// A clock that stands still at a moment.
    pub fn at(now: Timestamp) -> Self {
        Self { now: Mutex::new(now), tick: TimeDelta::zero() }
    }

    /// A clock that moves on by a second whenever it is read, so that times in a test can be told apart.
    pub fn ticking() -> Self {
        Self { now: Mutex::new(start()), tick: TimeDelta::seconds(1) }
    }

    /// Sets the moment.
    pub fn set(&self, now: Timestamp) {
        *self.now.lock() = now;
    }

    /// Moves on.
    pub fn advance(&self, by: TimeDelta) {
        *self.now.lock() += by;
    }
}

impl Default for FixedClock {
    fn default() -> Self {
        Self::at(start())
    }
}

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        let mut now = self.now.lock();
        *now += self.tick;
        *now
    }
}

/// Where the clocks of tests start: 2001-09-09T01:46:40Z.
fn start() -> Timestamp {
    Timestamp::UNIX_EPOCH + TimeDelta::seconds(1_000_000_000)
}

/// Ids 1, 2, 3…
#[derive(Debug, Default)]
pub struct SeqIds {
    last: AtomicU64,
}

impl IdGen for SeqIds {
    fn new_id(&self) -> Uuid {
        Uuid::from_u128(u128::from(self.last.fetch_add(1, Ordering::Relaxed) + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_moves_only_when_it_is_moved() {
        let clock = FixedClock::default();
        let before = clock.now();
        assert_eq!(clock.now(), before);
        clock.advance(TimeDelta::seconds(5));
        assert_eq!(clock.now(), before + TimeDelta::seconds(5));
        let ticking = FixedClock::ticking();
        assert!(ticking.now() < ticking.now());
    }

    #[test]
    fn ids_sort_in_the_order_of_their_making() {
        let ids = SeqIds::default();
        assert!(ids.new_id() < ids.new_id());
    }
}
