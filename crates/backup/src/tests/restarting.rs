//! A hub that comes back after a kill tells the VMAs.

use std::time::Duration;

use hub_domain::job::JobStatus;
use hub_testkit::{Break, CopyScript};
use tokio::time::{Instant, timeout};

use crate::Recovered;
use crate::bench::{Bench, FULL};

#[tokio::test(start_paused = true)]
async fn trap_d38_a_restart_tells_the_vma_to_stop() {
    let bench = Bench::new().await.unwrap();
    bench.vma.script(CopyScript { steps: 1000, ..CopyScript::default() });
    let run = bench.start(FULL).await.unwrap();
    assert!(timeout(Duration::from_secs(30), bench.run(run)).await.is_err());
    assert_eq!(bench.vma.copying().len(), 1);
    let recovered = bench.backup.recover().await.unwrap();
    assert_eq!((recovered.requeued, recovered.interrupted), (2, 0));
    assert!(bench.vma.copying().is_empty());
    assert_eq!(bench.steps.count("vma.cancel_copy"), 1, "one word per run, not per disk");
    let again = bench.backup.recover().await.unwrap();
    assert_eq!(again, Recovered { requeued: 0, ..recovered }, "a second one changes nothing");

    bench.vma.script(CopyScript::default());
    assert_eq!(bench.next_hub().await.unwrap(), [JobStatus::Succeeded]);
    for job in bench.jobs().await.unwrap() {
        assert_eq!(job.attempt.number, 2);
        assert!(job.attempt.reason.unwrap().contains("the hub was restarted"));
    }
    bench.assert_nothing_left().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_is_restarted_again_and_again_gives_up_with_a_name() {
    let bench = Bench::new().await.unwrap();
    bench.vma.script(CopyScript { steps: 1000, ..CopyScript::default() });
    let run = bench.start(FULL).await.unwrap();
    for _ in 0..3 {
        assert!(timeout(Duration::from_secs(30), bench.run(run)).await.is_err());
        bench.backup.recover().await.unwrap();
    }
    for job in bench.jobs().await.unwrap() {
        assert_eq!(job.state.status(), JobStatus::Interrupted);
        assert_eq!(job.state.fault().unwrap().code, "job/hub-restarted");
        assert_eq!(job.attempt.number, 3);
    }
    bench.assert_nothing_left().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_run_that_waits_for_its_next_attempt_can_be_cancelled_and_leaves_nothing() {
    let bench = Bench::new().await.unwrap();
    bench.vma.script(CopyScript { steps: 1000, ..CopyScript::default() });
    let run = bench.start(FULL).await.unwrap();
    assert!(timeout(Duration::from_secs(30), bench.run(run)).await.is_err());
    bench.backup.recover().await.unwrap();
    bench.backup.cancel(run).await.unwrap();
    assert_eq!(bench.run(run).await.unwrap(), JobStatus::Cancelled);
    bench.assert_nothing_left().await.unwrap();
}

/// Trap D6: a disk that is a point already belongs to an instant that is gone.
#[tokio::test(start_paused = true)]
async fn trap_d6_a_run_is_not_gone_on_with_once_one_of_its_disks_is_a_point() {
    let bench = Bench::new().await.unwrap();
    let whole = Bench::new().await.unwrap();
    let run = whole.start(FULL).await.unwrap();
    whole.steps.heal();
    whole.run(run).await.unwrap();
    let second = whole.steps.log().iter().rposition(|it| it == "storage.seal").unwrap();
    let run = bench.start(FULL).await.unwrap();
    bench.steps.break_at(second + 1, Break::Hang);
    assert!(timeout(Duration::from_secs(900), bench.run(run)).await.is_err());
    bench.steps.heal();
    assert!(bench.next_hub().await.unwrap().is_empty());
    let jobs = bench.jobs().await.unwrap();
    assert!(jobs[0].is_restore_point());
    assert_eq!(jobs[1].state.status(), JobStatus::Interrupted);
    assert!(jobs[1].state.fault().unwrap().detail.contains("one instant"));
    bench.assert_nothing_left().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_vma_that_is_away_does_not_keep_a_hub_from_starting() {
    let bench = Bench::new().await.unwrap();
    bench.vma.script(CopyScript { steps: 1000, ..CopyScript::default() });
    let run = bench.start(FULL).await.unwrap();
    assert!(timeout(Duration::from_secs(30), bench.run(run)).await.is_err());
    bench.vma.set_reachable(false);
    let began = Instant::now();
    assert_eq!(bench.backup.recover().await.unwrap().requeued, 2);
    assert!(began.elapsed() < Duration::from_secs(6));
}

/// What a predecessor left is cleared up as far as it can be read, and the hub starts.
#[tokio::test(start_paused = true)]
async fn a_job_that_cannot_be_read_stops_no_recovery() {
    let bench = Bench::new().await.unwrap();
    bench.vma.script(CopyScript { steps: 1000, ..CopyScript::default() });
    let run = bench.start(FULL).await.unwrap();
    assert!(timeout(Duration::from_secs(30), bench.run(run)).await.is_err());
    let jobs = bench.jobs().await.unwrap();
    bench.store.garble("backup_jobs", jobs[0].id);
    let recovered = bench.backup.recover().await.unwrap();
    assert_eq!(
        (recovered.requeued, recovered.interrupted),
        (0, 1),
        "alone it cannot be of one instant"
    );
    assert!(bench.vma.copying().is_empty());
    bench.store.mend();
    let found = bench.jobs().await.unwrap();
    assert_eq!(found[1].state.status(), JobStatus::Interrupted);
    assert_eq!(found[0].state, jobs[0].state, "what could not be read is as it was");
}

/// Rows that a job refers to are needed to go on with it, and not to start a hub.
#[tokio::test(start_paused = true)]
async fn a_run_a_vma_or_a_repository_that_cannot_be_read_stops_no_recovery() {
    for which in 0..3 {
        let bench = Bench::new().await.unwrap();
        bench.vma.script(CopyScript { steps: 1000, ..CopyScript::default() });
        let run = bench.start(FULL).await.unwrap();
        assert!(timeout(Duration::from_secs(30), bench.run(run)).await.is_err());
        match which {
            0 => bench.store.garble("backup_runs", run),
            1 => bench.store.garble("vma_nodes", bench.vm.vma_node.unwrap()),
            _ => bench.store.garble("backup_repositories", bench.repository),
        }
        let recovered = bench.backup.recover().await.unwrap();
        let left = (recovered.requeued, recovered.interrupted);
        assert_eq!(left, if which == 0 { (0, 2) } else { (2, 0) }, "{which}");
    }
}
