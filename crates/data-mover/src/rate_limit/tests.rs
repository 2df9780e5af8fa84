//! Limits on a clock that stands still until everybody waits for it.

use futures::future::join_all;
use hub_block::MemoryDevice;

use super::*;

const BLOCK: u32 = 64 * 1024;
const KIB: u64 = 1024;

fn rate(bytes_per_second: u64) -> Option<NonZeroU64> {
    NonZeroU64::new(bytes_per_second)
}

fn limit(bytes_per_second: u64) -> Arc<RateLimit> {
    Arc::new(RateLimit::new(rate(bytes_per_second)))
}

/// A target of 8 MiB behind limits.
fn target(limits: &[&Arc<RateLimit>]) -> (RateLimited, Arc<Progress>) {
    let progress = Arc::new(Progress::default());
    let inner = Arc::new(MemoryDevice::new(vec![0; 8192 * 1024]));
    let limits = limits.iter().map(|it| Arc::clone(it)).collect();
    let block = BlockSize::new(BLOCK).unwrap();
    (RateLimited::new(inner, limits, block, progress.clone()), progress)
}

fn data(kib: u64) -> Bytes {
    vec![7; usize::try_from(kib * KIB).unwrap()].into()
}

/// Seconds that something took.
async fn seconds(work: impl Future) -> f64 {
    let began = Instant::now();
    work.await;
    began.elapsed().as_secs_f64()
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_nothing_waits() {
    let none = Arc::new(RateLimit::new(None));
    let (target, progress) = target(&[&none]);
    let took = seconds(async { target.write_at(0, data(8192)).await.unwrap() }).await;
    assert_eq!((took, progress.snapshot().held), (0.0, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn data_takes_its_time_and_zeroes_none() {
    let slow = limit(64 * KIB);
    let (target, progress) = target(&[&slow]);
    let took = seconds(async { target.write_at(0, data(1024)).await.unwrap() }).await;
    // One block of the sixteen is the burst.
    assert!((15.0..15.1).contains(&took), "{took}");
    let held = progress.snapshot().held;
    assert!((15.0..15.1).contains(&held.as_secs_f64()), "{held:?}");
    let free = async {
        target.write_zeroes(0, 8192 * KIB).await.unwrap();
        target.flush().await.unwrap();
        target.read_at(0, BLOCK).await.unwrap();
    };
    assert_eq!(seconds(free).await, 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_held_back_is_seen_to_be_alive() {
    let slow = limit(64 * KIB);
    let (target, progress) = target(&[&slow]);
    let writing = target.write_at(0, data(4096));
    let watching = async {
        let mut last = Duration::ZERO;
        for _ in 0..60 {
            tokio::time::sleep(Duration::from_millis(1050)).await;
            let held = progress.snapshot().held;
            assert!(held > last, "nothing was counted in a second");
            last = held;
        }
    };
    let (written, ()) = tokio::join!(writing, watching);
    written.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_written_is_whole_and_in_its_place() {
    let slow = limit(100 * KIB);
    let (target, _) = target(&[&slow]);
    let bytes: Bytes = (0..300 * 1024_u32).map(|it| u8::try_from(it % 251).unwrap()).collect();
    target.write_at(128 * KIB, bytes.clone()).await.unwrap();
    let read = target.read_at(128 * KIB, 300 * 1024).await.unwrap();
    assert!(read == bytes);
    let before = target.read_at(0, 128 * 1024).await.unwrap();
    assert!(before.iter().all(|it| *it == 0));
}

#[tokio::test(start_paused = true)]
async fn disks_share_a_limit_evenly_and_together_keep_it() {
    let shared = limit(1024 * KIB);
    let targets: Vec<_> = (0..3).map(|_| target(&[&shared])).collect();
    let writing = targets.iter().map(|(target, _)| async move {
        let began = Instant::now();
        target.write_at(0, data(2048)).await.unwrap();
        began.elapsed()
    });
    let took = join_all(writing).await;
    let (first, last) = (took.iter().min().unwrap(), took.iter().max().unwrap());
    // 6 MiB at 1 MiB per second, less a burst of a quarter of one.
    assert!((5.75..5.8).contains(&last.as_secs_f64()), "{took:?}");
    // They take turns piece by piece; only the first burst may go to one of them.
    assert!(*last - *first < Duration::from_millis(750), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn of_two_limits_both_hold() {
    let (job, vma) = (limit(256 * KIB), limit(1024 * KIB));
    let other = limit(64 * 1024 * KIB);
    let (slow, _) = target(&[&job, &vma]);
    let (fast, _) = target(&[&other, &vma]);
    let slow = seconds(async { slow.write_at(0, data(1024)).await.unwrap() });
    let fast = seconds(async { fast.write_at(0, data(2048)).await.unwrap() });
    let (slow, fast) = tokio::join!(slow, fast);
    // 1 MiB at 256 KiB per second, less the burst, and turns at the VMA's limit; the other job gets what is left of that.
    assert!((3.75..4.7).contains(&slow), "{slow}");
    assert!((1.9..3.0).contains(&fast), "{fast}");
}

#[tokio::test(start_paused = true)]
async fn a_changed_limit_holds_for_what_waits_already() {
    let slow = limit(64 * KIB);
    let (target, _) = target(&[&slow]);
    let writing = seconds(async { target.write_at(0, data(8192)).await.unwrap() });
    let raising = async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        slow.set(rate(1024 * KIB));
        tokio::time::sleep(Duration::from_secs(2)).await;
        slow.set(None);
    };
    let (took, ()) = tokio::join!(writing, raising);
    assert!((12.0..13.1).contains(&took), "{took}");
    assert_eq!(slow.get(), None);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_dropped_gives_its_turn_back() {
    let slow = limit(64 * KIB);
    let (target, _) = target(&[&slow]);
    let cut = tokio::time::timeout(Duration::from_secs(5), target.write_at(0, data(4096)));
    assert!(cut.await.is_err());
    let took = seconds(async { target.write_at(0, data(128)).await.unwrap() }).await;
    assert!(took <= 2.1, "{took}");
}
