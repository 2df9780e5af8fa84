//! Time and ids of the real world; everything else asks for them through ports.

use chrono::Utc;
use hub_domain::time::{Timestamp, to_micros};
use hub_ports::{Clock, IdGen};
use uuid::Uuid;

/// The system's clock, in whole microseconds.
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that all others ask")]
    fn now(&self) -> Timestamp {
        to_micros(Utc::now())
    }
}

/// UUIDs of version 7: within this process each sorts after the one before, also where the clock goes back.
pub(crate) struct UuidV7;

impl IdGen for UuidV7 {
    #[expect(clippy::disallowed_methods, reason = "this is the source of ids that all others ask")]
    fn new_id(&self) -> Uuid {
        Uuid::now_v7()
    }
}

#[cfg(test)]
mod tests {
    use chrono::SubsecRound;

    use super::*;

    #[test]
    fn moments_are_whole_microseconds_and_ids_sort() {
        let now = SystemClock.now();
        assert_eq!(now, now.trunc_subsecs(6));
        let ids: Vec<Uuid> = (0..10_000).map(|_| UuidV7.new_id()).collect();
        assert!(ids.is_sorted());
    }
}
