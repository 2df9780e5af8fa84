//! Records of jobs: deleting them, and what a restart finds.

use hub_domain::ids::ReplicationJobId;
use hub_domain::job::JobStatus;
use hub_domain::replication::ReplicationKind;
use hub_domain::vm::ContextStatus;
use hub_ports::{Classify, ErrorClass, Store};
use uuid::Uuid;

use super::bench::{Bench, ended};

use ReplicationKind::{Incremental, Initial};

#[tokio::test(start_paused = true)]
async fn trap_c11_deleting_a_job_unlinks_its_disks_and_keeps_them() {
    let bench = Bench::new().await.unwrap();
    let before = bench.disks().await.unwrap();
    let job = bench.replicate(Initial).await.unwrap();
    bench.engine.delete(job.id).await.unwrap();
    let after = bench.disks().await.unwrap();
    assert_eq!(after.len(), 2);
    for (old, new) in before.iter().zip(&after) {
        assert_eq!((old.id, &old.facts, new.job), (new.id, &new.facts, None));
    }
    assert!(bench.jobs().await.unwrap().is_empty());
    let error = bench.engine.delete(job.id).await.unwrap_err();
    assert_eq!((error.code(), error.class()), ("replication/not-found", ErrorClass::NotFound));
}

#[tokio::test(start_paused = true)]
async fn an_active_job_is_not_deleted() {
    let bench = Bench::new().await.unwrap();
    let job = bench.start(Initial).await.unwrap();
    let refused = async || bench.engine.delete(job.id).await.map_err(|error| error.code());
    assert_eq!(refused().await, Err("replication/active"));
    super::bench::begin(&bench, job.id).await.unwrap();
    assert_eq!(refused().await, Err("replication/active"));
    bench.engine.cancel(job.id).await.unwrap();
    assert_eq!(refused().await, Err("replication/active"));
    assert_eq!(bench.engine.cancel(job.id).await.unwrap().state.status(), JobStatus::Cancelling);
    bench.engine.recover().await.unwrap();
    assert_eq!(refused().await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_vm_stays_ready_only_while_a_succeeded_job_is_left() {
    let bench = Bench::new().await.unwrap();
    let first = bench.replicate(Initial).await.unwrap();
    let second = bench.replicate(Incremental).await.unwrap();
    bench.engine.delete(first.id).await.unwrap();
    assert_eq!(bench.standing().await.unwrap(), ContextStatus::ReadyForFailover);
    bench.engine.delete(second.id).await.unwrap();
    assert_eq!(bench.standing().await.unwrap(), ContextStatus::Discovered);
}

#[tokio::test(start_paused = true)]
async fn deleting_a_failed_job_does_not_make_a_vm_ready() {
    let bench = Bench::new().await.unwrap();
    bench.replicate(Initial).await.unwrap();
    bench.replicas.set_fault(Some(hub_testkit::Fault::Mismatch));
    let failed = bench.replicate(Incremental).await.unwrap();
    assert_eq!(failed.state.status(), JobStatus::Failed);
    bench.engine.delete(failed.id).await.unwrap();
    assert_eq!(bench.standing().await.unwrap(), ContextStatus::Discovered);
}

#[tokio::test(start_paused = true)]
async fn deleting_an_old_job_leaves_the_one_at_work_alone() {
    let bench = Bench::new().await.unwrap();
    let old = bench.replicate(Initial).await.unwrap();
    let at_work = bench.start(Incremental).await.unwrap();
    bench.engine.delete(old.id).await.unwrap();
    assert_eq!(bench.standing().await.unwrap(), ContextStatus::Replicating);
    assert!(bench.links().await.unwrap().iter().all(|(_, job)| *job == Some(at_work.id)));
    assert_eq!(bench.run(at_work.id).await.unwrap().state.status(), JobStatus::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_does_not_exist_is_not_found() {
    let bench = Bench::new().await.unwrap();
    let id = ReplicationJobId::from_uuid(Uuid::from_u128(404));
    assert_eq!(bench.engine.cancel(id).await.unwrap_err().code(), "replication/not-found");
    assert_eq!(bench.engine.delete(id).await.unwrap_err().code(), "replication/not-found");
    assert!(bench.run(id).await.unwrap_err().to_string().contains("replication"));
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_vm_is_deleted_under_it_ends_without_a_trace() {
    let bench = Bench::new().await.unwrap();
    bench.vma.script(hub_testkit::CopyScript { steps: 1000, ..Default::default() });
    let job = bench.start(Initial).await.unwrap();
    let delete = async {
        tokio::time::sleep(std::time::Duration::from_secs(30)).await;
        let mut work = bench.store.begin().await?;
        work.delete_vm(job.vm).await?;
        work.commit().await
    };
    let (ran, deleted) = tokio::join!(bench.run(job.id), delete);
    deleted.unwrap();
    assert!(ran.is_err());
    assert!(bench.vma.copying().is_empty() && bench.replicas.open_targets().is_empty());
}

#[tokio::test(start_paused = true)]
async fn trap_d38_a_restart_names_what_it_ends_and_tells_the_vma() {
    let bench = Bench::new().await.unwrap();
    bench.vma.script(hub_testkit::CopyScript { steps: 1000, ..Default::default() });
    let job = bench.start(Initial).await.unwrap();
    let killed = std::time::Duration::from_secs(30);
    assert!(tokio::time::timeout(killed, bench.run(job.id)).await.is_err());
    assert_eq!(bench.vma.copying().len(), 1);
    bench.replicas.restart();
    bench.engine.recover().await.unwrap();
    let waiting = bench.job(job.id).await.unwrap();
    assert_eq!((ended(&waiting), waiting.attempt.number), ((JobStatus::Queued, None), 2));
    assert!(waiting.bytes().done > 0, "what was done stays told");
    assert!(bench.vma.copying().is_empty());
    bench.engine.recover().await.unwrap();
    assert_eq!(bench.job(job.id).await.unwrap(), waiting);

    bench.vma.script(hub_testkit::CopyScript::default());
    assert_eq!(bench.next_hub().await.unwrap(), [JobStatus::Succeeded]);
    let done = bench.job(job.id).await.unwrap();
    assert!(done.attempt.reason.unwrap().contains("the hub was restarted"));
    bench.is_tidy().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_vma_that_is_away_does_not_keep_a_hub_from_starting() {
    let bench = Bench::new().await.unwrap();
    let job = bench.start(Initial).await.unwrap();
    super::bench::begin(&bench, job.id).await.unwrap();
    bench.vma.set_reachable(false);
    let began = tokio::time::Instant::now();
    bench.engine.recover().await.unwrap();
    assert!(began.elapsed() < std::time::Duration::from_secs(6));
    assert_eq!(bench.job(job.id).await.unwrap().state.status(), JobStatus::Queued);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_cannot_be_read_stops_no_recovery() {
    let bench = Bench::new().await.unwrap();
    let job = bench.start(Initial).await.unwrap();
    super::bench::begin(&bench, job.id).await.unwrap();
    bench.store.garble("replication_jobs", job.id);
    assert_eq!(bench.engine.recover().await.unwrap(), crate::Recovered::default());
    bench.store.mend();
    // Nor does a row that it refers to.
    bench.store.garble("vm_replication_contexts", job.vm);
    assert_eq!(bench.engine.recover().await.unwrap().waiting.len(), 0);
    bench.store.mend();
    assert_eq!(bench.engine.recover().await.unwrap().requeued, 1);
}
