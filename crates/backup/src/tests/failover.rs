//! Another VMA copies where a VM's own one does not answer, and never beside it.

use hub_testkit::Whole as _;
use std::time::Duration;

use hub_domain::access::VmaNode;
use hub_domain::ids::{BackupRunId, VmaNodeId};
use hub_domain::job::JobStatus;
use hub_domain::reader_choice::SourceName;
use hub_domain::remarks::Remarks;
use hub_domain::source::SourceAbout;
use hub_domain::vm::VmContext;
use hub_ports::{OwedCleanups, OwedOptions, Store};
use hub_testkit::{CopyScript, FixedClock, fixtures};
use tokio::time::timeout;

use crate::bench::{Bench, FULL, INCREMENTAL};

fn reading(id: u128, name: &str) -> VmaNode {
    VmaNode {
        source_kind: "vsphere".to_owned(),
        source: SourceName { host: Some(fixtures::VCENTER.to_owned()), uuid: None },
        ..fixtures::vma_node(id, name)
    }
}

/// A bench with two VMAs at the VM's vCenter, the VM's own and another; and their ids.
async fn two() -> anyhow::Result<(Bench, VmaNodeId, VmaNodeId)> {
    let bench = Bench::new().await?;
    bench.vma.set_about(Ok(SourceAbout::default()));
    let login = fixtures::credential(5, "login");
    let (own, other) = (reading(1, "vma1"), reading(2, "vma2"));
    let mut work = bench.store.begin().await?;
    work.insert_credential(&login).await?;
    work.update_vma_node(&own).await?;
    let known = SourceName { host: Some(fixtures::VCENTER.to_owned()), uuid: None };
    work.note_vma_source(own.id, &known).await?;
    work.insert_vma_node(&other).await?;
    work.update_vm(&VmContext { credential: Some(login.id), ..bench.vm.clone() }).await?;
    work.commit().await?;
    Ok((bench, own.id, other.id))
}

/// A password counts at the address that a VMA is set up with; the ids of both say that it is one vCenter.
#[tokio::test(start_paused = true)]
async fn a_stand_in_is_given_the_login_under_its_own_address_of_the_vcenter() {
    let (bench, own, other) = two().await.unwrap();
    let known =
        |host: &str| SourceName { host: Some(host.to_owned()), uuid: Some("uuid-1".to_owned()) };
    let mut work = bench.store.begin().await.unwrap();
    work.note_vma_source(own, &known(fixtures::VCENTER)).await.unwrap();
    work.note_vma_source(other, &known("10.0.0.5")).await.unwrap();
    let mut vm = work.vm(bench.vm.id).await.unwrap().unwrap();
    vm.facts.vcenter_uuid = Some("uuid-1".to_owned());
    work.update_vm(&vm).await.unwrap();
    work.commit().await.unwrap();
    assert_eq!(bench.back_up(FULL).await.unwrap(), JobStatus::Succeeded);
    bench.vma.silence(own, "");
    assert_eq!(bench.back_up(FULL).await.unwrap(), JobStatus::Succeeded);
    assert_eq!(bench.vma.ordered(), [own, other]);
    let orders = bench.vma.orders();
    let sent = |index: usize| orders[index].credential.as_ref().unwrap().vcenter_host.clone();
    assert_eq!([sent(0), sent(1)], [fixtures::VCENTER, "10.0.0.5"]);
}

async fn remarks(bench: &Bench, run: BackupRunId) -> anyhow::Result<Remarks> {
    let run = bench.store.view().await?.backup_run(run).await?;
    Ok(run.map(|run| run.remarks).unwrap_or_default())
}

async fn faults(bench: &Bench) -> anyhow::Result<Vec<String>> {
    let jobs = bench.jobs().await?;
    Ok(jobs.iter().filter_map(|job| Some(job.state.fault()?.code.clone())).collect())
}

#[tokio::test(start_paused = true)]
async fn a_vma_that_does_not_answer_is_stood_in_for_and_the_run_says_so() {
    let (bench, own, other) = two().await.unwrap();
    bench.vma.silence(own, "");
    let run = bench.start(FULL).await.unwrap();
    assert_eq!(bench.run(run).await.unwrap(), JobStatus::Succeeded);
    assert_eq!(bench.vma.ordered(), [other]);
    let remarks = remarks(&bench, run).await.unwrap();
    assert_eq!(remarks.copied_by.unwrap().name, "vma2");
    assert_eq!(remarks.warnings[0].code, "vm/other-vma");
    let detail = &remarks.warnings[0].detail;
    assert!(detail.contains("VMA vma1 does not answer (connection refused)"), "{detail}");
    // The VM keeps its own, which copies the next run.
    bench.vma.unsilence(own);
    let run = bench.start(FULL).await.unwrap();
    assert_eq!(bench.run(run).await.unwrap(), JobStatus::Succeeded);
    assert_eq!(bench.vma.ordered(), [other, own]);
    let said = self::remarks(&bench, run).await.unwrap();
    assert_eq!((said.copied_by.unwrap().vma, said.warnings), (own, Vec::new()));
    bench.assert_nothing_left().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn where_nobody_answers_the_own_vma_is_tried_and_named() {
    let (bench, own, other) = two().await.unwrap();
    bench.vma.silence(own, "");
    bench.vma.silence(other, "");
    let run = bench.start(FULL).await.unwrap();
    assert_eq!(bench.run(run).await.unwrap(), JobStatus::Failed);
    assert_eq!(faults(&bench).await.unwrap(), ["vma/unreachable"; 2]);
    assert_eq!(remarks(&bench, run).await.unwrap().copied_by.unwrap().vma, own);
}

/// The answer to an order may be what is lost: from then on nobody else is ordered.
#[tokio::test(start_paused = true)]
async fn p3_no_other_vma_is_ordered_once_an_order_is_out() {
    let (bench, own, _) = two().await.unwrap();
    bench.vma.silence(own, "vma.start_copy");
    let run = bench.start(FULL).await.unwrap();
    assert_eq!(bench.run(run).await.unwrap(), JobStatus::Failed);
    assert_eq!(faults(&bench).await.unwrap(), ["vma/unreachable"; 2]);
    assert!(bench.vma.orders().is_empty());
    bench.assert_nothing_left().await.unwrap();
}

/// The own VMA may copy on behind a network that is cut: the next attempt waits for it, and its snapshot stays owed. The
/// next run is another order, and may go through the other VMA.
#[tokio::test(start_paused = true)]
async fn p3_an_attempt_after_a_restart_goes_to_the_vma_that_was_ordered() {
    let (bench, own, other) = two().await.unwrap();
    bench.vma.script(CopyScript { steps: 1000, ..CopyScript::default() });
    let run = bench.start(FULL).await.unwrap();
    assert!(timeout(Duration::from_secs(30), bench.run(run)).await.is_err());
    bench.vma.script(CopyScript::default());
    bench.vma.silence(own, "");
    assert_eq!(bench.next_hub().await.unwrap(), [JobStatus::Failed]);
    assert_eq!(faults(&bench).await.unwrap(), ["vma/unreachable"; 2]);
    assert_eq!(bench.vma.ordered(), [own]);

    assert_eq!(bench.back_up(FULL).await.unwrap(), JobStatus::Succeeded);
    assert_eq!(bench.vma.ordered(), [own, other]);
    let owed = bench.store.view().await.unwrap().owed_cleanups(9).await.unwrap().whole().unwrap();
    assert!(!owed.is_empty() && owed.iter().all(|it| it.vma_node == own), "{owed:?}");
    // It comes back with the snapshot of its first attempt, and is asked for it.
    bench.vma.unsilence(own);
    for copy in bench.vma.copying() {
        let node = reading(1, "vma1");
        bench.backup.source.cancel_copy(&node, &copy).await.unwrap();
    }
    assert_eq!(rounds(&bench).round().await.unwrap().owed, 0);
    assert!(bench.vma.snapshots().is_empty());
}

fn rounds(bench: &Bench) -> OwedCleanups {
    OwedCleanups {
        store: bench.store.clone(),
        source: bench.vma.clone(),
        clock: std::sync::Arc::new(FixedClock::ticking()),
        options: OwedOptions::default(),
    }
}

/// A hub of an earlier release ordered without saying whom; what it ordered may be at work at the VM's own VMA.
#[tokio::test(start_paused = true)]
async fn p3_a_run_of_an_earlier_release_is_not_given_to_a_second_vma() {
    let (bench, own, _) = two().await.unwrap();
    bench.vma.script(CopyScript { steps: 1000, ..CopyScript::default() });
    let run = bench.start(FULL).await.unwrap();
    assert!(timeout(Duration::from_secs(30), bench.run(run)).await.is_err());
    let mut work = bench.store.begin().await.unwrap();
    work.remark(run, &Remarks::default()).await.unwrap();
    work.commit().await.unwrap();
    bench.vma.silence(own, "");
    assert_eq!(bench.next_hub().await.unwrap(), [JobStatus::Failed]);
    assert_eq!(bench.vma.ordered(), [own]);
}

/// A bench whose VM's own VMA died in the middle of a copy: the run has failed, and the snapshot is there.
async fn dead() -> anyhow::Result<(Bench, VmaNodeId, VmaNodeId)> {
    let (bench, own, other) = two().await?;
    bench.vma.script(CopyScript { steps: 1000, ..CopyScript::default() });
    let run = bench.start(FULL).await?;
    anyhow::ensure!(timeout(Duration::from_secs(30), bench.run(run)).await.is_err());
    bench.vma.script(CopyScript::default());
    bench.vma.silence(own, "");
    anyhow::ensure!(bench.next_hub().await? == [JobStatus::Failed]);
    Ok((bench, own, other))
}

/// Whoever is to copy next would be refused because of it, every night.
#[tokio::test(start_paused = true)]
async fn p3_the_snapshot_of_a_dead_vma_is_removed_through_another() {
    let (bench, ..) = dead().await.unwrap();
    bench.vma.forget_copies();
    let left = bench.vma.snapshots().len();
    assert!(left > 0);
    let round = rounds(&bench).round().await.unwrap();
    assert!(bench.vma.snapshots().is_empty());
    assert_eq!(round.settled, left);
}

/// A run that follows at once does not wait for a round.
#[tokio::test(start_paused = true)]
async fn p3_a_stand_in_removes_the_snapshot_of_a_dead_vma_before_it_takes_its_own() {
    let (bench, own, other) = dead().await.unwrap();
    bench.vma.forget_copies();
    assert!(!bench.vma.snapshots().is_empty());
    bench.vma.script(CopyScript { steps: 1000, ..CopyScript::default() });
    let run = bench.start(FULL).await.unwrap();
    assert!(timeout(Duration::from_secs(30), bench.run(run)).await.is_err());
    assert_eq!(bench.vma.ordered(), [own, other]);
    assert_eq!(bench.vma.snapshots(), [run.to_string()]);
}

/// The dead one may have the order, and take the snapshot yet.
#[tokio::test(start_paused = true)]
async fn p3_that_a_stand_in_finds_nothing_settles_nothing() {
    let (bench, own, _) = dead().await.unwrap();
    bench.vma.forget_copies();
    let copies =
        bench.store.view().await.unwrap().owed_cleanups(9).await.unwrap().whole().unwrap().len();
    let first = rounds(&bench).round().await.unwrap();
    let again = rounds(&bench).round().await.unwrap();
    assert_eq!((first.settled + again.owed, again.settled), (copies, 0));
    assert!(again.owed > 0, "an order that was never answered");
    bench.vma.unsilence(own);
    assert_eq!(rounds(&bench).round().await.unwrap().owed, 0);
}

/// Merging a snapshot into a disk that is being read from the one above it is nobody's wish.
#[tokio::test(start_paused = true)]
async fn p3_a_stand_in_removes_nothing_from_a_vm_that_is_being_copied() {
    let (bench, _, other) = dead().await.unwrap();
    bench.vma.forget_copies();
    let left = bench.vma.snapshots();
    bench.vma.keep_snapshots(true);
    bench.vma.script(CopyScript { steps: 1000, ..CopyScript::default() });
    let run = bench.start(FULL).await.unwrap();
    assert!(timeout(Duration::from_secs(30), bench.run(run)).await.is_err());
    bench.vma.keep_snapshots(false);
    assert_eq!(bench.vma.ordered().last(), Some(&other));
    rounds(&bench).round().await.unwrap();
    assert!(left.iter().all(|it| bench.vma.snapshots().contains(it)));
}

#[tokio::test(start_paused = true)]
async fn a_stand_in_keeps_its_run_and_is_the_one_that_is_told_to_stop() {
    let (bench, own, other) = two().await.unwrap();
    bench.vma.script(CopyScript { steps: 1000, ..CopyScript::default() });
    bench.vma.silence(own, "");
    let run = bench.start(FULL).await.unwrap();
    assert!(timeout(Duration::from_secs(30), bench.run(run)).await.is_err());
    bench.vma.unsilence(own);
    bench.backup.recover().await.unwrap();
    assert!(bench.vma.copying().is_empty(), "the one that copies was told");
    bench.vma.script(CopyScript::default());
    assert_eq!(bench.run(run).await.unwrap(), JobStatus::Succeeded);
    assert_eq!(bench.vma.ordered(), [other, other]);
    let said = remarks(&bench, run).await.unwrap();
    assert_eq!(said.copied_by.unwrap().vma, other);
    assert_eq!(said.warnings[0].code, "vm/other-vma", "the reason of the first attempt stays");
    bench.assert_nothing_left().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn trap_u18_a_disk_that_was_added_meanwhile_is_named() {
    let (bench, ..) = two().await.unwrap();
    let run = bench.start(FULL).await.unwrap();
    let mut disks = fixtures::pgtest1().unwrap().disks;
    disks.push(fixtures::disk("disk-2002", fixtures::SMALL).unwrap());
    let now = bench.backup.clock.now();
    let known = bench.disks().await.unwrap();
    let added = hub_domain::disk_sync::plan_disk_sync(bench.vm.id, &known, &disks, now).add;
    let mut work = bench.store.begin().await.unwrap();
    work.insert_disks(&added, now).await.unwrap();
    work.commit().await.unwrap();
    assert_eq!(bench.run(run).await.unwrap(), JobStatus::Succeeded);
    let warnings = remarks(&bench, run).await.unwrap().warnings;
    assert_eq!(warnings[0].code, "vm/disk-added");
    assert!(warnings[0].detail.contains("disk-2002"), "{}", warnings[0].detail);
    let run = bench.start(INCREMENTAL).await.unwrap();
    assert_eq!(bench.run(run).await.unwrap(), JobStatus::Succeeded);
    let next = bench.jobs().await.unwrap().split_off(2);
    let kinds = next.iter().map(|it| it.backup_type).collect::<Vec<_>>();
    assert_eq!(kinds, [INCREMENTAL, INCREMENTAL, FULL], "its chain begins beside the others'");
    assert!(remarks(&bench, run).await.unwrap().warnings.is_empty());
}
