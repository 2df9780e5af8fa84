//! Progress of long work, heard often and stored seldom.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hub_ports::ProgressSink;

/// Remembers the last report.
#[derive(Debug, Default)]
pub(crate) struct Tracked {
    done: AtomicU64,
}

impl Tracked {
    /// Bytes done of the piece of work that reports now.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }
}

impl ProgressSink for Tracked {
    fn report(&self, done: u64, _total: u64) {
        self.done.store(done, Ordering::Relaxed);
    }
}

/// Runs `work`, and `save` at every interval until it is done.
///
/// A save that fails is not the work's failure: the next one, or the end, tells the same and more.
pub(crate) async fn saving<T, S>(
    interval: Duration,
    work: impl Future<Output = T>,
    save: impl Fn() -> S,
) -> T
where
    S: Future<Output = ()>,
{
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(interval) => save().await,
        }
    }
}
