//! Two units of work that meet: runs, starts, deletions and stops, interleaved by hand.

use std::sync::{Arc, Mutex};

use hub_domain::job::JobStatus;
use hub_domain::selector::DiskSelector;
use hub_ports::Classify;
use hub_testkit::{CopyScript, fixtures};
use tokio_util::sync::CancellationToken;

use super::meddler::Meddler;
use crate::bench::{Bench, FULL, INCREMENTAL};
use crate::{RunBackupError, StartBackup, StartBackupError, StartedRun};

type Answer = Result<StartedRun, StartBackupError>;

/// Starts `first`, and `other` while the unit of work of the first one is open.
async fn start_both(bench: &Bench, first: StartBackup, other: StartBackup) -> [Answer; 2] {
    let heard = Arc::new(Mutex::new(None));
    let (engine, place) = (bench.backup.clone(), heard.clone());
    let (engine, meddler) = Meddler::engine(&bench.backup, async move {
        let answer = engine.start(&other).await;
        *place.lock().unwrap() = Some(answer);
    });
    let answer = engine.start(&first).await;
    meddler.finish().await;
    let other = heard.lock().unwrap().take().unwrap();
    [answer, other]
}

#[tokio::test(start_paused = true)]
async fn promise_p8_two_interleaved_requests_make_one_run() {
    let bench = Bench::new().await.unwrap();
    let [first, other] = start_both(&bench, bench.request(FULL), bench.request(FULL)).await;
    let (first, other) = (first.unwrap(), other.unwrap());
    assert!(other.is_new && !first.is_new, "the second was first");
    assert_eq!(first.run.id, other.run.id);
    assert_eq!(bench.jobs().await.unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn promise_p8_of_two_different_interleaved_requests_one_is_refused() {
    let bench = Bench::new().await.unwrap();
    let one =
        |ordinal| StartBackup { disks: DiskSelector::Ordinal(ordinal), ..bench.request(FULL) };
    let elsewhere = fixtures::repository(2, "other").id;
    for (first, other) in [
        (one(0), one(1)),
        (one(0), StartBackup { repository: elsewhere, ..one(0) }),
        (one(0), StartBackup { backup_type: INCREMENTAL, ..one(0) }),
    ] {
        let [first, other] = start_both(&bench, first, other).await;
        assert_eq!(first.unwrap_err().code(), "backup/already-running");
        bench.backup.cancel(other.unwrap().run.id).await.unwrap();
    }
    assert_eq!(bench.jobs().await.unwrap().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn of_two_interleaved_runs_of_a_run_one_does_the_work() {
    let bench = Bench::new().await.unwrap();
    bench.vma.script(CopyScript { steps: 20, ..CopyScript::default() });
    let run = bench.start(FULL).await.unwrap();
    let engine = bench.backup.clone();
    let (first, meddler) = Meddler::engine(&bench.backup, async move {
        let ran = engine.run(run, CancellationToken::new()).await;
        assert_eq!(ran.unwrap(), JobStatus::Succeeded);
    });
    let ran = first.run(run, CancellationToken::new()).await;
    assert!(matches!(ran, Err(RunBackupError::AtWork(_))), "{ran:?}");
    assert_eq!(bench.steps.count("storage.prepare"), 2, "only one of them prepares");
    assert_eq!(bench.steps.count("storage.abandon"), 0, "what the other wrote stays");
    meddler.finish().await;
    assert!(bench.jobs().await.unwrap().iter().all(|job| job.is_restore_point()));
    bench.assert_nothing_left().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_stopped_before_it_began_leaves_the_one_at_work_alone() {
    let bench = Bench::new().await.unwrap();
    bench.vma.script(CopyScript { steps: 20, ..CopyScript::default() });
    let run = bench.start(FULL).await.unwrap();
    let stopped = CancellationToken::new();
    stopped.cancel();
    let (ran, late) = tokio::join!(bench.run(run), bench.backup.run(run, stopped));
    assert_eq!(ran.unwrap(), JobStatus::Succeeded);
    let left_alone = matches!(late, Err(RunBackupError::AtWork(_)) | Ok(JobStatus::Queued));
    assert!(left_alone, "{late:?}");
    assert!(bench.jobs().await.unwrap().iter().all(|job| job.is_restore_point()));
}

#[tokio::test(start_paused = true)]
async fn promise_p10_a_parent_deleted_while_an_incremental_is_planned_is_not_stood_upon() {
    let bench = Bench::new().await.unwrap();
    bench.back_up(FULL).await.unwrap();
    let parent = bench.jobs().await.unwrap()[0].id;
    let engine = bench.backup.clone();
    let (starting, meddler) = Meddler::engine(&bench.backup, async move {
        engine.delete(parent).await.unwrap();
    });
    let started = starting.start(&bench.request(INCREMENTAL)).await.unwrap();
    meddler.finish().await;
    assert_eq!(started.jobs[0].parent, None);
    assert_eq!(bench.run(started.run.id).await.unwrap(), JobStatus::Succeeded);
    let jobs = bench.jobs().await.unwrap();
    assert!(jobs.iter().all(|job| job.is_restore_point() && job.parent != Some(parent)));
    assert_eq!(bench.storage.sealed().len(), 3);
    bench.assert_nothing_left().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn promise_p10_a_parent_that_was_chosen_while_it_was_to_be_deleted_stays() {
    let bench = Bench::new().await.unwrap();
    bench.back_up(FULL).await.unwrap();
    let parent = bench.jobs().await.unwrap()[0].id;
    let (engine, request) = (bench.backup.clone(), bench.request(INCREMENTAL));
    let (deleting, meddler) = Meddler::engine(&bench.backup, async move {
        engine.start(&request).await.unwrap();
    });
    let refused = deleting.delete(parent).await.unwrap_err();
    meddler.finish().await;
    assert_eq!(refused.code(), "backup/has-children");
    let jobs = bench.jobs().await.unwrap();
    assert!(jobs[0].is_restore_point() && jobs[2].parent == Some(parent));
    assert_eq!(bench.run(jobs[2].run).await.unwrap(), JobStatus::Succeeded);
    bench.assert_nothing_left().await.unwrap();
}
