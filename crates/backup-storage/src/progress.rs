//! Tells a sink how far a copy or a verification is, while it runs.

use std::sync::Arc;
use std::time::Duration;

use hub_data_mover::Progress;
use hub_ports::ProgressSink;

/// How often a sink hears.
const EVERY: Duration = Duration::from_millis(200);

/// Runs `work` and reports its counters until it is done.
pub(crate) async fn reported<T>(
    progress: &Arc<Progress>,
    sink: &dyn ProgressSink,
    work: impl Future<Output = T>,
) -> T {
    let tell = || {
        let now = progress.snapshot();
        sink.report(now.done, now.total);
    };
    let mut work = std::pin::pin!(work);
    let mut tick = tokio::time::interval(EVERY);
    loop {
        tokio::select! {
            done = &mut work => {
                tell();
                return done;
            }
            _ = tick.tick() => tell(),
        }
    }
}
