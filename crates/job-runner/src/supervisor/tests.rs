//! Keys, slots, cancellation, panics and shutdown, on a clock that stands still.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{mpsc, oneshot};

use super::*;

fn one_job() -> Options {
    Options { concurrent_jobs: 1, ..Options::default() }
}

fn key(id: u32) -> JobKey {
    JobKey::new("test", id)
}

/// A job that says when it begins and ends when it is cancelled.
fn waiting(
    begun: mpsc::UnboundedSender<u32>,
    id: u32,
) -> impl FnOnce(CancellationToken) -> futures::future::BoxFuture<'static, ()> + Send {
    move |cancel| {
        async move {
            begun.send(id).ok();
            cancel.cancelled().await;
        }
        .boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn p8_of_two_tasks_with_one_key_only_the_first_runs() {
    let supervisor = Supervisor::default();
    let (begun, mut beginnings) = mpsc::unbounded_channel();
    assert_eq!(supervisor.spawn_job("wait", key(1), waiting(begun.clone(), 1)), Ok(()));
    assert_eq!(supervisor.spawn_job("wait", key(1), waiting(begun, 2)), Err(NotSpawned::Known));
    assert_eq!(beginnings.recv().await, Some(1));
    assert_eq!(supervisor.tasks(), [key(1)]);
    supervisor.shutdown(Duration::from_secs(1)).await.unwrap();
    assert_eq!(beginnings.recv().await, None);
}

#[tokio::test(start_paused = true)]
async fn no_more_jobs_are_at_work_than_there_are_slots() {
    let supervisor = Supervisor::new(Options { concurrent_jobs: 2, ..Options::default() });
    let (begun, mut beginnings) = mpsc::unbounded_channel();
    for id in 1..=3 {
        supervisor.spawn_job("wait", key(id), waiting(begun.clone(), id)).unwrap();
    }
    assert_eq!((beginnings.recv().await, beginnings.recv().await), (Some(1), Some(2)));
    tokio::task::yield_now().await;
    assert!(beginnings.try_recv().is_err());
    assert!(supervisor.cancel(&key(1)));
    assert_eq!(beginnings.recv().await, Some(3));
    supervisor.shutdown(Duration::from_secs(1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn p9_a_waiting_job_that_is_cancelled_gets_its_turn_to_end_its_record() {
    let supervisor = Supervisor::new(one_job());
    let (begun, mut beginnings) = mpsc::unbounded_channel();
    supervisor.spawn_job("wait", key(1), waiting(begun.clone(), 1)).unwrap();
    assert_eq!(beginnings.recv().await, Some(1));
    supervisor.spawn_job("wait", key(2), waiting(begun.clone(), 2)).unwrap();
    assert!(supervisor.cancel(&key(2)));
    assert_eq!(beginnings.recv().await, Some(2));
    assert!(!supervisor.cancel(&key(9)));
    supervisor.shutdown(Duration::from_secs(1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_caught_reported_and_frees_key_and_slot() {
    let (report, mut reports) = mpsc::unbounded_channel();
    let supervisor = Supervisor::reporting(one_job(), move |key, ending| {
        report.send((key.clone(), ending)).ok();
    });
    supervisor.spawn_job("panic", key(1), |_| async { panic!("out of {}", "luck") }).unwrap();
    assert_eq!(reports.recv().await, Some((key(1), Ending::Panicked("out of luck".to_owned()))));
    let (done, ended) = oneshot::channel();
    supervisor
        .spawn_job("after", key(1), |_| async move {
            done.send(()).ok();
        })
        .unwrap();
    ended.await.unwrap();
    assert_eq!(reports.recv().await, Some((key(1), Ending::Done)));
}

#[tokio::test(start_paused = true)]
async fn trap_c8_a_shutdown_awaits_what_ends_and_names_what_does_not() {
    let supervisor = Supervisor::default();
    let ended = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&ended);
    supervisor
        .spawn("tidy", key(1), |cancel| async move {
            cancel.cancelled().await;
            tokio::time::sleep(Duration::from_secs(2)).await;
            count.fetch_add(1, Ordering::Relaxed);
        })
        .unwrap();
    supervisor.spawn("deaf", key(2), |_| std::future::pending()).unwrap();
    let left = supervisor.shutdown(Duration::from_secs(5)).await;
    assert_eq!(left, Err(Stragglers(vec![key(2)])));
    assert_eq!(ended.load(Ordering::Relaxed), 1);
    assert_eq!(
        supervisor.spawn("late", key(3), |_| std::future::pending()),
        Err(NotSpawned::Stopping)
    );
    assert!(supervisor.tasks().is_empty());
}
