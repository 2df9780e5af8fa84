//! Tells a slow server from a silent one: a wait ends when nothing moves, not when much is to be moved.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, timeout_at};

/// A longer limit is none at all, and would overflow the clock.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// When bytes last moved over a connection.
#[derive(Debug)]
pub(super) struct Pulse {
    start: Instant,
    last_nanos: AtomicU64,
    limit: Duration,
}

/// Nothing moved for as long as the limit says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Quiet;

impl Pulse {
    /// A connection may be silent for `limit` while something is waited for.
    pub(super) fn new(limit: Duration) -> Self {
        let limit = limit.min(LONGEST);
        Self { start: Instant::now(), last_nanos: AtomicU64::new(0), limit }
    }

    /// How long the connection may be silent.
    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    /// Notes that bytes moved.
    fn beat(&self) {
        let nanos = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.last_nanos.store(nanos, Ordering::Relaxed);
    }

    /// Waits for work as long as bytes move.
    pub(super) async fn guard<F: Future>(&self, work: F) -> Result<F::Output, Quiet> {
        let begun = Instant::now();
        tokio::pin!(work);
        loop {
            let last = self.start + Duration::from_nanos(self.last_nanos.load(Ordering::Relaxed));
            let deadline = begun.max(last) + self.limit;
            if deadline <= Instant::now() {
                return Err(Quiet);
            }
            if let Ok(done) = timeout_at(deadline, &mut work).await {
                return Ok(done);
            }
        }
    }
}

/// A stream that notes when bytes move.
pub(super) struct Pulsing<S> {
    stream: S,
    pulse: Arc<Pulse>,
}

impl<S> Pulsing<S> {
    pub(super) fn new(stream: S, pulse: Arc<Pulse>) -> Self {
        Self { stream, pulse }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Pulsing<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let done = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        self.pulse.beat();
        Poll::Ready(done)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Pulsing<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let done = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        self.pulse.beat();
        Poll::Ready(done)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, parts));
        self.pulse.beat();
        Poll::Ready(done)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_slow_stream_lives_and_a_silent_one_ends() {
        let pulse = Pulse::new(Duration::from_secs(60));
        let slow = async {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_secs(50)).await;
                pulse.beat();
            }
        };
        assert_eq!(pulse.guard(slow).await, Ok(()));
        assert_eq!(pulse.guard(std::future::pending::<()>()).await, Err(Quiet));
    }
}
