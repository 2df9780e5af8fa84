//! A token bucket that is told the time: exact in whole numbers, so that nothing drifts however long a copy takes.

use std::num::NonZeroU64;
use std::time::Duration;

/// Parts of a byte per nanosecond are counted, so that no rounding ever adds up.
const NANOS: i128 = 1_000_000_000;

/// The smallest burst: one block of 64 KiB passes at once whatever the rate.
const MIN_BURST: u64 = 64 * 1024;

/// Fills with bytes at a rate, up to a quarter of a second's worth; whoever sends takes them out.
///
/// In any stretch of time of length `t`, no more than `rate * t + burst` bytes pass, pauses before it included.
#[derive(Clone, Debug)]
pub(crate) struct TokenBucket {
    rate: NonZeroU64,
    /// Bytes times nanoseconds per second; below zero after a piece that was larger than the burst.
    level: i128,
    /// Up to when it was filled.
    at: Duration,
}

impl TokenBucket {
    /// A full bucket at this time; times are counted from any fixed moment.
    pub(crate) fn new(rate: NonZeroU64, now: Duration) -> Self {
        Self { rate, level: i128::from(burst(rate)) * NANOS, at: now }
    }

    /// Bytes that pass at once after a pause.
    pub(crate) fn burst(&self) -> u64 {
        burst(self.rate)
    }

    /// Changes the rate from now on; what had gathered is kept as far as the new burst allows.
    pub(crate) fn set_rate(&mut self, rate: NonZeroU64, now: Duration) {
        self.fill(now);
        self.rate = rate;
        self.level = self.level.min(i128::from(self.burst()) * NANOS);
    }

    /// How long until so many bytes may pass; zero when they may now.
    ///
    /// A piece larger than the burst may pass when the bucket is full.
    pub(crate) fn wait(&mut self, now: Duration, bytes: u64) -> Duration {
        self.fill(now);
        let missing = i128::from(bytes.min(self.burst())) * NANOS - self.level;
        let nanos = u128::try_from(missing).unwrap_or(0).div_ceil(self.rate.get().into());
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Takes bytes out that pass now; ask [`wait`](Self::wait) first.
    pub(crate) fn take(&mut self, now: Duration, bytes: u64) {
        self.fill(now);
        self.level -= i128::from(bytes) * NANOS;
    }

    fn fill(&mut self, now: Duration) {
        let elapsed = now.saturating_sub(self.at);
        self.at = self.at.max(now);
        let gained = elapsed.as_nanos().saturating_mul(self.rate.get().into());
        let full = i128::from(self.burst()) * NANOS;
        let gained = i128::try_from(gained).unwrap_or(i128::MAX);
        self.level = self.level.saturating_add(gained).min(full);
    }
}

fn burst(rate: NonZeroU64) -> u64 {
    (rate.get() / 4).max(MIN_BURST)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate() -> impl Strategy<Value = NonZeroU64> {
        (1_u64..1 << 34).prop_map(|rate| NonZeroU64::new(rate).unwrap())
    }

    /// Whether the pieces that passed between any two of them, both included, are within rate and burst.
    fn within(rate: NonZeroU64, burst: u64, passed: &[(Duration, u64)]) -> bool {
        passed.iter().enumerate().all(|(first, (from, _))| {
            let mut bytes = 0_u128;
            passed[first..].iter().all(|(to, piece)| {
                bytes += u128::from(*piece);
                let stretch = (*to - *from).as_nanos();
                bytes * 1_000_000_000
                    <= stretch * u128::from(rate.get()) + u128::from(burst) * 1_000_000_000
            })
        })
    }

    proptest! {
        #[test]
        fn no_stretch_of_time_passes_more_than_rate_and_burst(
            rate in rate(),
            steps in prop::collection::vec((0_u64..3_000_000_000, 1_u64..1 << 20), 1..60)
        ) {
            let mut now = Duration::from_secs(7);
            let mut bucket = TokenBucket::new(rate, now);
            let mut passed = Vec::new();
            for (pause, bytes) in steps {
                now += Duration::from_nanos(pause);
                let bytes = bytes.min(bucket.burst());
                if bucket.wait(now, bytes).is_zero() {
                    bucket.take(now, bytes);
                    passed.push((now, bytes));
                }
            }
            prop_assert!(within(rate, bucket.burst(), &passed));
        }

        /// Whoever waits exactly as long as told gets the rate to the byte, after any number of pieces.
        #[test]
        fn whoever_waits_as_told_loses_nothing_to_rounding(
            rate in rate(),
            pieces in prop::collection::vec(1_u64..1 << 18, 1..200)
        ) {
            let mut now = Duration::ZERO;
            let mut bucket = TokenBucket::new(rate, now);
            let mut passed = Vec::new();
            for bytes in pieces {
                let bytes = bytes.min(bucket.burst());
                let wait = bucket.wait(now, bytes);
                now += wait;
                prop_assert!(bucket.wait(now, bytes).is_zero(), "told {wait:?}, and it was too short");
                bucket.take(now, bytes);
                passed.push((now, bytes));
            }
            prop_assert!(within(rate, bucket.burst(), &passed));
            let sum: u128 = passed.iter().map(|(_, bytes)| u128::from(*bytes)).sum();
            let due = now.as_nanos() * u128::from(rate.get()) / 1_000_000_000;
            // Each wait is rounded up to a whole nanosecond, and what that gains is never taken away.
            let rounding = u128::from(rate.get()).div_ceil(1_000_000_000);
            prop_assert!(sum + rounding >= due, "{sum} of {due} bytes");
        }

        #[test]
        fn a_changed_rate_holds_from_then_on(slow in rate(), fast in rate(), pause in 0_u64..1 << 40) {
            let mut bucket = TokenBucket::new(fast, Duration::ZERO);
            let now = Duration::from_nanos(pause);
            bucket.set_rate(slow, now);
            prop_assert!(bucket.wait(now, bucket.burst()) <= Duration::from_secs(1 << 17));
            let full = bucket.burst().min(burst(fast));
            prop_assert!(bucket.wait(now, full).is_zero());
            bucket.take(now, full);
            let mut later = now + Duration::from_secs(3600);
            prop_assert!(bucket.wait(later, 1).is_zero() || slow.get() < 64);
            later += Duration::from_secs(1 << 18);
            prop_assert!(bucket.wait(later, bucket.burst()).is_zero());
        }
    }

    #[test]
    fn a_long_pause_gathers_no_more_than_the_burst() {
        let rate = NonZeroU64::new(1 << 20).unwrap();
        let mut bucket = TokenBucket::new(rate, Duration::ZERO);
        let year = Duration::from_secs(365 * 24 * 3600);
        assert_eq!(bucket.burst(), 1 << 18);
        assert!(bucket.wait(year, bucket.burst()).is_zero());
        bucket.take(year, bucket.burst());
        assert_eq!(bucket.wait(year, 1 << 18), Duration::from_millis(250));
    }

    #[test]
    fn a_piece_beyond_the_burst_is_paid_for_afterwards() {
        let rate = NonZeroU64::new(1 << 16).unwrap();
        let mut bucket = TokenBucket::new(rate, Duration::ZERO);
        assert!(bucket.wait(Duration::ZERO, 1 << 20).is_zero());
        bucket.take(Duration::ZERO, 1 << 20);
        assert_eq!(bucket.wait(Duration::ZERO, 1 << 16), Duration::from_secs(16));
    }

    #[test]
    fn a_clock_that_stands_or_falls_back_gives_nothing() {
        let rate = NonZeroU64::new(1 << 16).unwrap();
        let mut bucket = TokenBucket::new(rate, Duration::from_secs(9));
        bucket.take(Duration::from_secs(9), 1 << 16);
        let expected = Duration::from_secs(1);
        assert_eq!(bucket.wait(Duration::from_secs(3), 1 << 16), expected);
        assert_eq!(bucket.wait(Duration::from_secs(9), 1 << 16), expected);
    }
}
