//! The limits of a server.

use std::time::Duration;

/// Limits of a server; the defaults suit a hub with a few dozen transfers at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerOptions {
    /// Connections at once, over all exports; a further one is closed at once.
    pub max_sessions: usize,
    /// Longest payload of one read or write, in bytes; the protocol asks for at least 1 MiB and suggests 32 MiB.
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
