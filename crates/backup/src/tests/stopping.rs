//! Stopping: at every wait, by a user and by the hub.

use std::time::Duration;

use hub_domain::backup::BackupJob;
use hub_domain::job::JobStatus;
use hub_testkit::Break;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::bench::{Bench, FULL, INCREMENTAL};

const AGES: Duration = Duration::from_secs(3600);

/// Stops a run once the chosen step is reached; how long it took to end.
async fn stop_at(bench: &Bench, step: usize, by_user: bool) -> anyhow::Result<Duration> {
    let run = bench.start(FULL).await?;
    bench.steps.break_at(step, Break::Hang);
    let token = CancellationToken::new();
    let stop = async {
        while !bench.steps.reached() {
            sleep(Duration::from_millis(1)).await;
        }
        if by_user {
            bench.backup.cancel(run).await?;
        }
        token.cancel();
        anyhow::Ok(Instant::now())
    };
    let run = async {
        bench.backup.run(run, token.clone()).await?;
        anyhow::Ok(Instant::now())
    };
    let (ran, asked) = timeout(AGES, async { tokio::join!(run, stop) }).await?;
    Ok(ran?.duration_since(asked?))
}

/// Whether what there was of an image had gone when its job was told to have been cancelled.
async fn removed_before_ended(bench: &Bench) -> anyhow::Result<bool> {
    let log = bench.steps.log();
    let after_removing = log.iter().rev().take_while(|it| *it != "storage.abandon");
    let commits = after_removing.filter(|it| *it == "store.commit").count();
    let cancelled = |job: &&BackupJob| job.state.status() == JobStatus::Cancelled;
    Ok(commits >= bench.jobs().await?.iter().filter(cancelled).count())
}

#[tokio::test(start_paused = true)]
async fn promise_p9_cancel_ends_a_run_within_seconds_at_every_wait_and_leaves_nothing() {
    let whole = Bench::new().await.unwrap();
    let run = whole.start(FULL).await.unwrap();
    whole.steps.heal();
    whole.run(run).await.unwrap();
    let log = whole.steps.log();
    let waits = ["vma.start_copy", "vma.copy_status", "storage.prepare", "storage.prepared"];
    let seals = ["storage.seal", "storage.sealed"];
    let is_wait = |name: &str| waits.contains(&name) || seals.contains(&name);
    let mut tried = 0;
    for (at, name) in log.iter().enumerate().filter(|(_, name)| is_wait(name)) {
        for (by_user, expected) in [(true, JobStatus::Cancelled), (false, JobStatus::Queued)] {
            let bench = Bench::new().await.unwrap();
            let took = stop_at(&bench, at + 1, by_user).await.unwrap();
            assert!(took < Duration::from_secs(6), "{took:?} at {name}");
            for job in bench.jobs().await.unwrap() {
                let status = job.state.status();
                assert!(status == expected || job.is_restore_point(), "{status:?} at {name}");
                let sealed = bench.storage.sealed().contains(&job.id);
                assert_eq!(sealed, job.is_restore_point(), "at {name}");
            }
            bench.assert_nothing_left().await.unwrap();
            if by_user {
                assert!(
                    removed_before_ended(&bench).await.unwrap(),
                    "{name}: {:?}",
                    bench.steps.log()
                );
            }
            bench.steps.heal();
            for end in bench.next_hub().await.unwrap() {
                assert_eq!(end, JobStatus::Succeeded, "at {name}");
            }
            bench.assert_nothing_left().await.unwrap();
            assert_eq!(bench.back_up(INCREMENTAL).await.unwrap(), JobStatus::Succeeded);
            tried += 1;
        }
    }
    assert!(tried >= 20, "{log:?}");
}

/// Who waits in line has begun nothing, so stopping the hub costs it nothing, whatever attempt it would have been.
#[tokio::test(start_paused = true)]
async fn a_run_in_line_waits_for_the_next_hub_even_before_its_last_attempt() {
    let mut bench = Bench::new().await.unwrap();
    bench.backup.options.copy_attempts = 1;
    let run = bench.start(FULL).await.unwrap();
    let token = CancellationToken::new();
    token.cancel();
    assert_eq!(bench.backup.run(run, token).await.unwrap(), JobStatus::Queued);
    for job in bench.jobs().await.unwrap() {
        assert_eq!((job.state.status(), job.attempt.number), (JobStatus::Queued, 1), "{job:?}");
    }
    assert_eq!(bench.next_hub().await.unwrap(), [JobStatus::Succeeded]);
    bench.assert_nothing_left().await.unwrap();
}
