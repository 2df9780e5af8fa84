//! Promise P3: whatever ends a replication, its snapshot is removed, or is recorded as owed since before it was taken.

use hub_testkit::Whole as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use hub_domain::job::JobStatus;
use hub_domain::owed::OwedCleanup;
use hub_domain::replication::ReplicationKind;
use hub_domain::source::SourceAbout;
use hub_ports::{OwedCleanups, OwedOptions, Store};
use hub_testkit::{Break, CopyScript, FixedClock, fixtures};
use tokio::time::timeout;

use super::bench::{AGES, Bench, ended};

use ReplicationKind::{Incremental, Initial};

/// A bench whose VMA reads from a vCenter, and what asks for owed clean-ups there.
async fn vsphere() -> anyhow::Result<(Bench, OwedCleanups)> {
    let bench = Bench::new().await?;
    bench.vma.set_about(Ok(SourceAbout::default()));
    let login = fixtures::credential(5, "login");
    let mut node = fixtures::vma_node(1, "vma1");
    node.source_kind = "vsphere".to_owned();
    let mut vm = bench.vm().await?;
    vm.credential = Some(login.id);
    let mut work = bench.store.begin().await?;
    work.insert_credential(&login).await?;
    work.update_vma_node(&node).await?;
    work.update_vm(&vm).await?;
    work.commit().await?;
    bench.steps.heal();
    let owed = OwedCleanups {
        store: bench.store.clone(),
        source: bench.vma.clone(),
        clock: Arc::new(FixedClock::ticking()),
        options: OwedOptions { alarm_after: Duration::ZERO, ..OwedOptions::default() },
    };
    Ok((bench, owed))
}

async fn owed(bench: &Bench) -> anyhow::Result<Vec<OwedCleanup>> {
    Ok(bench.store.view().await?.owed_cleanups(9).await?.whole()?)
}

/// Nothing is at the source that is not on record.
async fn nothing_is_unknown(bench: &Bench) -> anyhow::Result<()> {
    let known: Vec<String> = owed(bench).await?.into_iter().map(|it| it.copy).collect();
    let there = bench.vma.snapshots();
    ensure!(there.iter().all(|it| known.contains(it)), "{there:?} of {known:?}");
    Ok(())
}

/// After one round nothing is left, neither at the source nor on record.
async fn one_round_cleans(bench: &Bench, rounds: &OwedCleanups) -> anyhow::Result<()> {
    let round = rounds.round().await?;
    ensure!((round.owed, round.overdue.len()) == (0, 0), "{round:?}");
    let (there, known) = (bench.vma.snapshots(), owed(bench).await?);
    ensure!(there.is_empty() && known.is_empty(), "{there:?}, {known:?}");
    Ok(())
}

/// The steps of a replication that nothing happens to, its start included.
async fn steps(kind: ReplicationKind) -> anyhow::Result<Vec<String>> {
    let (bench, _) = ready_for(kind).await?;
    let job = bench.replicate(kind).await?;
    ensure!(job.state.status() == JobStatus::Succeeded, "{job:?}");
    Ok(bench.steps.log())
}

/// A bench where a replication of this kind may begin.
async fn ready_for(kind: ReplicationKind) -> anyhow::Result<(Bench, OwedCleanups)> {
    let (bench, rounds) = vsphere().await?;
    if kind == Incremental {
        bench.replicate(Initial).await?;
        bench.steps.heal();
    }
    Ok((bench, rounds))
}

#[tokio::test(start_paused = true)]
async fn promise_p3_a_replication_that_ends_leaves_no_snapshot_and_owes_none() {
    let (bench, _) = vsphere().await.unwrap();
    for (number, kind) in [Initial, Incremental].into_iter().enumerate() {
        let job = bench.replicate(kind).await.unwrap();
        assert_eq!(ended(&job), (JobStatus::Succeeded, None));
        assert_eq!(bench.vma.orders()[number].credential.as_ref().unwrap().name, "login");
        assert_eq!(bench.vma.calls("vma.clean_up"), 0, "the VMA's last word is believed");
        assert!(bench.vma.snapshots().is_empty() && owed(&bench).await.unwrap().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn promise_p3_what_stays_is_owed_by_each_copy_until_it_is_gone() {
    let (bench, rounds) = vsphere().await.unwrap();
    bench.vma.keep_snapshots(true);
    bench.replicate(Initial).await.unwrap();
    let first = owed(&bench).await.unwrap();
    assert_eq!((first.len(), first[0].tries, first[0].job.word()), (1, 1, "replication"));
    bench.vma.keep_snapshots(false);
    bench.replicate(Incremental).await.unwrap();
    let still = owed(&bench).await.unwrap();
    assert_eq!(still.len(), 1, "each copy owes its own");
    assert_eq!(bench.vma.snapshots(), [still[0].copy.clone()]);
    one_round_cleans(&bench, &rounds).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn promise_p3_a_hub_killed_at_any_step_of_a_replication_knows_every_snapshot() {
    for kind in [Initial, Incremental] {
        let log = steps(kind).await.unwrap();
        let order = log.iter().position(|step| step == "vma.start_copy").unwrap();
        assert!(log[..order].iter().any(|step| step == "store.committed"), "{log:#?}");
        let mut found = 0;
        for step in 1..=log.len() {
            let (bench, rounds) = ready_for(kind).await.unwrap();
            // The copy goes on without the hub, and its snapshot stays for the hub to find.
            bench.vma.keep_snapshots(true);
            bench.steps.break_at(step, Break::Hang);
            let _killed = timeout(AGES, bench.replicate(kind)).await;
            assert!(bench.steps.reached(), "step {step}");
            bench.steps.heal();
            nothing_is_unknown(&bench).await.unwrap();
            found += usize::from(!bench.vma.snapshots().is_empty());
            bench.vma.keep_snapshots(false);
            bench.replicas.restart();
            for ended in bench.next_hub().await.unwrap() {
                assert_eq!(ended, JobStatus::Succeeded, "step {step}");
            }
            let cleaned = one_round_cleans(&bench, &rounds).await;
            cleaned.unwrap_or_else(|error| panic!("{kind:?} at step {step}: {error}"));
        }
        assert!(found > log.len() / 4, "only {found} of {} kills came upon a snapshot", log.len());
    }
}

#[tokio::test(start_paused = true)]
async fn promise_p3_an_error_at_any_step_of_a_replication_leaves_no_snapshot_unknown() {
    let log = steps(Initial).await.unwrap();
    for step in 1..=log.len() {
        let (bench, rounds) = vsphere().await.unwrap();
        bench.steps.break_at(step, Break::Fail);
        let ran = timeout(AGES, bench.replicate(Initial)).await;
        assert!(ran.is_ok() && bench.steps.reached(), "step {step}");
        bench.steps.heal();
        nothing_is_unknown(&bench).await.unwrap();
        bench.next_hub().await.unwrap();
        let cleaned = one_round_cleans(&bench, &rounds).await;
        cleaned.unwrap_or_else(|error| panic!("step {step}, {}: {error}", log[step - 1]));
    }
}

#[tokio::test(start_paused = true)]
async fn promise_p3_a_replication_that_is_cancelled_or_fails_leaves_no_snapshot() {
    let key = hub_domain::disk::DiskKey::new("disk-2000").unwrap();
    let fault = hub_domain::fault::Fault::new("source/io", "a sector cannot be read");
    for script in [
        CopyScript { failing: [(key, fault)].into(), ..CopyScript::default() },
        CopyScript { stuck_at: Some(1), ..CopyScript::default() },
        CopyScript { forgets_at: Some(1), ..CopyScript::default() },
    ] {
        let (bench, rounds) = vsphere().await.unwrap();
        bench.vma.script(script);
        let job = bench.replicate(Initial).await.unwrap();
        assert_eq!(job.state.status(), JobStatus::Failed, "{job:?}");
        assert!(bench.vma.snapshots().is_empty(), "{:?}", bench.vma.snapshots());
        one_round_cleans(&bench, &rounds).await.unwrap();
    }
    let (bench, rounds) = vsphere().await.unwrap();
    bench.vma.script(CopyScript { stuck_at: Some(1), ..CopyScript::default() });
    let job = bench.start(Initial).await.unwrap();
    let cancel = tokio_util::sync::CancellationToken::new();
    let runs = bench.engine.run(job.id, cancel.clone());
    let stops = async {
        while bench.vma.snapshots().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        cancel.cancel();
    };
    let (ran, ()) = tokio::join!(runs, stops);
    ran.unwrap();
    assert!(bench.vma.snapshots().is_empty() && owed(&bench).await.unwrap().is_empty());
    assert_eq!(rounds.round().await.unwrap().owed, 0);
}
