//! Replications over doubles: the stories, faults, cancellation, and a break at every step.

use std::time::Duration;

use hub_domain::job::JobStatus;
use hub_domain::replication::ReplicationKind::{Incremental, Initial};
use hub_domain::source::CopyMethod;
use hub_ports::Classify;
use hub_testkit::{Break, CopyScript, Fault as StorageFault};

use crate::bench::Bench;

#[tokio::test(start_paused = true)]
async fn story_2_the_same_rows_are_linked_and_survive_the_job() {
    let bench = Bench::new(true).await.unwrap();
    let before: Vec<_> = bench.disks().await.unwrap().iter().map(|disk| disk.id).collect();
    let id = bench.start(Initial).await.unwrap();
    assert_eq!(bench.vm_status().await.unwrap(), "replicating");
    assert_eq!(bench.replication.delete(id).await.unwrap_err().code(), "replication/active");
    assert_eq!(bench.run(id).await.unwrap(), JobStatus::Succeeded);
    let disks = bench.disks().await.unwrap();
    assert_eq!(disks.iter().map(|disk| disk.id).collect::<Vec<_>>(), before);
    assert!(disks.iter().all(|disk| disk.job == Some(id)));
    assert_eq!(bench.vm_status().await.unwrap(), "ready_for_failover");
    let job = bench.job(id).await.unwrap();
    assert!(job.disks.iter().all(|disk| disk.root.is_some() && disk.path.is_some()));
    assert_eq!(job.bytes().done, job.bytes().total);
    bench.assert_nothing_left().unwrap();
    bench.replication.delete(id).await.unwrap();
    let disks = bench.disks().await.unwrap();
    assert!(disks.len() == 2 && disks.iter().all(|disk| disk.job.is_none()), "trap C11");
}

#[tokio::test(start_paused = true)]
async fn story_5_a_legacy_vm_gets_its_rows_by_asking_once_and_goes_on() {
    let bench = Bench::new(false).await.unwrap();
    let job = bench.replicate(Initial).await.unwrap();
    assert_eq!(job.state.status(), JobStatus::Succeeded);
    assert_eq!((job.disks.len(), bench.disks().await.unwrap().len()), (2, 2));
    bench.replicate(Incremental).await.unwrap();
    assert_eq!(bench.vma.inventory_calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_incremental_compares_digests_and_says_where_it_could_not() {
    let bench = Bench::new(true).await.unwrap();
    let first = bench.replicate(Incremental).await.unwrap();
    assert!(first.disks[0].method_reason.as_ref().unwrap().contains("no complete replica"));
    bench.replicate(Incremental).await.unwrap();
    let methods: Vec<_> =
        bench.vma.orders().iter().map(|order| order.disks[0].method.clone()).collect();
    assert_eq!(methods, [CopyMethod::Full, CopyMethod::ByDigest]);
}

#[tokio::test(start_paused = true)]
async fn p8_two_equal_requests_at_once_make_one_job() {
    for with_disks in [true, false] {
        let bench = Bench::new(with_disks).await.unwrap();
        let request = bench.request(Initial);
        let (one, other) =
            tokio::join!(bench.replication.start(&request), bench.replication.start(&request));
        let (one, other) = (one.unwrap(), other.unwrap());
        assert_eq!(one.job.id, other.job.id);
        assert!(one.is_new != other.is_new);
        assert_eq!(bench.disks().await.unwrap().len(), 2);
        let error = bench.replication.start(&bench.request(Incremental)).await.unwrap_err();
        assert_eq!(error.code(), "replication/already-running");
    }
}

#[tokio::test(start_paused = true)]
async fn faults_fail_the_job_with_their_code_and_the_vm_is_not_ready() {
    let plain = CopyScript { steps: 10, ..CopyScript::default() };
    for (script, fault, code) in [
        (CopyScript { lost_at: Some(3), ..plain.clone() }, None, "vma/unreachable"),
        (CopyScript { stuck_at: Some(3), ..plain.clone() }, None, "vma/stalled"),
        (CopyScript { forgets_at: Some(3), ..plain.clone() }, None, "vma/unknown-job"),
        (plain.clone(), Some(StorageFault::Mismatch), "backup/proof-mismatch"),
        (plain.clone(), Some(StorageFault::FullAtPrepare), "repository/full"),
        (plain, Some(StorageFault::FullAtSeal), "repository/full"),
    ] {
        let bench = Bench::new(true).await.unwrap();
        bench.vma.script(script);
        bench.storage.set_fault(fault);
        let job = bench.replicate(Initial).await.unwrap();
        assert_eq!(job.state.fault().unwrap().code, code);
        assert_eq!(bench.vm_status().await.unwrap(), "discovered");
        assert!(bench.storage.open_targets().is_empty(), "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn p9_a_cancelled_job_ends_within_seconds_and_a_stopping_hub_interrupts() {
    let bench = Bench::new(true).await.unwrap();
    bench.vma.script(CopyScript { steps: 1000, ..CopyScript::default() });
    let id = bench.start(Initial).await.unwrap();
    let cancelling = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        bench.replication.cancel(id).await?;
        anyhow::Ok(tokio::time::Instant::now())
    };
    let (status, asked) = tokio::join!(bench.run(id), cancelling);
    assert_eq!(status.unwrap(), JobStatus::Cancelled);
    assert!(asked.unwrap().elapsed() < Duration::from_secs(5));
    bench.assert_nothing_left().unwrap();
    let queued = bench.start(Initial).await.unwrap();
    let job = bench.replication.cancel(queued).await.unwrap();
    assert_eq!(job.state.status(), JobStatus::Cancelled);
    assert_eq!(bench.vm_status().await.unwrap(), "discovered");
    let stopped = bench.start(Initial).await.unwrap();
    bench.cancel.cancel();
    assert_eq!(bench.run(stopped).await.unwrap(), JobStatus::Queued);
    assert_eq!(bench.next_hub().await.unwrap(), [JobStatus::Succeeded]);
}

#[tokio::test(start_paused = true)]
async fn broken_at_any_step_the_job_ends_named_with_no_target_open() {
    for with_disks in [true, false] {
        for step in 1.. {
            let bench = Bench::new(with_disks).await.unwrap();
            bench.steps.break_at(step, Break::Fail);
            let Ok(id) = bench.start(Initial).await else { continue };
            let status = bench.run(id).await.unwrap();
            let reached = bench.steps.reached();
            bench.steps.heal();
            assert!(status.is_terminal(), "step {step}");
            let ready = bench.vm_status().await.unwrap() == "ready_for_failover";
            assert_eq!(ready, status == JobStatus::Succeeded, "step {step}");
            assert_eq!(ready, bench.storage.complete() == 2, "step {step}");
            bench.assert_nothing_left().unwrap();
            if !reached {
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn p2_killed_at_any_step_recovery_ends_the_job_once() {
    for step in 1.. {
        let bench = Bench::new(true).await.unwrap();
        bench.steps.break_at(step, Break::Hang);
        let all = bench.replicate(Initial);
        let _ = tokio::time::timeout(Duration::from_secs(900), all).await;
        let reached = bench.steps.reached();
        bench.steps.heal();
        bench.storage.restart();
        bench.replication.recover().await.unwrap();
        assert_eq!(bench.replication.recover().await.unwrap().requeued, 0, "twice is once");
        for end in bench.next_hub().await.unwrap() {
            assert_eq!(end, JobStatus::Succeeded, "step {step}");
        }
        assert_ne!(bench.vm_status().await.unwrap(), "replicating", "step {step}");
        let again = bench.replicate(Initial).await.unwrap();
        assert_eq!(again.state.status(), JobStatus::Succeeded);
        if !reached {
            break;
        }
    }
}
