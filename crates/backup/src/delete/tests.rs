//! Deleting: what is needed stays, what is not goes altogether, and a broken deletion is finished.

use hub_domain::job::JobStatus;
use hub_ports::{Classify, Store};
use hub_testkit::store_contract::samples;
use hub_testkit::{Break, Fault as StorageFault};

use crate::bench::{Bench, FULL, INCREMENTAL};

#[tokio::test(start_paused = true)]
async fn p10_a_point_with_children_stays_and_a_tip_goes_with_its_file() {
    let bench = Bench::new().await.unwrap();
    bench.back_up(FULL).await.unwrap();
    bench.back_up(INCREMENTAL).await.unwrap();
    let jobs = bench.jobs().await.unwrap();
    let error = bench.backup.delete(jobs[0].id).await.unwrap_err();
    assert_eq!((error.code(), error.children()), ("backup/has-children", &[jobs[2].id][..]));
    bench.backup.delete(jobs[2].id).await.unwrap();
    assert!(!bench.storage.sealed().contains(&jobs[2].id), "trap C10: the file is gone");
    bench.assert_nothing_left().await.unwrap();
    bench.backup.delete(jobs[0].id).await.unwrap();
    assert_eq!(bench.jobs().await.unwrap().len(), 2);
    assert_eq!(bench.backup.delete(jobs[0].id).await.unwrap_err().code(), "backup/not-found");
}

#[tokio::test(start_paused = true)]
async fn a_failed_child_stands_on_nothing() {
    let bench = Bench::new().await.unwrap();
    bench.back_up(FULL).await.unwrap();
    bench.storage.set_fault(Some(StorageFault::FullAtSeal));
    assert_eq!(bench.back_up(INCREMENTAL).await.unwrap(), JobStatus::Failed);
    bench.storage.set_fault(None);
    let jobs = bench.jobs().await.unwrap();
    assert_eq!(jobs[2].parent, Some(jobs[0].id));
    bench.backup.delete(jobs[0].id).await.unwrap();
    let left = bench.jobs().await.unwrap();
    assert_eq!((left.len(), left[1].parent), (3, None));
}

#[tokio::test(start_paused = true)]
async fn a_job_at_work_is_not_deleted() {
    let bench = Bench::new().await.unwrap();
    bench.start(FULL).await.unwrap();
    let job = bench.jobs().await.unwrap().remove(0);
    assert_eq!(bench.backup.delete(job.id).await.unwrap_err().code(), "backup/active");
}

#[tokio::test(start_paused = true)]
async fn a_point_outlives_its_vm_and_can_still_be_deleted() {
    let bench = Bench::new().await.unwrap();
    bench.back_up(FULL).await.unwrap();
    let mut work = bench.store.begin().await.unwrap();
    work.delete_vm(bench.vm.id).await.unwrap();
    work.commit().await.unwrap();
    let job = bench.jobs().await.unwrap().remove(0);
    assert!(job.is_restore_point());
    bench.backup.delete(job.id).await.unwrap();
    assert_eq!(bench.storage.sealed().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn trap_u30_a_deletion_that_fails_hides_the_point_and_is_finished_later() {
    let bench = Bench::new().await.unwrap();
    bench.back_up(FULL).await.unwrap();
    let job = bench.jobs().await.unwrap().remove(0);
    bench.storage.set_fault(Some(StorageFault::DeleteFails));
    assert_eq!(bench.backup.delete(job.id).await.unwrap_err().code(), "repository/io");
    let hidden = bench.jobs().await.unwrap().remove(0);
    assert!(!hidden.is_restore_point() && hidden.deleting_since.is_some());
    bench.storage.set_fault(None);
    assert_eq!(bench.backup.recover().await.unwrap().deleted, 1);
    assert_eq!(bench.jobs().await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn killed_at_any_step_a_deletion_is_whole_or_finished_by_recovery() {
    for step in 1.. {
        let bench = Bench::new().await.unwrap();
        bench.back_up(FULL).await.unwrap();
        let job = bench.jobs().await.unwrap().remove(0);
        bench.steps.break_at(step, Break::Hang);
        let deleting = bench.backup.delete(job.id);
        let _ = tokio::time::timeout(std::time::Duration::from_secs(900), deleting).await;
        let reached = bench.steps.reached();
        bench.steps.heal();
        bench.backup.recover().await.unwrap();
        let row = bench.jobs().await.unwrap().iter().any(|it| it.id == job.id);
        assert_eq!(row, bench.storage.sealed().contains(&job.id), "step {step}");
        bench.assert_nothing_left().await.unwrap();
        if !reached {
            assert!(!row);
            break;
        }
    }
}

/// Promise P10: whether a child or a restore stands in the way has to be known; of another point it need not be.
#[tokio::test(start_paused = true)]
async fn p10_what_cannot_be_read_is_not_taken_for_absent() {
    let bench = Bench::new().await.unwrap();
    bench.back_up(FULL).await.unwrap();
    bench.back_up(INCREMENTAL).await.unwrap();
    let jobs = bench.jobs().await.unwrap();
    bench.store.garble("backup_jobs", jobs[2].id);
    assert_eq!(bench.backup.delete(jobs[0].id).await.unwrap_err().code(), "store/corrupt");
    bench.store.mend();
    let restore = samples::restore(77, jobs[2].id);
    let mut work = bench.store.begin().await.unwrap();
    work.insert_restore(&restore).await.unwrap();
    work.commit().await.unwrap();
    bench.store.garble("restore_jobs", restore.id);
    assert_eq!(bench.backup.delete(jobs[2].id).await.unwrap_err().code(), "backup/in-use");
    bench.backup.delete(jobs[3].id).await.unwrap();
}
