//! Promise P3: whatever ends a run, its snapshot is removed, or is recorded as owed since before it was taken.

use hub_testkit::Whole as _;
use std::time::Duration;

use hub_domain::job::JobStatus;
use hub_domain::owed::OwedCleanup;
use hub_domain::source::SourceAbout;
use hub_domain::vm::VmContext;
use hub_ports::{OwedCleanups, OwedOptions, OwedRound, Store, owe};
use hub_testkit::{Break, CopyScript, FixedClock, fixtures};

use crate::bench::{Bench, FULL};

/// A bench whose VMA reads from a vCenter, and what asks for owed clean-ups there.
async fn vsphere() -> anyhow::Result<(Bench, OwedCleanups)> {
    let bench = Bench::new().await?;
    bench.vma.set_about(Ok(SourceAbout::default()));
    let login = fixtures::credential(5, "login");
    let mut node = fixtures::vma_node(1, "vma1");
    node.source_kind = "vsphere".to_owned();
    let mut work = bench.store.begin().await?;
    work.insert_credential(&login).await?;
    work.update_vma_node(&node).await?;
    work.update_vm(&VmContext { credential: Some(login.id), ..bench.vm.clone() }).await?;
    work.commit().await?;
    let owed = OwedCleanups {
        store: bench.store.clone(),
        source: bench.vma.clone(),
        clock: std::sync::Arc::new(FixedClock::ticking()),
        options: OwedOptions { alarm_after: Duration::ZERO, ..OwedOptions::default() },
    };
    Ok((bench, owed))
}

/// One round: what it settled, what is still owed, and how often what is overdue was asked for.
async fn look(rounds: &OwedCleanups) -> anyhow::Result<((usize, usize), Vec<u32>)> {
    let OwedRound { settled, owed, overdue } = rounds.round().await?;
    Ok(((settled, owed), overdue.iter().map(|it| it.tries).collect()))
}

async fn owed(bench: &Bench) -> anyhow::Result<Vec<(u32, Option<String>)>> {
    let all = bench.store.view().await?.owed_cleanups(9).await?.whole()?;
    Ok(all.into_iter().map(|it| (it.tries, it.fault.map(|fault| fault.code))).collect())
}

/// Nothing is at the source that is not on record.
async fn nothing_is_unknown(bench: &Bench) -> anyhow::Result<()> {
    let all = bench.store.view().await?.owed_cleanups(9).await?.whole()?;
    let known: Vec<String> = all.into_iter().map(|it| it.copy).collect();
    let there = bench.vma.snapshots();
    anyhow::ensure!(there.iter().all(|it| known.contains(it)), "{there:?} of {known:?}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn promise_p3_a_run_that_ends_leaves_no_snapshot_and_owes_none() {
    let (bench, _) = vsphere().await.unwrap();
    assert_eq!(bench.back_up(FULL).await.unwrap(), JobStatus::Succeeded);
    assert_eq!(bench.vma.orders()[0].credential.as_ref().unwrap().name, "login", "trap D3");
    assert_eq!(bench.vma.calls("vma.clean_up"), 0, "the VMA's last word is believed");
    assert!(bench.vma.snapshots().is_empty());
    assert!(owed(&bench).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn promise_p3_a_hub_killed_at_any_step_knows_every_snapshot() {
    let (bench, _) = vsphere().await.unwrap();
    let run = bench.start(FULL).await.unwrap();
    bench.steps.heal();
    assert_eq!(bench.run(run).await.unwrap(), JobStatus::Succeeded);
    let log = bench.steps.log();
    let order = log.iter().position(|step| step == "vma.start_copy").unwrap();
    assert!(log[..order].iter().any(|step| step == "store.committed"), "{log:#?}");
    let mut found = 0;
    for step in 1..=log.len() {
        let (bench, rounds) = vsphere().await.unwrap();
        // The copy goes on without the hub, and its snapshot stays for the hub to find.
        bench.vma.keep_snapshots(true);
        let run = bench.start(FULL).await.unwrap();
        bench.steps.break_at(step, Break::Hang);
        let killed = tokio::time::timeout(Duration::from_secs(60), bench.run(run)).await;
        assert!(bench.steps.reached(), "step {step}");
        bench.steps.heal();
        nothing_is_unknown(&bench).await.unwrap();
        found += usize::from(!bench.vma.snapshots().is_empty());
        bench.vma.keep_snapshots(false);
        let ends = bench.next_hub().await.unwrap();
        let ended = killed.map_or(ends.last().copied(), |run| run.ok());
        assert_eq!(ended.unwrap_or(JobStatus::Succeeded), JobStatus::Succeeded, "step {step}");
        let round = rounds.round().await.unwrap();
        assert_eq!((round.owed, round.overdue.len()), (0, 0), "step {step}");
        assert!(bench.vma.snapshots().is_empty(), "step {step}");
        assert!(owed(&bench).await.unwrap().is_empty(), "step {step}");
    }
    assert!(found > log.len() / 3, "only {found} of {} kills came upon a snapshot", log.len());
}

#[tokio::test(start_paused = true)]
async fn promise_p3_a_vma_that_forgot_its_copy_is_asked_to_look() {
    let (bench, rounds) = vsphere().await.unwrap();
    bench.vma.script(CopyScript { forgets_at: Some(1), ..CopyScript::default() });
    assert_eq!(bench.back_up(FULL).await.unwrap(), JobStatus::Failed);
    assert!(bench.vma.calls("vma.clean_up") > 0);
    assert!(bench.vma.snapshots().is_empty() && owed(&bench).await.unwrap().is_empty());
    assert_eq!(rounds.round().await.unwrap(), OwedRound::default());
}

#[tokio::test(start_paused = true)]
async fn promise_p3_a_snapshot_that_stays_is_owed_until_it_is_gone() {
    let (bench, rounds) = vsphere().await.unwrap();
    bench.vma.keep_snapshots(true);
    assert_eq!(bench.back_up(FULL).await.unwrap(), JobStatus::Succeeded);
    assert_eq!(owed(&bench).await.unwrap(), [(1, Some("vma/refused".to_owned()))]);
    let (sums, overdue) = look(&rounds).await.unwrap();
    assert_eq!((sums, overdue), ((0, 1), vec![2]));
    bench.vma.set_reachable(false);
    assert_eq!(look(&rounds).await.unwrap(), ((0, 1), vec![3]));
    assert_eq!(owed(&bench).await.unwrap(), [(3, Some("vma/unreachable".to_owned()))]);
    // The VMA is back, and can.
    bench.vma.set_reachable(true);
    bench.vma.keep_snapshots(false);
    assert_eq!(look(&rounds).await.unwrap(), ((1, 0), vec![]));
    assert!(bench.vma.snapshots().is_empty() && owed(&bench).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_snapshot_of_a_run_at_work_is_left_alone_and_its_age_is_told() {
    let (bench, rounds) = vsphere().await.unwrap();
    bench.vma.script(CopyScript { stuck_at: Some(1), ..CopyScript::default() });
    let run = bench.start(FULL).await.unwrap();
    let killed = tokio::time::timeout(Duration::from_secs(5), bench.run(run)).await;
    assert!(killed.is_err());
    assert_eq!(look(&rounds).await.unwrap(), ((0, 0), vec![0]));
    assert_eq!(bench.vma.calls("vma.clean_up"), 0);
    assert_eq!(bench.vma.snapshots(), [run.to_string()]);
    bench.vma.script(CopyScript::default());
    // The next hub goes on with a copy of another name, and the first one's snapshot is settled as well.
    assert_eq!(bench.next_hub().await.unwrap(), [JobStatus::Succeeded]);
    assert_eq!(look(&rounds).await.unwrap(), ((1, 0), vec![]));
    assert!(bench.vma.snapshots().is_empty());
}

/// A copy that a VMA had no room for is ordered again under its name, perhaps while a round asks about it.
#[tokio::test(start_paused = true)]
async fn trap_u12_an_answer_from_before_an_order_settles_nothing() {
    let (bench, rounds) = vsphere().await.unwrap();
    bench.vma.script(CopyScript { takes: Some(0), ..CopyScript::default() });
    bench.steps.take_down("vma.clean_up");
    let run = bench.start(FULL).await.unwrap();
    assert_eq!(bench.run(run).await.unwrap(), JobStatus::Queued);
    bench.steps.heal();
    let record = bench
        .store
        .view()
        .await
        .unwrap()
        .owed_cleanups(1)
        .await
        .unwrap()
        .whole()
        .unwrap()
        .remove(0);
    let door = bench.vma.hold_back().await;
    let mut round = Box::pin(rounds.round());
    let early = tokio::time::timeout(Duration::from_millis(10), &mut round).await;
    assert!(early.is_err(), "it waits for the VMA");
    let ordered_at = bench.backup.clock.now();
    owe(bench.store.as_ref(), &OwedCleanup { ordered_at, ..record }).await.unwrap();
    drop(door);
    round.await.unwrap();
    assert_eq!(owed(&bench).await.unwrap().len(), 1, "the second order owes it");
    assert_eq!(rounds.round().await.unwrap().settled, 1);
}

#[tokio::test(start_paused = true)]
async fn a_folder_owes_nothing() {
    let bench = Bench::new().await.unwrap();
    bench.back_up(FULL).await.unwrap();
    assert_eq!(bench.vma.calls("vma.clean_up"), 0);
    assert!(owed(&bench).await.unwrap().is_empty());
}

/// One record that cannot be read, or refers to what cannot, keeps nobody from asking for the other snapshots.
#[tokio::test(start_paused = true)]
async fn promise_p3_a_record_that_cannot_be_read_hides_no_other() {
    let (bench, rounds) = vsphere().await.unwrap();
    bench.vma.script(CopyScript { forgets_at: Some(1), ..CopyScript::default() });
    bench.vma.keep_snapshots(true);
    for _ in 0..2 {
        bench.back_up(FULL).await.unwrap();
    }
    let all = bench.store.view().await.unwrap().owed_cleanups(9).await.unwrap().whole().unwrap();
    assert!(all.len() > 1);
    bench.vma.keep_snapshots(false);
    bench.store.garble("owed_cleanups", &all[0].copy);
    assert_eq!(rounds.round().await.unwrap().settled, all.len() - 1);
    bench.store.mend();
    bench.store.garble("vma_nodes", all[0].vma_node);
    let round = rounds.round().await.unwrap();
    assert_eq!((round.settled, round.owed), (0, 1), "a VMA that cannot be read is not gone");
    bench.store.mend();
    assert_eq!(rounds.round().await.unwrap().settled, 1);
}
