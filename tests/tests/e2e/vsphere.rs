//! A simulated vCenter with real processes: the main story, and what goes wrong in the middle of a job.

mod audit;
mod elsewhere;
mod held;
mod killed;
mod quiescing;
mod stand_in;
mod story;
mod trouble;
mod trust;
mod turns;
mod waiting;

/// Bytes.
const MIB: u64 = 1 << 20;
