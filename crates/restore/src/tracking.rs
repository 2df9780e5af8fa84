//! Progress of long work, heard often and stored seldom.

use std::sync::atomic::{AtomicU64, Ordering};

use hub_ports::{ProgressSink, StorageError};
use tokio_util::sync::CancellationToken;

use crate::engine::Options;

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

/// Runs `work`, and `save` at every interval until it is done; neither waits for the other.
///
/// A save that fails is not the work's failure: the next one, or the end, tells the same and more. Work that does not
/// stop in time after `cancel` is dropped, since a storage that hangs must not outlive the wish to stop.
pub(crate) async fn saving<T, S>(
    options: Options,
    cancel: &CancellationToken,
    work: impl Future<Output = Result<T, StorageError>>,
    save: impl Fn() -> S,
) -> Result<T, StorageError>
where
    S: Future<Output = ()>,
{
    let mut work = std::pin::pin!(work);
    let mut overdue = std::pin::pin!(async {
        cancel.cancelled().await;
        tokio::time::sleep(options.stop_timeout).await;
    });
    loop {
        let saved = async {
            tokio::time::sleep(options.progress_interval).await;
            save().await;
        };
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = &mut overdue => return Err(StorageError::Cancelled),
            () = saved => (),
        }
    }
}
