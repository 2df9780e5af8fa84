//! A source that was caught in one attempt of a run, and what the next attempt makes of it.

use hub_domain::backup::BackupType;
use hub_domain::job::JobStatus;
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
