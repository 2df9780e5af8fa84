//! Runs over doubles: the stories, proofs, faults, cancellation, and a break at every step.

use std::time::Duration;

use hub_domain::backup::BackupType;
use hub_domain::fault::Fault;
use hub_domain::job::JobStatus;
use hub_domain::limits::ByteRate;
use hub_domain::source::CopyMethod;
use hub_ports::Store;
use hub_testkit::{Break, CopyScript, Fault as StorageFault};

use crate::bench::{Bench, FULL, INCREMENTAL};

#[tokio::test(start_paused = true)]
async fn story_3_and_4_two_disks_under_one_order_become_two_chains() {
    let bench = Bench::new().await.unwrap();
    assert_eq!(bench.back_up(FULL).await.unwrap(), JobStatus::Succeeded);
    let orders = bench.vma.orders();
    assert_eq!((orders.len(), orders[0].disks.len()), (1, 2));
    let jobs = bench.jobs().await.unwrap();
    for job in &jobs {
        assert!(job.is_restore_point() && job.proof.as_ref().unwrap().agrees());
        assert!(job.change_id.is_some() && job.state.started_at().is_some());
        let mut view = bench.store.view().await.unwrap();
        let key = job.chain_key();
        let chain = view.chain(key).await.unwrap().unwrap();
        assert_eq!((chain.full, chain.latest, chain.count), (job.id, job.id, 1));
    }
    assert_ne!(jobs[0].change_id, jobs[1].change_id, "trap D11: each disk has its own mark");
    bench.assert_nothing_left().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_incremental_stands_on_the_disks_own_point_and_mark() {
    let bench = Bench::new().await.unwrap();
    bench.back_up(FULL).await.unwrap();
    assert_eq!(bench.back_up(INCREMENTAL).await.unwrap(), JobStatus::Succeeded);
    let jobs = bench.jobs().await.unwrap();
    let (full, next) = (&jobs[0], &jobs[2]);
    assert_eq!((next.ordinal, next.parent), (0, Some(full.id)));
    let ordered = &bench.vma.orders()[1].disks[0];
    let change_id = full.change_id.clone().unwrap();
    assert_eq!(ordered.method, CopyMethod::ChangedSince { change_id });
    assert!(ordered.target.parent.is_some());
}

#[tokio::test(start_paused = true)]
async fn trap_u24_a_parent_that_cannot_be_read_makes_a_full_and_says_why() {
    let bench = Bench::new().await.unwrap();
    bench.back_up(FULL).await.unwrap();
    bench.storage.set_fault(Some(StorageFault::NoParent));
    assert_eq!(bench.back_up(INCREMENTAL).await.unwrap(), JobStatus::Succeeded);
    let jobs = bench.jobs().await.unwrap();
    for job in &jobs[2..] {
        assert_eq!((job.backup_type, job.parent), (BackupType::Full, None));
        assert!(job.method_reason.as_ref().unwrap().contains("manifest"), "{job:?}");
    }
    assert!(bench.vma.orders()[1].disks.iter().all(|disk| disk.method == CopyMethod::Full));
    bench.assert_nothing_left().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_method_that_was_really_used_is_stored_with_its_reason() {
    let bench = Bench::new().await.unwrap();
    bench.back_up(FULL).await.unwrap();
    let falls_back = Some((CopyMethod::ByDigest, "the mark is of another disk".to_owned()));
    bench.vma.script(CopyScript { falls_back, ..CopyScript::default() });
    bench.back_up(INCREMENTAL).await.unwrap();
    let job = bench.jobs().await.unwrap().remove(2);
    assert_eq!((job.method.as_str(), job.backup_type), ("by_digest", BackupType::Incremental));
    assert_eq!(job.method_reason.as_deref(), Some("the mark is of another disk"));
}

#[tokio::test(start_paused = true)]
async fn trap_c24_a_source_without_marks_completes_and_the_next_run_reads_by_digest() {
    let bench = Bench::new().await.unwrap();
    bench.vma.script(CopyScript { gives_change_id: false, ..CopyScript::default() });
    assert_eq!(bench.back_up(FULL).await.unwrap(), JobStatus::Succeeded);
    bench.back_up(INCREMENTAL).await.unwrap();
    assert_eq!(bench.vma.orders()[1].disks[0].method, CopyMethod::ByDigest);
}

#[tokio::test(start_paused = true)]
async fn one_disk_that_fails_leaves_the_other_its_point() {
    let bench = Bench::new().await.unwrap();
    let key = bench.disks().await.unwrap()[1].facts.key.clone();
    let failing = [(key, Fault::new("source/unreadable", "sector 7"))].into_iter().collect();
    bench.vma.script(CopyScript { failing, ..CopyScript::default() });
    assert_eq!(bench.back_up(FULL).await.unwrap(), JobStatus::Failed);
    let jobs = bench.jobs().await.unwrap();
    assert!(jobs[0].is_restore_point());
    assert_eq!(jobs[1].state.fault().unwrap().code, "source/unreadable");
    assert_eq!(bench.storage.sealed(), [jobs[0].id]);
    bench.assert_nothing_left().await.unwrap();
    bench.vma.script(CopyScript::default());
    bench.back_up(INCREMENTAL).await.unwrap();
    let next = bench.jobs().await.unwrap().split_off(2);
    assert_eq!(next[0].parent, Some(jobs[0].id));
    assert_eq!(next[1].backup_type, BackupType::Full, "trap D45: a failed full is no parent");
}

#[tokio::test(start_paused = true)]
async fn storage_faults_end_the_job_with_their_code_and_leave_nothing() {
    for (fault, code) in [
        (StorageFault::Mismatch, "backup/proof-mismatch"),
        (StorageFault::FullAtPrepare, "repository/full"),
        (StorageFault::FullAtSeal, "repository/full"),
    ] {
        let bench = Bench::new().await.unwrap();
        bench.storage.set_fault(Some(fault));
        assert_eq!(bench.back_up(FULL).await.unwrap(), JobStatus::Failed);
        for job in bench.jobs().await.unwrap() {
            assert_eq!(job.state.fault().unwrap().code, code);
            assert!(job.change_id.is_none(), "trap C29: no mark without a point");
        }
        assert!(bench.storage.sealed().is_empty());
        bench.assert_nothing_left().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn p5_a_vma_that_dies_or_stalls_ends_the_job_in_bounded_time_with_a_named_fault() {
    let plain = CopyScript { steps: 10, ..CopyScript::default() };
    for (script, code) in [
        (CopyScript { lost_at: Some(3), ..plain.clone() }, "vma/unreachable"),
        (CopyScript { stuck_at: Some(3), ..plain.clone() }, "vma/stalled"),
        (CopyScript { forgets_at: Some(3), ..plain.clone() }, "vma/unknown-job"),
    ] {
        let bench = Bench::new().await.unwrap();
        bench.vma.script(script);
        let began = tokio::time::Instant::now();
        assert_eq!(bench.back_up(FULL).await.unwrap(), JobStatus::Failed);
        assert!(began.elapsed() < Duration::from_secs(180), "{code}: {:?}", began.elapsed());
        for job in bench.jobs().await.unwrap() {
            assert_eq!(job.state.fault().unwrap().code, code);
        }
        assert!(bench.storage.partial_images().is_empty(), "{code}");
    }
}

/// How a VMA that was restarted once is told again, and what the jobs say about it.
#[tokio::test(start_paused = true)]
async fn a_vma_that_was_restarted_is_ordered_again_by_digest_and_all_disks_together() {
    let bench = Bench::new().await.unwrap();
    bench.vma.script(CopyScript { steps: 10, forgets_at: Some(3), ..CopyScript::default() });
    let mend = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        bench.vma.script(CopyScript::default());
    };
    let (status, ()) = tokio::join!(bench.back_up(FULL), mend);
    assert_eq!(status.unwrap(), JobStatus::Succeeded);
    let orders = bench.vma.orders();
    assert_eq!(orders.len(), 2);
    assert_ne!(orders[0].job, orders[1].job, "another order has another name");
    assert_eq!(orders[1].disks.len(), 2, "trap D6: both disks again");
    for (first, again) in orders[0].disks.iter().zip(&orders[1].disks) {
        assert_eq!((&first.method, &again.method), (&CopyMethod::Full, &CopyMethod::ByDigest));
        assert_ne!(first.target.address, again.target.address, "no late write finds its target");
    }
    for job in bench.jobs().await.unwrap() {
        assert_eq!((job.attempt.number, job.backup_type), (2, BackupType::Full));
        let reason = job.attempt.reason.unwrap();
        assert!(reason.starts_with("the VMA was restarted; 3.0 MiB that had arrived"), "{reason}");
        assert!(reason.ends_with("were sent after that"), "{reason}");
    }
    bench.assert_nothing_left().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn another_attempt_is_told_the_limit_that_holds_by_then() {
    let bench = Bench::new().await.unwrap();
    bench.vma.script(CopyScript { steps: 10, forgets_at: Some(3), ..CopyScript::default() });
    let lowered = ByteRate::new(1 << 20).ok();
    let lower = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        bench.limit_vma(lowered).await.unwrap();
        bench.vma.script(CopyScript::default());
    };
    let (status, ()) = tokio::join!(bench.back_up(FULL), lower);
    assert_eq!(status.unwrap(), JobStatus::Succeeded);
    let rates: Vec<_> = bench.vma.orders().iter().map(|order| order.rates.vma).collect();
    assert_eq!(rates, [None, lowered]);
    let read: Vec<_> = bench.vma.orders().iter().map(|order| order.rates.read.number).collect();
    assert_eq!(read, [1, 2], "an order that is overtaken does not undo the later one");
}

/// Trap D6: a disk that was copied before the loss is of the older instant, and is not sealed.
#[tokio::test(start_paused = true)]
async fn trap_d6_a_disk_that_was_copied_before_a_loss_is_copied_again() {
    let bench = Bench::new().await.unwrap();
    let key = bench.disks().await.unwrap()[1].facts.key.clone();
    let lost = Fault::new("target/disconnected", "nothing succeeded for 60s");
    let failing = [(key, lost)].into_iter().collect();
    bench.vma.script(CopyScript { failing, ..CopyScript::default() });
    let mend = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        bench.vma.script(CopyScript::default());
    };
    let (status, ()) = tokio::join!(bench.back_up(FULL), mend);
    assert_eq!(status.unwrap(), JobStatus::Succeeded);
    assert_eq!(bench.vma.orders()[1].disks.len(), 2);
    for job in bench.jobs().await.unwrap() {
        assert!(job.change_id.unwrap().ends_with("-2"), "both are of the second instant");
        assert!(job.attempt.reason.unwrap().starts_with("the VMA lost the hub"));
    }
    assert_eq!(bench.steps.count("storage.seal"), 2, "nothing of the first instant was sealed");
}

#[tokio::test(start_paused = true)]
async fn a_repository_that_fills_up_in_the_middle_is_called_by_its_name() {
    let bench = Bench::new().await.unwrap();
    let key = bench.disks().await.unwrap()[0].facts.key.clone();
    let full = Fault::new("target/no-space", "the repository on the hub is full");
    let failing = [(key, full)].into_iter().collect();
    bench.vma.script(CopyScript { failing, ..CopyScript::default() });
    assert_eq!(bench.back_up(FULL).await.unwrap(), JobStatus::Failed);
    let fault = bench.jobs().await.unwrap()[0].state.fault().cloned().unwrap();
    assert_eq!(fault.code, "repository/full");
    assert!(fault.detail.contains("main"), "{fault:?}");
}

/// The hub cannot write down how a job ended for longer than it is patient, and the job ends all the same.
#[tokio::test(start_paused = true)]
async fn a_job_does_not_stay_at_work_when_the_catalogue_was_away_for_long() {
    let bench = Bench::new().await.unwrap();
    bench.vma.script(CopyScript { steps: 100, ..CopyScript::default() });
    let away = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        bench.steps.take_down("store.");
        tokio::time::sleep(Duration::from_secs(3 * 3600)).await;
        bench.steps.heal();
    };
    let (status, ()) = tokio::join!(bench.back_up(FULL), away);
    assert_eq!(status.unwrap(), JobStatus::Failed);
    for job in bench.jobs().await.unwrap() {
        assert_eq!(job.state.fault().unwrap().code, "store/unavailable");
    }
    bench.assert_nothing_left().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_vma_that_was_away_for_a_moment_costs_nothing() {
    let bench = Bench::new().await.unwrap();
    bench.vma.script(CopyScript { steps: 100, ..CopyScript::default() });
    let away = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        bench.vma.set_reachable(false);
        tokio::time::sleep(Duration::from_secs(10)).await;
        bench.vma.set_reachable(true);
    };
    let (status, ()) = tokio::join!(bench.back_up(FULL), away);
    assert_eq!(status.unwrap(), JobStatus::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn trap_d24_progress_is_written_and_never_goes_back() {
    let bench = Bench::new().await.unwrap();
    bench.vma.script(CopyScript { steps: 50, ..CopyScript::default() });
    let watching = async {
        let mut last = 0;
        let mut writes = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let job = bench.jobs().await?.remove(0);
            anyhow::ensure!(job.bytes.done >= last, "progress went back");
            writes += usize::from(job.bytes.done > last);
            last = job.bytes.done;
            if job.state.status().is_terminal() {
                return anyhow::Ok((writes, last));
            }
        }
    };
    let (status, seen) = tokio::join!(bench.back_up(FULL), watching);
    assert_eq!(status.unwrap(), JobStatus::Succeeded);
    let (writes, last) = seen.unwrap();
    assert!((5..20).contains(&writes), "about one write per second, not {writes}");
    assert_eq!(last, hub_testkit::fixtures::BIG);
}

#[tokio::test(start_paused = true)]
async fn broken_at_any_step_every_job_ends_named_and_nothing_partial_stays() {
    for step in 1.. {
        let bench = Bench::new().await.unwrap();
        let run = bench.start(FULL).await.unwrap();
        bench.steps.break_at(step, Break::Fail);
        let _ = bench.run(run).await.unwrap();
        let reached = bench.steps.reached();
        bench.steps.heal();
        for job in bench.jobs().await.unwrap() {
            let sealed = bench.storage.sealed().contains(&job.id);
            assert!(job.state.status().is_terminal(), "step {step}: {:?}", job.state);
            assert_eq!(sealed, job.is_restore_point(), "step {step}: {:?}", job.state);
        }
        bench.assert_nothing_left().await.unwrap();
        if !reached {
            assert!(step > 15, "the steps are counted");
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn p2_killed_at_any_step_recovery_ends_the_jobs_and_keeps_earlier_points() {
    for step in 1.. {
        let bench = Bench::new().await.unwrap();
        bench.back_up(FULL).await.unwrap();
        let earlier: Vec<_> = bench.jobs().await.unwrap();
        let run = bench.start(INCREMENTAL).await.unwrap();
        bench.steps.break_at(step, Break::Hang);
        let _ = tokio::time::timeout(Duration::from_secs(900), bench.run(run)).await;
        let reached = bench.steps.reached();
        bench.steps.heal();
        bench.backup.recover().await.unwrap();
        for end in bench.next_hub().await.unwrap() {
            assert_eq!(end, JobStatus::Succeeded, "step {step}");
        }
        let jobs = bench.jobs().await.unwrap();
        assert_eq!(jobs[..2], earlier[..], "step {step}: earlier points are untouched");
        for job in &jobs[2..] {
            let sealed = bench.storage.sealed().contains(&job.id);
            assert!(job.state.status().is_terminal(), "step {step}");
            assert_eq!(sealed, job.is_restore_point(), "step {step}: {:?}", job.state);
        }
        assert!(bench.storage.partial_images().is_empty(), "step {step}");
        assert_eq!(bench.back_up(INCREMENTAL).await.unwrap(), JobStatus::Succeeded);
        if !reached {
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn p9_a_cancelled_run_ends_within_seconds_and_leaves_nothing() {
    for obeys_cancel in [true, false] {
        for after in [0, 1, 2, 5] {
            let bench = Bench::new().await.unwrap();
            let script = CopyScript { steps: 1000, obeys_cancel, ..CopyScript::default() };
            bench.vma.script(script);
            let run = bench.start(FULL).await.unwrap();
            let cancelling = async {
                tokio::time::sleep(Duration::from_secs(after)).await;
                bench.backup.cancel(run).await?;
                anyhow::Ok(tokio::time::Instant::now())
            };
            let (status, asked) = tokio::join!(bench.run(run), cancelling);
            assert_eq!(status.unwrap(), JobStatus::Cancelled);
            assert!(asked.unwrap().elapsed() < Duration::from_secs(10));
            assert!(bench.storage.partial_images().is_empty());
            assert_eq!(bench.vma.copying().is_empty(), obeys_cancel);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_stops_leaves_its_run_to_the_next_one_and_a_queued_cancel_needs_no_run() {
    let bench = Bench::new().await.unwrap();
    bench.vma.script(CopyScript { steps: 1000, ..CopyScript::default() });
    let run = bench.start(FULL).await.unwrap();
    let stop = bench.cancel.clone();
    let stopping = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        stop.cancel();
    };
    let (status, ()) = tokio::join!(bench.run(run), stopping);
    assert_eq!(status.unwrap(), JobStatus::Queued);
    bench.assert_nothing_left().await.unwrap();
    bench.vma.script(CopyScript::default());
    assert_eq!(bench.next_hub().await.unwrap(), [JobStatus::Succeeded]);
    let job = bench.jobs().await.unwrap().remove(0);
    assert!(job.attempt.reason.unwrap().contains("the hub was stopped"));
    let queued = bench.start(FULL).await.unwrap();
    let jobs = bench.backup.cancel(queued).await.unwrap();
    assert!(jobs.iter().all(|job| job.state.status() == JobStatus::Cancelled));
    assert_eq!(bench.run(queued).await.unwrap(), JobStatus::Cancelled);
    assert_eq!(bench.vma.orders().len(), 2);
}
