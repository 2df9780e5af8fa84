//! A VMA that takes no more copies at the moment: nothing has failed, and the run waits for its turn again.

use hub_domain::backup::BackupType;
use hub_domain::job::JobStatus;
use hub_testkit::CopyScript;

use crate::bench::Bench;

#[tokio::test(start_paused = true)]
async fn a_run_that_its_vma_refuses_is_queued_again_as_it_was() {
    let bench = Bench::new().await.unwrap();
    bench.vma.script(CopyScript { takes: Some(0), ..CopyScript::default() });
    let run = bench.start(BackupType::Full).await.unwrap();
    for _ in 0..5 {
        assert_eq!(bench.run(run).await.unwrap(), JobStatus::Queued);
        for job in bench.jobs().await.unwrap() {
            assert_eq!(job.state.status(), JobStatus::Queued);
            assert_eq!(job.attempt.number, 1, "nothing was lost");
        }
        bench.assert_nothing_left().await.unwrap();
    }
    bench.vma.script(CopyScript::default());
    assert_eq!(bench.run(run).await.unwrap(), JobStatus::Succeeded);
    assert_eq!(bench.vma.orders().len(), 1);
    bench.assert_nothing_left().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_run_that_was_refused_is_cancelled_as_one_that_waits() {
    let bench = Bench::new().await.unwrap();
    bench.vma.script(CopyScript { takes: Some(0), ..CopyScript::default() });
    let run = bench.start(BackupType::Full).await.unwrap();
    assert_eq!(bench.run(run).await.unwrap(), JobStatus::Queued);
    bench.backup.cancel(run).await.unwrap();
    for job in bench.jobs().await.unwrap() {
        assert_eq!(job.state.status(), JobStatus::Cancelled);
    }
    assert_eq!(bench.run(run).await.unwrap(), JobStatus::Cancelled);
    bench.assert_nothing_left().await.unwrap();
}
