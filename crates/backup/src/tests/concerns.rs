//! What speaks against a backup: refused where nothing can be copied, alone where others can, and read in full.

use hub_domain::backup::BackupRun;
use hub_domain::conditions::{DiskConditions, VmConditions, VmSnapshot};
use hub_domain::job::JobStatus;
use hub_domain::selector::DiskSelector;
use hub_domain::source::CopyMethod;
use hub_domain::vm::VmContext;
use hub_ports::{Classify, ErrorClass, Store};
use hub_testkit::CopyScript;
use tokio_util::sync::CancellationToken;

use crate::StartBackup;
use crate::bench::{Bench, FULL, INCREMENTAL};

/// Changes what the source said of the VM.
async fn say(bench: &Bench, conditions: VmConditions) -> anyhow::Result<()> {
    let mut work = bench.store.begin().await?;
    let mut facts = bench.vm.facts.clone();
    facts.conditions = conditions;
    work.update_vm(&VmContext { facts, ..bench.vm.clone() }).await?;
    Ok(work.commit().await?)
}

/// Makes disks independent, by ordinal.
async fn make_independent(bench: &Bench, ordinals: &[usize]) -> anyhow::Result<()> {
    let mut disks = bench.disks().await?;
    for ordinal in ordinals {
        disks[*ordinal].facts.conditions = DiskConditions {
            mode: Some("independent_persistent".to_owned()),
            ..DiskConditions::default()
        };
    }
    let mut work = bench.store.begin().await?;
    work.update_disks(&disks).await?;
    Ok(work.commit().await?)
}

#[tokio::test]
async fn a_blocked_vm_is_refused_with_its_code_and_what_to_do() {
    let bench = Bench::new().await.unwrap();
    let template = VmConditions { template: Some(true), ..VmConditions::default() };
    say(&bench, template).await.unwrap();
    let refused = bench.backup.start(&bench.request(FULL)).await.unwrap_err();
    assert_eq!((refused.code(), refused.class()), ("preflight/template", ErrorClass::Conflict));
    assert!(refused.to_string().contains("make a VM of it"), "{refused}");
    assert!(bench.jobs().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_blocked_disk_is_refused_when_it_is_asked_for_or_when_there_is_no_other() {
    let bench = Bench::new().await.unwrap();
    make_independent(&bench, &[1]).await.unwrap();
    let asked = StartBackup { disks: DiskSelector::Ordinal(1), ..bench.request(FULL) };
    let refused = bench.backup.start(&asked).await.unwrap_err();
    assert_eq!(refused.code(), "preflight/independent-disk");
    make_independent(&bench, &[0, 1]).await.unwrap();
    let refused = bench.backup.start(&bench.request(FULL)).await.unwrap_err();
    assert_eq!(refused.code(), "preflight/independent-disk");
}

#[tokio::test(start_paused = true)]
async fn trap_c24_a_blocked_disk_fails_alone() {
    let bench = Bench::new().await.unwrap();
    make_independent(&bench, &[1]).await.unwrap();
    assert_eq!(bench.back_up(FULL).await.unwrap(), JobStatus::Failed);
    let jobs = bench.jobs().await.unwrap();
    assert!(jobs[0].is_restore_point());
    let fault = jobs[1].state.fault().unwrap();
    assert_eq!(fault.code, "preflight/independent-disk");
    assert!(fault.detail.contains("disk-2001 is independent_persistent"), "{}", fault.detail);
    assert_eq!(bench.vma.orders()[0].disks.len(), 1);
    bench.assert_nothing_left().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn trap_u9_what_is_doubtful_is_read_in_full_and_says_why() {
    let bench = Bench::new().await.unwrap();
    bench.back_up(FULL).await.unwrap();
    let waiting = VmConditions { consolidation_needed: Some(true), ..VmConditions::default() };
    say(&bench, waiting).await.unwrap();
    assert_eq!(bench.back_up(INCREMENTAL).await.unwrap(), JobStatus::Succeeded);
    let jobs = bench.jobs().await.unwrap();
    for job in &jobs[2..] {
        let reason = job.method_reason.as_deref().unwrap_or_default();
        assert!(reason.starts_with("preflight/consolidation-needed: "), "{reason}");
        assert!(job.parent.is_some());
    }
    assert!(bench.vma.orders()[1].disks.iter().all(|disk| disk.method == CopyMethod::ByDigest));
    // A doubt that is gone is forgotten.
    say(&bench, VmConditions::default()).await.unwrap();
    bench.back_up(INCREMENTAL).await.unwrap();
    let trusted = |method: &CopyMethod| matches!(method, CopyMethod::ChangedSince { .. });
    assert!(bench.vma.orders()[2].disks.iter().all(|disk| trusted(&disk.method)));
}

#[tokio::test(start_paused = true)]
async fn a_run_keeps_what_spoke_against_it_and_a_full_says_why_the_next_one_may_read_all() {
    let bench = Bench::new().await.unwrap();
    let others = VmSnapshot {
        id: "snapshot-1".to_owned(),
        name: "theirs".to_owned(),
        created: None,
        parent: None,
        quiesced: None,
    };
    let said = VmConditions {
        tracking_enabled: Some(false),
        snapshots: Some(vec![others]),
        ..VmConditions::default()
    };
    say(&bench, said).await.unwrap();
    let mut disks = bench.disks().await.unwrap();
    for disk in &mut disks {
        disk.facts.conditions.rdm = Some("virtual".to_owned());
    }
    let mut work = bench.store.begin().await.unwrap();
    work.update_disks(&disks).await.unwrap();
    work.commit().await.unwrap();
    let asked = StartBackup { disks: DiskSelector::Ordinal(0), ..bench.request(FULL) };
    let started = bench.backup.start(&asked).await.unwrap();
    // What speaks against a disk that nobody asked for is none of the run's, and what passes by itself is no warning.
    let codes =
        |run: &BackupRun| run.remarks.warnings.iter().map(|it| it.code.clone()).collect::<Vec<_>>();
    let expected = ["preflight/snapshots-forbid-tracking", "preflight/virtual-rdm"];
    assert_eq!(codes(&started.run), expected);
    assert!(started.run.remarks.warnings[0].detail.contains("theirs; remove them"));
    let reason = started.jobs[0].method_reason.clone().unwrap_or_default();
    assert!(reason.starts_with("preflight/snapshots-forbid-tracking: "), "{reason}");
    // They are those of the time when it is at work, and stay with the run.
    say(&bench, VmConditions::default()).await.unwrap();
    bench.backup.run(started.run.id, CancellationToken::new()).await.unwrap();
    let stored = bench.store.view().await.unwrap().backup_run(started.run.id).await.unwrap();
    assert_eq!(codes(&stored.unwrap()), ["preflight/virtual-rdm"]);
}

#[tokio::test(start_paused = true)]
async fn trap_u10_a_mark_is_believed_whatever_was_said_of_tracking_and_a_missing_one_is_explained()
{
    let bench = Bench::new().await.unwrap();
    let off = VmConditions { tracking_enabled: Some(false), ..VmConditions::default() };
    say(&bench, off).await.unwrap();
    bench.back_up(FULL).await.unwrap();
    bench.vma.script(CopyScript { gives_change_id: false, ..CopyScript::default() });
    bench.back_up(INCREMENTAL).await.unwrap();
    bench.back_up(INCREMENTAL).await.unwrap();
    let orders = bench.vma.orders();
    // It was switched on since the source was asked: the mark is there, and the source judges it.
    assert!(matches!(orders[1].disks[0].method, CopyMethod::ChangedSince { .. }));
    assert_eq!(orders[2].disks[0].method, CopyMethod::ByDigest);
    let jobs = bench.jobs().await.unwrap();
    let reason = jobs.last().unwrap().method_reason.clone().unwrap_or_default();
    let both = ["gave no change id", "preflight/tracking-off: its changed blocks are not tracked"];
    assert!(both.iter().all(|it| reason.contains(it)), "{reason}");
}
