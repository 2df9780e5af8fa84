//! How long work inside an adapter tells how far it is.

/// Hears how far a piece of long work is; called often, from any thread, so it must be cheap.
pub trait ProgressSink: Send + Sync {
    /// `done` of `total` bytes; neither goes back.
    fn report(&self, done: u64, total: u64);
}

/// Hears nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProgress;

impl ProgressSink for NoProgress {
    fn report(&self, _done: u64, _total: u64) {}
}
