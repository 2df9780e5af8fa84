//! Running: what is ordered, what is believed, and what each fault becomes.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use hub_domain::disk::DiskKey;
use hub_domain::fault::Fault;
use hub_domain::job::JobStatus;
use hub_domain::limits::ByteRate;
use hub_domain::replication::ReplicationKind;
use hub_domain::source::CopyMethod;
use hub_domain::time::Timestamp;
use hub_domain::vm::ContextStatus;
use hub_ports::{Clock, SourceNode};
use hub_testkit::{CopyScript, FixedClock, fixtures};
use tokio_util::sync::CancellationToken;

use super::bench::{Bench, ended};

use ReplicationKind::{Incremental, Initial};

fn script() -> CopyScript {
    CopyScript { steps: 20, ..CopyScript::default() }
}

#[tokio::test(start_paused = true)]
async fn traps_d6_d7_d8_one_order_names_every_disk_with_its_own_key_capacity_and_target() {
    let bench = Bench::new().await.unwrap();
    let job = bench.replicate(Initial).await.unwrap();
    let orders = bench.vma.orders();
    assert_eq!(orders.len(), 1);
    let order = &orders[0];
    assert_eq!((order.job.clone(), order.vm.as_str()), (job.id.to_string(), "vm-1"));
    let disks: Vec<_> =
        order.disks.iter().map(|it| (it.key.as_str(), it.capacity.bytes())).collect();
    assert_eq!(disks, [("disk-2000", fixtures::BIG), ("disk-2001", fixtures::SMALL)]);
    let targets: BTreeSet<_> = order.disks.iter().map(|it| &it.target.address.export).collect();
    assert_eq!(targets.len(), 2);
    assert!(order.disks.iter().all(|disk| disk.method == CopyMethod::Full));
    for (disk, sent) in job.disks.iter().zip(&order.disks) {
        assert_eq!(disk.path.as_ref(), Some(&sent.target.path));
        assert_eq!((disk.method.as_deref(), disk.method_reason.as_deref()), (Some("full"), None));
        assert_eq!(disk.bytes.done, sent.capacity.bytes());
        assert!(disk.root.as_ref().is_some_and(|root| root.contains(disk.key.as_str())));
    }
    assert_eq!(bench.replicas.complete(), 2);
    bench.is_tidy().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_incremental_sends_by_digest_where_there_is_a_parent_and_says_why_where_not() {
    let bench = Bench::new().await.unwrap();
    let first = bench.replicate(Incremental).await.unwrap();
    let methods = |job: &hub_domain::replication::ReplicationJob| -> Vec<_> {
        job.disks.iter().map(|disk| (disk.method.clone(), disk.method_reason.clone())).collect()
    };
    for (method, reason) in methods(&first) {
        assert_eq!(method.as_deref(), Some("full"));
        assert!(reason.unwrap().contains("no complete replica"));
    }
    let second = bench.replicate(Incremental).await.unwrap();
    for (method, reason) in methods(&second) {
        assert_eq!((method.as_deref(), reason), (Some("by_digest"), None));
    }
    assert!(bench.vma.orders()[1].disks.iter().all(|it| it.method == CopyMethod::ByDigest));
    let fall = Some((CopyMethod::Full, "the table cannot be read".to_owned()));
    bench.vma.script(CopyScript { falls_back: fall, ..CopyScript::default() });
    let third = bench.replicate(Incremental).await.unwrap();
    for (method, reason) in methods(&third) {
        assert_eq!(method.as_deref(), Some("full"));
        assert_eq!(reason.as_deref(), Some("the table cannot be read"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_fails_fails_the_job_and_the_other_stays_complete() {
    let bench = Bench::new().await.unwrap();
    let key = DiskKey::new("disk-2001").unwrap();
    let failing = [(key, Fault::new("source/io", "a sector cannot be read"))].into();
    bench.vma.script(CopyScript { failing, ..CopyScript::default() });
    let job = bench.replicate(Initial).await.unwrap();
    assert_eq!(ended(&job), (JobStatus::Failed, Some("source/io")));
    let fault = job.state.fault().unwrap();
    assert_eq!(fault.detail, "disk disk-2001: a sector cannot be read");
    assert_eq!((job.disks[0].root.is_some(), job.disks[1].root.is_some()), (true, false));
    assert_eq!(bench.replicas.complete(), 1);
    assert_eq!(bench.standing().await.unwrap(), ContextStatus::Discovered);
    bench.is_tidy().await.unwrap();
    bench.vma.script(CopyScript::default());
    let healed = bench.replicate(Incremental).await.unwrap();
    let methods: Vec<_> = healed.disks.iter().map(|disk| disk.method.as_deref()).collect();
    assert_eq!(methods, [Some("by_digest"), Some("full")]);
    assert_eq!(bench.standing().await.unwrap(), ContextStatus::ReadyForFailover);
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_and_a_proof_that_does_not_agree_fail_the_job_and_leave_no_target() {
    use hub_testkit::Fault::{FullAtPrepare, FullAtSeal, Mismatch};
    for (fault, code) in [
        (FullAtPrepare, "repository/full"),
        (FullAtSeal, "repository/full"),
        (Mismatch, "backup/proof-mismatch"),
    ] {
        let bench = Bench::new().await.unwrap();
        bench.replicas.set_fault(Some(fault));
        let job = bench.replicate(Initial).await.unwrap();
        assert_eq!(ended(&job), (JobStatus::Failed, Some(code)), "{fault:?}");
        assert!(job.state.fault().unwrap().detail.starts_with("disk disk-2000: "), "{job:?}");
        assert!(job.disks.iter().all(|disk| disk.root.is_none()));
        assert_eq!(bench.replicas.complete(), 0);
        bench.is_tidy().await.unwrap();
        bench.replicas.set_fault(None);
        let again = bench.replicate(Initial).await.unwrap();
        assert_eq!(again.state.status(), JobStatus::Succeeded);
    }
}

#[tokio::test(start_paused = true)]
async fn trap_d5_a_copy_that_moves_no_byte_is_given_up_and_cancelled() {
    let bench = Bench::new().await.unwrap();
    bench.vma.script(CopyScript { stuck_at: Some(7), ..script() });
    let job = bench.replicate(Initial).await.unwrap();
    assert_eq!(ended(&job), (JobStatus::Failed, Some("vma/stalled")));
    assert!(job.bytes().done > 0, "what was done stays told");
    bench.is_tidy().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_slow_copy_that_moves_is_not_a_stalled_one() {
    let mut bench = Bench::new().await.unwrap();
    bench.engine.options.watch.poll_interval = Duration::from_secs(9);
    bench.vma.script(script());
    let job = bench.replicate(Initial).await.unwrap();
    assert_eq!(ended(&job), (JobStatus::Succeeded, None));
}

#[tokio::test(start_paused = true)]
async fn a_vma_that_comes_back_in_time_is_forgiven() {
    for gone_at in [0, 3] {
        let bench = Bench::new().await.unwrap();
        bench.vma.script(script());
        let job = bench.start(Initial).await.unwrap();
        let cut = async {
            tokio::time::sleep(Duration::from_millis(gone_at * 1000 + 500)).await;
            bench.vma.set_reachable(false);
            tokio::time::sleep(Duration::from_secs(8)).await;
            bench.vma.set_reachable(true);
        };
        bench.vma.set_reachable(gone_at != 0);
        let (job, ()) = tokio::join!(bench.run(job.id), cut);
        assert_eq!(ended(&job.unwrap()), (JobStatus::Succeeded, None));
        assert_eq!(bench.vma.orders().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_vma_that_stays_away_fails_the_job() {
    let bench = Bench::new().await.unwrap();
    bench.vma.script(CopyScript { lost_at: Some(4), ..script() });
    let job = bench.replicate(Initial).await.unwrap();
    assert_eq!(ended(&job), (JobStatus::Failed, Some("vma/unreachable")));
    assert!(bench.replicas.open_targets().is_empty());
    assert_eq!(bench.standing().await.unwrap(), ContextStatus::Discovered);
}

#[tokio::test(start_paused = true)]
async fn trap_d38_a_vma_that_forgets_the_job_every_time_fails_it_with_its_name() {
    let bench = Bench::new().await.unwrap();
    bench.vma.script(CopyScript { forgets_at: Some(4), ..script() });
    let job = bench.replicate(Initial).await.unwrap();
    assert_eq!(ended(&job), (JobStatus::Failed, Some("vma/unknown-job")));
    bench.is_tidy().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_the_vma_stops_by_itself_is_ordered_again() {
    let bench = Bench::new().await.unwrap();
    bench.vma.script(script());
    let job = bench.start(Initial).await.unwrap();
    let stop = async {
        tokio::time::sleep(Duration::from_millis(3500)).await;
        let node = fixtures::vma_node(1, "vma1");
        bench.vma.cancel_copy(&node, &job.id.to_string()).await
    };
    let (ran, stopped) = tokio::join!(bench.run(job.id), stop);
    stopped.unwrap();
    // Nobody at the hub asked for it: the VMA was stopped, and is told again when it is back.
    let job = ran.unwrap();
    assert_eq!((ended(&job), job.attempt.number), ((JobStatus::Succeeded, None), 2));
    bench.is_tidy().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn trap_d24_stored_progress_never_goes_back() {
    let bench = Bench::new().await.unwrap();
    bench.vma.script(script());
    let job = bench.start(Initial).await.unwrap();
    let watch = async {
        let mut seen = Vec::new();
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(1300)).await;
            seen.push(bench.job(job.id).await?);
        }
        anyhow::Ok(seen)
    };
    let (ran, seen) = tokio::join!(bench.run(job.id), watch);
    let mut seen = seen.unwrap();
    seen.push(ran.unwrap());
    let done: Vec<u64> = seen.iter().map(|job| job.bytes().done).collect();
    assert!(done.is_sorted() && done[0] < done[5], "{done:?}");
    let last = &seen[10];
    assert_eq!(last.bytes().done, fixtures::BIG + fixtures::SMALL);
    assert_eq!(last.state.status(), JobStatus::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn progress_is_stored_seldom_however_often_the_vma_is_asked() {
    let mut bench = Bench::new().await.unwrap();
    bench.engine.options.watch.poll_interval = Duration::from_millis(10);
    bench.vma.script(CopyScript { steps: 300, ..CopyScript::default() });
    bench.replicate(Initial).await.unwrap();
    assert!(bench.steps.count("vma.copy_status") >= 300);
    assert!(bench.steps.count("store.commit") < 15, "{}", bench.steps.count("store.commit"));
}

#[tokio::test(start_paused = true)]
async fn trap_d25_a_job_knows_when_it_began_and_ended() {
    let bench = Bench::new().await.unwrap();
    let asked = bench.engine.clock.now();
    let job = bench.replicate(Initial).await.unwrap();
    let (started, finished) = (job.state.started_at().unwrap(), job.state.finished_at().unwrap());
    assert!(asked < job.created_at && job.created_at < started && started < finished);
}

#[tokio::test(start_paused = true)]
async fn a_job_is_run_once_however_often_it_is_asked_for() {
    let bench = Bench::new().await.unwrap();
    let job = bench.start(Initial).await.unwrap();
    let (one, other) = tokio::join!(bench.run(job.id), bench.run(job.id));
    assert!(one.is_ok() || other.is_ok());
    let ran = bench.job(job.id).await.unwrap();
    assert_eq!(ended(&ran), (JobStatus::Succeeded, None));
    assert_eq!(bench.run(job.id).await.unwrap(), ran);
    let stopping = CancellationToken::new();
    stopping.cancel();
    bench.engine.run(job.id, stopping).await.unwrap();
    assert_eq!(bench.job(job.id).await.unwrap(), ran);
    assert_eq!(bench.vma.orders().len(), 1);
}

type Run = Pin<Box<dyn Future<Output = Result<JobStatus, crate::RunReplicationError>> + Send>>;

/// Gives the time, and in the middle of the first unit of work that wants it, lets another run of the job begin.
struct Meddler {
    clock: FixedClock,
    other: Mutex<Option<Run>>,
    begun: Mutex<Option<Run>>,
}

impl Clock for Meddler {
    fn now(&self) -> Timestamp {
        if let Some(mut other) = self.other.lock().ok().and_then(|mut other| other.take())
            && other.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending()
            && let Ok(mut begun) = self.begun.lock()
        {
            *begun = Some(other);
        }
        self.clock.now()
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_interleaved_runs_of_a_job_one_does_the_work() {
    let bench = Bench::new().await.unwrap();
    bench.vma.script(script());
    let job = bench.start(Initial).await.unwrap();
    let (engine, id) = (bench.engine.clone(), job.id);
    let other: Run = Box::pin(async move { engine.run(id, CancellationToken::new()).await });
    let clock = FixedClock::ticking();
    let meddler =
        Arc::new(Meddler { clock, other: Mutex::new(Some(other)), begun: Mutex::default() });
    let mut first = bench.engine.clone();
    first.clock = meddler.clone();
    first.run(job.id, CancellationToken::new()).await.unwrap();
    assert_eq!(bench.steps.count("replica.prepare"), 2, "only one of them prepares");
    let begun = meddler.begun.lock().ok().and_then(|mut begun| begun.take());
    assert_eq!(begun.unwrap().await.unwrap(), JobStatus::Succeeded);
    bench.is_tidy().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn another_attempt_is_told_the_limit_that_holds_by_then() {
    let bench = Bench::new().await.unwrap();
    bench.vma.script(CopyScript { steps: 10, forgets_at: Some(3), ..CopyScript::default() });
    let job = bench.start(Initial).await.unwrap();
    let lowered = ByteRate::new(1 << 20).ok();
    let lower = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        bench.limit_vma(lowered).await.unwrap();
        bench.vma.script(CopyScript::default());
    };
    let (ran, ()) = tokio::join!(bench.run(job.id), lower);
    assert_eq!(ran.unwrap().state.status(), JobStatus::Succeeded);
    let rates: Vec<_> = bench.vma.orders().iter().map(|order| order.rates.vma).collect();
    assert_eq!(rates, [None, lowered]);
    let read: Vec<_> = bench.vma.orders().iter().map(|order| order.rates.read.number).collect();
    assert_eq!(read, [1, 2], "an order that is overtaken does not undo the later one");
}

/// Trap D6: after a loss every disk is brought to the second instant, the complete one by digest.
#[tokio::test(start_paused = true)]
async fn a_vma_that_was_restarted_is_ordered_again_and_sends_what_differs() {
    let bench = Bench::new().await.unwrap();
    let steps = 10;
    bench.vma.script(CopyScript { steps, forgets_at: Some(3), ..CopyScript::default() });
    let job = bench.start(Initial).await.unwrap();
    let mend = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        bench.vma.script(CopyScript::default());
    };
    let (ran, ()) = tokio::join!(bench.run(job.id), mend);
    let job = ran.unwrap();
    assert_eq!((job.state.status(), job.attempt.number), (JobStatus::Succeeded, 2));
    assert!(job.attempt.reason.unwrap().starts_with("the VMA was restarted"));
    let orders = bench.vma.orders();
    assert_ne!(orders[0].job, orders[1].job);
    assert_eq!(orders[1].disks.len(), 2);
    for disk in &orders[1].disks {
        assert_eq!(disk.method, CopyMethod::ByDigest);
        assert!(disk.target.kept_bytes.is_some());
    }
    bench.is_tidy().await.unwrap();
}

/// A stopped run that comes late must not touch the job that another run has at work.
#[tokio::test(start_paused = true)]
async fn a_run_that_is_stopped_before_it_began_leaves_the_one_at_work_alone() {
    let bench = Bench::new().await.unwrap();
    let job = bench.start(Initial).await.unwrap();
    let stopped = CancellationToken::new();
    stopped.cancel();
    let (ran, late) = tokio::join!(bench.run(job.id), bench.engine.run(job.id, stopped));
    assert_eq!(ran.unwrap().state.status(), JobStatus::Succeeded);
    let left_alone = matches!(late, Err(crate::RunReplicationError::AtWork(_)) | Ok(_));
    assert!(left_alone, "{late:?}");
}

#[tokio::test(start_paused = true)]
async fn a_job_does_not_stay_at_work_when_the_catalogue_was_away_for_long() {
    let bench = Bench::new().await.unwrap();
    bench.vma.script(CopyScript { steps: 30, ..CopyScript::default() });
    let job = bench.start(Initial).await.unwrap();
    let away = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        bench.steps.take_down("store.");
        tokio::time::sleep(Duration::from_secs(3 * 3600)).await;
        bench.steps.heal();
    };
    let (ran, ()) = tokio::join!(bench.run(job.id), away);
    assert!(ran.unwrap().state.status().is_terminal());
    bench.is_tidy().await.unwrap();
}
