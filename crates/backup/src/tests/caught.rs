//! A source that was caught in one attempt of a run, and what the next attempt makes of it.

use hub_domain::audit::{Lie, Suspicion};
use hub_domain::backup::BackupType;
use hub_domain::fault::Fault;
use hub_domain::job::JobStatus;
use hub_domain::source::CopyMethod;
use hub_ports::{BackupStorage as _, Store as _};
use hub_testkit::{CopyScript, Fault as StorageFault, fixtures};
use tokio::time::{Duration, sleep, timeout};

use super::auditing::{lying, of_first_disk};
use crate::bench::{Bench, FULL, INCREMENTAL};

/// A copy that has found a lie, and whose next attempt has to become a full, stands on nothing that is suspect.
#[tokio::test(start_paused = true)]
async fn a_full_that_an_attempt_after_a_lie_becomes_is_not_suspect() {
    let bench = Bench::new().await.unwrap();
    bench.back_up(FULL).await.unwrap();
    let lying = lying(&bench).await.unwrap();
    bench.vma.script(CopyScript { forgets_at: Some(5), ..lying });
    let run = bench.start(INCREMENTAL).await.unwrap();
    let between = async {
        while of_first_disk(&bench).await.unwrap()[1].attempt.is_first() {
            sleep(Duration::from_millis(10)).await;
        }
        // Neither what has arrived nor the parent can be used any more.
        let repository = fixtures::repository(1, "main");
        for path in bench.storage.partial_images() {
            bench.storage.abandon_image(&repository, &path).await.unwrap();
        }
        bench.storage.set_fault(Some(StorageFault::NoParent));
        bench.vma.script(CopyScript::default());
    };
    let (ended, between) = tokio::join!(bench.run(run), timeout(Duration::from_secs(900), between));
    between.unwrap();
    assert_eq!(ended.unwrap(), JobStatus::Succeeded);
    bench.storage.set_fault(None);
    let jobs = of_first_disk(&bench).await.unwrap();
    assert!(jobs[0].suspicion.is_some(), "the lie was about the chain before");
    assert_eq!((jobs[1].backup_type, jobs[1].parent), (BackupType::Full, None));
    assert_eq!(jobs[1].suspicion, None, "a full stands on nothing that the source has said");
    let stats = bench.store.view().await.unwrap().backup_stats().await.unwrap();
    assert_eq!(stats.suspect_chains, 0);
}

/// Nothing that a source says is relied upon in a run that has caught it, also where the next attempt begins anew.
#[tokio::test(start_paused = true)]
async fn trap_u36_an_attempt_after_a_lie_believes_nothing_also_where_nothing_is_kept() {
    for (asked, method) in [(INCREMENTAL, CopyMethod::ByDigest), (FULL, CopyMethod::Full)] {
        let bench = Bench::new().await.unwrap();
        bench.back_up(FULL).await.unwrap();
        let lying = lying(&bench).await.unwrap();
        // The other disk is lost when this one has told its lie.
        let other = bench.disks().await.unwrap()[1].facts.key.clone();
        let lost = Fault::new("target/disconnected", "the hub was lost");
        bench.vma.script(CopyScript { failing: [(other, lost)].into_iter().collect(), ..lying });
        let run = bench.start(asked).await.unwrap();
        let between = async {
            while of_first_disk(&bench).await.unwrap()[1].attempt.is_first() {
                sleep(Duration::from_millis(10)).await;
            }
            let repository = fixtures::repository(1, "main");
            for path in bench.storage.partial_images() {
                bench.storage.abandon_image(&repository, &path).await.unwrap();
            }
            bench.vma.script(CopyScript::default());
        };
        let (ended, between) =
            tokio::join!(bench.run(run), timeout(Duration::from_secs(900), between));
        between.unwrap();
        assert_eq!(ended.unwrap(), JobStatus::Succeeded);
        let again = bench.vma.orders().remove(2).disks.remove(0);
        assert_eq!((&again.method, again.target.kept_bytes), (&method, None));
        assert!(again.audit.is_none() && again.chain_audit.is_none(), "{again:?}");
        bench.assert_nothing_left().await.unwrap();
    }
}

/// Who found it first is what the alarm tells, and what is deleted with it.
#[tokio::test(start_paused = true)]
async fn what_is_suspect_already_keeps_its_first_mark() {
    let bench = Bench::new().await.unwrap();
    bench.back_up(FULL).await.unwrap();
    let lying = lying(&bench).await.unwrap();
    bench.vma.script(CopyScript { audits_at: 8, ..lying });
    let run = bench.start(INCREMENTAL).await.unwrap();
    let jobs = of_first_disk(&bench).await.unwrap();
    let (found_by, found_at) = (jobs[0].id, jobs[0].created_at);
    let (expected, found) = ("00".repeat(32), "cd".repeat(32));
    let first =
        Suspicion { found_by, found_at, lie: Lie { offset: 0, blocks: 1, expected, found } };
    let between = async {
        while bench.vma.orders().len() < 2 {
            sleep(Duration::from_millis(10)).await;
        }
        let mut work = bench.store.begin().await.unwrap();
        let mut full = work.backup(found_by).await.unwrap().unwrap();
        full.suspicion = Some(first.clone());
        work.update_backup(&mut full).await.unwrap();
        work.commit().await.unwrap();
    };
    let (ended, between) = tokio::join!(bench.run(run), timeout(Duration::from_secs(900), between));
    between.unwrap();
    assert_eq!(ended.unwrap(), JobStatus::Succeeded);
    let jobs = of_first_disk(&bench).await.unwrap();
    assert_eq!(jobs[0].suspicion, Some(first));
    assert_eq!(jobs[1].suspicion.as_ref().map(|it| it.found_by), Some(jobs[1].id));
}

/// An incremental that becomes a full for want of its parent relies on nothing, and has nothing to audit by parts.
#[tokio::test(start_paused = true)]
async fn a_full_for_want_of_a_parent_is_ordered_without_an_audit() {
    let bench = Bench::new().await.unwrap();
    bench.back_up(FULL).await.unwrap();
    bench.storage.set_fault(Some(StorageFault::NoParent));
    bench.back_up(INCREMENTAL).await.unwrap();
    let ordered = bench.vma.orders().remove(1).disks.remove(0);
    assert_eq!((ordered.method, ordered.audit), (CopyMethod::Full, None));
}

/// A VMA that tells of an audit that nobody has ordered moves no place and marks no chain.
#[tokio::test(start_paused = true)]
async fn an_audit_that_was_not_ordered_is_not_heard() {
    let bench = Bench::new().await.unwrap();
    let lying = lying(&bench).await.unwrap();
    bench.vma.script(CopyScript { tells_unasked: true, ..lying });
    assert_eq!(bench.back_up(FULL).await.unwrap(), JobStatus::Succeeded);
    let full = of_first_disk(&bench).await.unwrap().remove(0);
    assert_eq!((full.suspicion, full.audited.next, full.audited.blocks), (None, 0, 0));
}
