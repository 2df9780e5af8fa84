//! Stopping: at every phase, by a user, by the hub, and with a VMA that does not listen.

use std::time::Duration;

use hub_domain::job::JobStatus;
use hub_domain::replication::{ReplicationJob, ReplicationKind};
use hub_domain::vm::ContextStatus;
use hub_testkit::{Break, CopyScript};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::bench::{AGES, Bench, ended};

use ReplicationKind::{Incremental, Initial};

/// Who stops a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    User,
    Hub,
}

/// Stops a job once the chosen step is reached; how it ended, and after how long.
async fn stop_at(bench: &Bench, step: usize, by: By) -> anyhow::Result<(ReplicationJob, Duration)> {
    let job = bench.start(Initial).await?;
    bench.steps.break_at(step, Break::Hang);
    let token = CancellationToken::new();
    let stop = async {
        while !bench.steps.reached() {
            sleep(Duration::from_millis(1)).await;
        }
        if by == By::User {
            bench.engine.cancel(job.id).await?;
        }
        let asked = Instant::now();
        token.cancel();
        anyhow::Ok(asked)
    };
    let run = async {
        bench.engine.run(job.id, token.clone()).await?;
        anyhow::Ok(Instant::now())
    };
    let (ran, asked) = timeout(AGES, async { tokio::join!(run, stop) }).await?;
    Ok((bench.job(job.id).await?, ran?.duration_since(asked?)))
}

#[tokio::test(start_paused = true)]
async fn promise_p9_cancel_ends_a_job_within_seconds_at_every_wait_and_leaves_nothing() {
    let whole = Bench::new().await.unwrap();
    let job = whole.start(Initial).await.unwrap();
    whole.steps.heal();
    whole.run(job.id).await.unwrap();
    let log = whole.steps.log();
    let waits = ["vma.start_copy", "vma.copy_status", "replica.prepare", "replica.seal"];
    let mut tried = 0;
    for (at, _) in log.iter().enumerate().filter(|(_, name)| waits.contains(&name.as_str())) {
        for (by, expected) in
            [(By::User, (JobStatus::Cancelled, None)), (By::Hub, (JobStatus::Queued, None))]
        {
            let bench = Bench::new().await.unwrap();
            let (job, took) = stop_at(&bench, at + 1, by).await.unwrap();
            assert_eq!(ended(&job), expected, "{by:?} at {}", log[at]);
            assert!(took < Duration::from_secs(6), "{took:?} at {}", log[at]);
            if by == By::Hub {
                bench.steps.heal();
                assert_eq!(bench.next_hub().await.unwrap(), [JobStatus::Succeeded]);
            } else {
                assert_eq!(bench.standing().await.unwrap(), ContextStatus::Discovered);
            }
            bench.is_tidy().await.unwrap();
            let again = bench.replicate(Incremental).await.unwrap();
            assert_eq!(again.state.status(), JobStatus::Succeeded);
            tried += 1;
        }
    }
    assert!(tried >= 14, "{log:?}");
}

#[tokio::test(start_paused = true)]
async fn promise_p9_cancel_ends_a_copy_in_its_middle_and_the_vma_hears_of_it() {
    let bench = Bench::new().await.unwrap();
    bench.vma.script(CopyScript { steps: 1000, ..CopyScript::default() });
    let job = bench.start(Initial).await.unwrap();
    let token = CancellationToken::new();
    let stop = async {
        sleep(Duration::from_secs(30)).await;
        let job = bench.engine.cancel(job.id).await?;
        token.cancel();
        anyhow::Ok(job)
    };
    let (ran, asked) = tokio::join!(bench.engine.run(job.id, token.clone()), stop);
    ran.unwrap();
    assert_eq!(asked.unwrap().state.status(), JobStatus::Cancelling);
    let job = bench.job(job.id).await.unwrap();
    assert_eq!(ended(&job), (JobStatus::Cancelled, None));
    assert!(job.bytes().done > 0);
    assert_eq!(bench.steps.count("vma.cancel_copy"), 1);
    bench.is_tidy().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_wish_that_only_the_catalogue_knows_is_heard_too() {
    let bench = Bench::new().await.unwrap();
    bench.vma.script(CopyScript { steps: 1000, ..CopyScript::default() });
    let job = bench.start(Initial).await.unwrap();
    let stop = async {
        sleep(Duration::from_secs(30)).await;
        bench.engine.cancel(job.id).await
    };
    let (ran, asked) = tokio::join!(timeout(AGES, bench.run(job.id)), stop);
    asked.unwrap();
    assert_eq!(ended(&ran.unwrap().unwrap()), (JobStatus::Cancelled, None));
    bench.is_tidy().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_vma_that_does_not_obey_or_answer_delays_a_cancel_only_for_its_deadline() {
    for reachable in [true, false] {
        let bench = Bench::new().await.unwrap();
        let script = CopyScript { steps: 1000, obeys_cancel: false, ..CopyScript::default() };
        bench.vma.script(script);
        let job = bench.start(Initial).await.unwrap();
        let token = CancellationToken::new();
        let stop = async {
            sleep(Duration::from_secs(30)).await;
            bench.vma.set_reachable(reachable);
            token.cancel();
        };
        let began = Instant::now();
        let (ran, ()) = tokio::join!(bench.engine.run(job.id, token.clone()), stop);
        ran.unwrap();
        assert!(began.elapsed() < Duration::from_secs(36));
        let job = bench.job(job.id).await.unwrap();
        assert_eq!((job.state.status(), job.attempt.number), (JobStatus::Queued, 2));
        assert!(bench.replicas.open_targets().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_that_waits_is_cancelled_at_once() {
    let bench = Bench::new().await.unwrap();
    let job = bench.start(Initial).await.unwrap();
    let cancelled = bench.engine.cancel(job.id).await.unwrap();
    assert_eq!(ended(&cancelled), (JobStatus::Cancelled, None));
    bench.is_tidy().await.unwrap();
    assert_eq!(bench.run(job.id).await.unwrap(), cancelled);
    assert!(bench.vma.orders().is_empty());
    assert_eq!(bench.engine.cancel(job.id).await.unwrap(), cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_waits_when_the_hub_stops_is_left_to_the_next_one() {
    let bench = Bench::new().await.unwrap();
    let job = bench.start(Initial).await.unwrap();
    let token = CancellationToken::new();
    token.cancel();
    bench.engine.run(job.id, token).await.unwrap();
    let job = bench.job(job.id).await.unwrap();
    assert_eq!((ended(&job), job.attempt.number), ((JobStatus::Queued, None), 1));
    assert_eq!(bench.next_hub().await.unwrap(), [JobStatus::Succeeded]);
    bench.is_tidy().await.unwrap();
}
