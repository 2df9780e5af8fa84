//! Whether a guest is to be at rest, whether it was, and by which way its disks were read.

use hub_domain::backup::BackupJob;
use hub_domain::source::{Quiescence, ReadBy};
use hub_testkit::CopyScript;
use tokio_util::sync::CancellationToken;

use crate::StartBackup;
use crate::bench::{Bench, FULL, INCREMENTAL};

fn not_at_rest() -> Option<Quiescence> {
    Some(Quiescence { quiesced: false, reason: Some("no tools in the guest".to_owned()) })
}

fn by_https() -> Option<ReadBy> {
    Some(ReadBy { reader: "https".to_owned(), reason: Some("no VDDK is set up".to_owned()) })
}

/// A script that says so of the guest and of the disks.
fn telling(steps: u64) -> CopyScript {
    CopyScript { quiescence: not_at_rest(), read_by: by_https(), steps, ..CopyScript::default() }
}

/// What is known of the two jobs of a run after such a script.
fn both() -> Vec<(Option<Quiescence>, Option<ReadBy>)> {
    vec![(not_at_rest(), by_https()); 2]
}

fn told(jobs: &[BackupJob]) -> Vec<(Option<Quiescence>, Option<ReadBy>)> {
    jobs.iter().map(|job| (job.quiescence.clone(), job.read_by.clone())).collect()
}

#[tokio::test(start_paused = true)]
async fn a_run_says_whether_its_guest_is_to_be_at_rest_and_its_points_whether_it_was() {
    let bench = Bench::new().await.unwrap();
    bench.vma.script(telling(2));
    let request = StartBackup { quiesce: Some(true), ..bench.request(FULL) };
    let started = bench.backup.start(&request).await.unwrap();
    assert_eq!(started.run.quiesce, Some(true));
    for quiesce in [None, Some(false)] {
        let other = StartBackup { quiesce, ..request.clone() };
        assert!(bench.backup.start(&other).await.is_err(), "{quiesce:?} is another request");
    }
    let again = bench.backup.start(&request).await.unwrap();
    assert_eq!((again.run.id, again.is_new), (started.run.id, false));
    bench.run(started.run.id).await.unwrap();
    assert_eq!(bench.vma.orders()[0].quiesce, Some(true));
    assert_eq!(told(&bench.jobs().await.unwrap()), both());
    bench.vma.script(CopyScript::default());
    bench.back_up(INCREMENTAL).await.unwrap();
    assert_eq!(bench.vma.orders()[1].quiesce, None, "as the VMA is set up");
    assert_eq!(told(&bench.jobs().await.unwrap()[2..]), [(None, None), (None, None)]);
}

/// Another attempt reads another instant, of which what is known of the first one says nothing.
#[tokio::test(start_paused = true)]
async fn what_a_lost_attempt_said_is_not_said_of_the_next_one() {
    let bench = Bench::new().await.unwrap();
    bench.vma.script(CopyScript { forgets_at: Some(8), ..telling(10) });
    let run = bench.start(FULL).await.unwrap();
    let meanwhile = async {
        let mut shown = Vec::new();
        while bench.vma.orders().len() < 2 {
            shown.extend(bench.jobs().await.unwrap().pop().map(|job| job.quiescence));
            bench.vma.script(CopyScript::default());
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        shown
    };
    let (ended, shown) = tokio::join!(bench.backup.run(run, CancellationToken::new()), async {
        while bench.vma.orders().is_empty() {
            tokio::task::yield_now().await;
        }
        meanwhile.await
    });
    ended.unwrap();
    assert!(shown.contains(&not_at_rest()), "it is told while the copy runs");
    assert_eq!(told(&bench.jobs().await.unwrap()), [(None, None), (None, None)]);
}

/// What is asked for outlives the hub: the order of the next one says the same.
#[tokio::test(start_paused = true)]
async fn a_hub_that_comes_back_asks_for_the_same() {
    let bench = Bench::new().await.unwrap();
    bench.vma.script(CopyScript { stuck_at: Some(3), ..telling(10) });
    let request = StartBackup { quiesce: Some(false), ..bench.request(FULL) };
    let run = bench.backup.start(&request).await.unwrap().run.id;
    tokio::select! {
        _ = bench.run(run) => panic!("the copy is stuck"),
        () = async { while bench.vma.orders().is_empty() { tokio::task::yield_now().await; } } => {}
    }
    bench.vma.script(telling(2));
    bench.next_hub().await.unwrap();
    let asked: Vec<_> = bench.vma.orders().iter().map(|order| order.quiesce).collect();
    assert_eq!(asked, [Some(false); 2]);
    assert_eq!(told(&bench.jobs().await.unwrap()), both());
}
