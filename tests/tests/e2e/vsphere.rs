//! A simulated vCenter with real processes: the main story, and what goes wrong in the middle of a job.

mod audit;
mod held;
mod killed;
mod story;
mod trouble;

/// Bytes.
const MIB: u64 = 1 << 20;
