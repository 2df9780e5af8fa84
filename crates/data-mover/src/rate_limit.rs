//! Bytes per second that several copies share, enforced where their bytes leave.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hub_block::{BlockDevice, BlockError, Extent};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::token_bucket::TokenBucket;
use crate::{BlockSize, Progress};

/// How often a waiting sender looks whether the limit has changed, and counts that it is still held back.
const LOOK: Duration = Duration::from_secs(1);

/// A limit in bytes per second; whoever shares it takes turns in the order of asking.
///
/// In any stretch of time of length `t`, no more than `rate * t` bytes pass and a burst of a quarter of a second's
/// worth, at least 64 KiB. It may be changed at any time, and holds for what waits already.
#[derive(Debug)]
pub struct RateLimit {
    /// 0 is without limit; beside the bucket, so that unlimited copies never wait for a lock.
    rate: AtomicU64,
    bucket: Mutex<Option<TokenBucket>>,
    /// One sender at a time waits for the bucket, the others in line behind it.
    turn: Semaphore,
    epoch: Instant,
}

impl RateLimit {
    /// A limit, or none.
    pub fn new(bytes_per_second: Option<NonZeroU64>) -> Self {
        let limit = Self {
            rate: AtomicU64::new(0),
            bucket: Mutex::new(None),
            turn: Semaphore::new(1),
            epoch: Instant::now(),
        };
        limit.set(bytes_per_second);
        limit
    }

    /// Changes the limit.
    pub fn set(&self, bytes_per_second: Option<NonZeroU64>) {
        let now = self.epoch.elapsed();
        let mut bucket = self.bucket.lock();
        match (bucket.as_mut(), bytes_per_second) {
            (Some(bucket), Some(rate)) => bucket.set_rate(rate, now),
            (None, Some(rate)) => *bucket = Some(TokenBucket::new(rate, now)),
            (_, None) => *bucket = None,
        }
        self.rate.store(bytes_per_second.map_or(0, NonZeroU64::get), Ordering::Release);
    }

    /// The limit, if there is one.
    pub fn get(&self) -> Option<NonZeroU64> {
        NonZeroU64::new(self.rate.load(Ordering::Acquire))
    }

    /// How large a piece leaves at once, so that no single one takes long; a multiple of the block.
    fn piece(&self, block: u64) -> u64 {
        let burst = self.bucket.lock().as_ref().map_or(u64::MAX, TokenBucket::burst);
        (burst / 4 / block * block).max(block)
    }

    /// How long so many bytes have to wait; nothing without a limit.
    fn wait(&self, bytes: u64) -> Duration {
        let now = self.epoch.elapsed();
        self.bucket.lock().as_mut().map_or(Duration::ZERO, |bucket| bucket.wait(now, bytes))
    }

    fn take(&self, bytes: u64) {
        let now = self.epoch.elapsed();
        if let Some(bucket) = self.bucket.lock().as_mut() {
            bucket.take(now, bytes);
        }
    }

    /// Waits until so many bytes may pass, looking again now and then whether the limit is another one.
    async fn ready(&self, bytes: u64) {
        loop {
            let wait = self.wait(bytes);
            if wait.is_zero() {
                return;
            }
            tokio::time::sleep(wait.min(LOOK)).await;
        }
    }
}

/// A target whose data is sent within limits; zeroes that are only asked for, and flushes, pass at once.
///
/// A request is cut into pieces of whole blocks that take about a sixteenth of a second each, so that progress is seen
/// at the lowest rate, and so that the disks that share a limit take turns. What it waits is counted in the
/// [`Progress`], since a copy that is held back is not a copy that hangs.
pub struct RateLimited {
    inner: Arc<dyn BlockDevice>,
    limits: Vec<Arc<RateLimit>>,
    block: u64,
    progress: Arc<Progress>,
}

impl RateLimited {
    /// Sends to `inner` within all of these limits, which every user names in the same order.
    pub fn new(
        inner: Arc<dyn BlockDevice>,
        limits: Vec<Arc<RateLimit>>,
        block: BlockSize,
        progress: Arc<Progress>,
    ) -> Self {
        Self { inner, limits, block: block.bytes(), progress }
    }

    fn piece(&self) -> u64 {
        self.limits.iter().map(|it| it.piece(self.block)).min().unwrap_or(u64::MAX)
    }

    /// Waits until all limits let so many bytes pass, and takes them out of all at once.
    ///
    /// Nobody else takes from a limit whose turn this is, so what was ready in the first is ready still when the last
    /// one is: no limit is exceeded by pieces that gathered behind another.
    async fn pass(&self, bytes: u64) {
        let mut turns = Vec::with_capacity(self.limits.len());
        for limit in &self.limits {
            // The semaphore is never closed.
            turns.push(limit.turn.acquire().await);
            limit.ready(bytes).await;
        }
        for limit in &self.limits {
            limit.take(bytes);
        }
    }

    async fn pass_counted(&self, bytes: u64) {
        let mut passing = Box::pin(self.pass(bytes));
        let mut since = Instant::now();
        loop {
            let passed = tokio::time::timeout(LOOK, &mut passing).await;
            self.progress.add_held(since.elapsed());
            if passed.is_ok() {
                return;
            }
            since = Instant::now();
        }
    }
}

#[async_trait]
impl BlockDevice for RateLimited {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn read_only(&self) -> bool {
        self.inner.read_only()
    }

    async fn read_at(&self, offset: u64, len: u32) -> Result<Bytes, BlockError> {
        self.inner.read_at(offset, len).await
    }

    async fn write_at(&self, offset: u64, data: Bytes) -> Result<(), BlockError> {
        let (mut offset, mut rest) = (offset, data);
        while !rest.is_empty() && self.limits.iter().any(|limit| limit.get().is_some()) {
            let len = usize::try_from(self.piece()).unwrap_or(usize::MAX).min(rest.len());
            let piece = rest.split_to(len);
            let bytes = piece.len() as u64;
            self.pass_counted(bytes).await;
            self.inner.write_at(offset, piece).await?;
            offset += bytes;
        }
        if rest.is_empty() { Ok(()) } else { self.inner.write_at(offset, rest).await }
    }

    async fn write_zeroes(&self, offset: u64, len: u64) -> Result<(), BlockError> {
        self.inner.write_zeroes(offset, len).await
    }

    async fn extents(&self, offset: u64, len: u64) -> Result<Vec<Extent>, BlockError> {
        self.inner.extents(offset, len).await
    }

    async fn flush(&self) -> Result<(), BlockError> {
        self.inner.flush().await
    }
}

#[cfg(test)]
mod tests;
