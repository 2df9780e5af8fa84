//! Trials of the engine over doubles, in paused time.

mod bench;
mod broken;
mod cancelling;
mod copying;
mod failover;
mod keys;
mod owed;
mod quiescing;
mod records;
mod starting;
