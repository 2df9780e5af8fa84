//! Trials of the engine over doubles, in paused time: units that meet, stops at every wait, a hub that comes back.

mod auditing;
mod caught;
mod changing;
mod concerns;
mod elsewhere;
mod failover;
mod meddler;
mod meeting;
mod owed;
mod quiescing;
mod reader;
mod refused;
mod restarting;
mod rounds;
mod stopping;
