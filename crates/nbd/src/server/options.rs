//! The limits of a server.

use std::time::Duration;

/// Limits of a server; the defaults suit a hub with a few dozen transfers at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerOptions {
    /// Connections at once, over all exports; a further one takes the place of the oldest that has not chosen an export,
    /// and is closed at once where there is none.
    pub max_sessions: usize,
    /// Longest payload of one read or write, in bytes, from 4 KiB to 64 MiB; the protocol suggests 32 MiB.
    pub max_payload: u32,
    /// Request size told to clients as the best one, in bytes; a power of two.
    pub preferred_block: u32,
    /// Requests of one session that are worked on at once.
    pub in_flight: usize,
    /// Payload bytes of one session held in memory at once; at least `max_payload` is always allowed.
    pub in_flight_bytes: u32,
    /// Time for the whole handshake.
    pub handshake_timeout: Duration,
    /// Time a session may be silent with nothing in flight.
    ///
    /// It is long, because a backup that finds nothing changed has nothing to send while it reads its source.
    pub idle_timeout: Duration,
    /// Time for one payload to arrive, and for one reply to be taken.
    pub transfer_timeout: Duration,
    /// Time for requests in flight to finish when a session ends.
    pub drain_timeout: Duration,
}

impl ServerOptions {
    /// Brings sizes and counts into the range that the protocol and memory allow.
    pub(super) fn bounded(mut self) -> Self {
        self.in_flight = self.in_flight.clamp(1, 1024);
        self.max_payload = self.max_payload.clamp(4096, 64 << 20);
        self.in_flight_bytes = self.in_flight_bytes.max(self.max_payload);
        self.preferred_block = 1 << self.preferred_block.clamp(512, self.max_payload).ilog2();
        self
    }
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            max_sessions: 64,
            max_payload: 32 << 20,
            preferred_block: 1 << 20,
            in_flight: 16,
            in_flight_bytes: 64 << 20,
            handshake_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(3600),
            transfer_timeout: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(30),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_is_brought_into_range() {
        let zero = ServerOptions {
            max_payload: 0,
            preferred_block: 0,
            in_flight: 0,
            in_flight_bytes: 0,
            ..ServerOptions::default()
        };
        let least = zero.bounded();
        assert_eq!((least.max_payload, least.in_flight_bytes), (4096, 4096));
        assert_eq!((least.preferred_block, least.in_flight), (512, 1));
        let odd = ServerOptions { preferred_block: 3 << 20, ..ServerOptions::default() };
        assert_eq!(odd.bounded().preferred_block, 2 << 20);
        assert_eq!(ServerOptions::default().bounded(), ServerOptions::default());
    }
}
