//! Rounds of owed clean-ups: what does not answer holds up no other, and what is asked for in vain is asked for less often.

use std::sync::Arc;
use std::time::Duration;

use hub_domain::access::VmaNode;
use hub_domain::fault::Fault;
use hub_domain::ids::{BackupRunId, VmaNodeId};
use hub_domain::owed::{OwedBy, OwedCleanup};
use hub_domain::reader_choice::SourceName;
use hub_domain::time::Timestamp;
use hub_domain::vm::VmContext;
use hub_ports::{OwedCleanups, OwedOptions, Store, owe};
use hub_testkit::Whole as _;
use hub_testkit::{FixedClock, fixtures};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::bench::Bench;

const ELSEWHERE: &str = "other.example.local";
const MISSING: &str = "source/snapshot-vm-missing";

/// Half of the time between two rounds.
const HALF: Duration = Duration::from_secs(30);

const fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

/// A bench with a VMA at each of two vCenters, and what asks them.
struct Lab {
    bench: Bench,
    rounds: OwedCleanups,
    here: VmaNodeId,
    elsewhere: VmaNodeId,
}

fn reading(id: u128, name: &str, host: &str) -> VmaNode {
    VmaNode {
        source_kind: "vsphere".to_owned(),
        source: SourceName { host: Some(host.to_owned()), uuid: None },
        ..fixtures::vma_node(id, name)
    }
}

impl Lab {
    async fn new() -> anyhow::Result<Self> {
        let bench = Bench::new().await?;
        let here = reading(1, "vma1", fixtures::VCENTER);
        let elsewhere = reading(2, "vma2", ELSEWHERE);
        let mut work = bench.store.begin().await?;
        work.update_vma_node(&here).await?;
        work.note_vma_source(here.id, &here.source).await?;
        work.insert_vma_node(&elsewhere).await?;
        work.commit().await?;
        let rounds = OwedCleanups {
            store: bench.store.clone(),
            source: bench.vma.clone(),
            clock: Arc::new(FixedClock::ticking()),
            options: OwedOptions { alarm_after: Duration::ZERO, ..OwedOptions::default() },
        };
        Ok(Self { bench, rounds, here: here.id, elsewhere: elsewhere.id })
    }

    /// Owes a clean-up for each of these copies, the first the longest.
    async fn owes(&self, source: &str, vma: VmaNodeId, copies: &[&str]) -> anyhow::Result<()> {
        for copy in copies {
            let at = self.rounds.clock.now();
            let run = OwedBy::Backup(BackupRunId::from_uuid(Uuid::from_u128(99)));
            let owed = OwedCleanup::of_copy(copy, run, &self.bench.vm, vma, None, at);
            let owed = OwedCleanup { source: source.to_owned(), ..owed };
            owe(self.bench.store.as_ref(), &owed).await?;
        }
        Ok(())
    }

    async fn owed(&self) -> anyhow::Result<Vec<String>> {
        let all = self.bench.store.view().await?.owed_cleanups(99).await?.whole()?;
        Ok(all.into_iter().map(|it| it.copy).collect())
    }

    /// The copies that one VMA was asked about.
    fn asked(&self, vma: VmaNodeId) -> Vec<String> {
        let all = self.bench.vma.clean_ups().into_iter();
        all.filter(|(node, _)| *node == vma).map(|(_, copy)| copy).collect()
    }

    fn refuse(&self, vma: VmaNodeId, code: &str) {
        let fault = Fault::new(code, "it cannot look");
        self.bench.vma.refuse_clean_ups(vma, Duration::ZERO, Some(fault));
    }

    fn obey(&self, vma: VmaNodeId) {
        self.bench.vma.refuse_clean_ups(vma, Duration::ZERO, None);
    }

    /// Lets the hub ask for so long; half a minute less, since a round begins with each whole one.
    async fn run_for(&self, time: Duration) {
        drop(timeout(time - HALF, self.rounds.run(CancellationToken::new())).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_vma_that_does_not_answer_is_asked_once_a_round_and_holds_up_no_other() {
    let lab = Lab::new().await.unwrap();
    lab.owes(fixtures::VCENTER, lab.here, &["a", "b", "c"]).await.unwrap();
    lab.owes(ELSEWHERE, lab.elsewhere, &["d", "e"]).await.unwrap();
    lab.bench.vma.refuse_clean_ups(lab.here, Duration::from_secs(40), None);
    lab.bench.vma.silence(lab.here, "vma.clean_up");
    let mut round = Box::pin(lab.rounds.round());
    assert!(timeout(Duration::from_secs(1), &mut round).await.is_err());
    assert_eq!(lab.owed().await.unwrap(), ["a", "b", "c"], "the others did not wait for it");
    let round = round.await.unwrap();
    assert_eq!((round.settled, round.owed, round.overdue.len()), (2, 3, 3));
    assert_eq!(lab.asked(lab.here), ["a"], "nobody waits for it a second time");
}

/// It may be one VM that a vCenter never answers for.
#[tokio::test(start_paused = true)]
async fn each_round_finds_out_with_another_clean_up_whether_a_vma_is_back() {
    let lab = Lab::new().await.unwrap();
    lab.owes(fixtures::VCENTER, lab.here, &["a", "b", "c"]).await.unwrap();
    lab.bench.vma.silence(lab.here, "vma.clean_up");
    lab.run_for(minutes(5)).await;
    assert_eq!(lab.asked(lab.here), ["a", "b", "c", "a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_vma_that_does_not_reach_its_vcenter_is_asked_once_a_round() {
    let lab = Lab::new().await.unwrap();
    lab.owes(fixtures::VCENTER, lab.here, &["a", "b", "c"]).await.unwrap();
    for code in ["source/endpoint-unreachable", "vma/stopping"] {
        lab.refuse(lab.here, code);
        let before = lab.asked(lab.here).len();
        assert_eq!(lab.rounds.round().await.unwrap().owed, 3);
        assert_eq!(lab.asked(lab.here)[before..], ["a"], "{code}");
    }
    // What is about one VM only says nothing of the others.
    lab.refuse(lab.here, MISSING);
    lab.rounds.round().await.unwrap();
    assert_eq!(lab.asked(lab.here)[2..], ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_takes_longer_than_a_round_holds_up_no_other() {
    let lab = Lab::new().await.unwrap();
    lab.owes(fixtures::VCENTER, lab.here, &["a"]).await.unwrap();
    lab.owes(ELSEWHERE, lab.elsewhere, &["b"]).await.unwrap();
    lab.bench.vma.refuse_clean_ups(lab.here, minutes(5), None);
    lab.refuse(lab.elsewhere, MISSING);
    lab.run_for(minutes(4)).await;
    assert_eq!(lab.asked(lab.here), ["a"], "it is at work, and not asked twice at a time");
    assert_eq!(lab.asked(lab.elsewhere).len(), 3, "at once, and after 1 and 3 minutes");
}

/// A removal may outlast its record, which somebody has struck off meanwhile: the vCenter is at work all the same.
#[tokio::test(start_paused = true)]
async fn a_source_is_asked_for_one_thing_at_a_time_also_when_that_is_owed_no_more() {
    let lab = Lab::new().await.unwrap();
    lab.owes(fixtures::VCENTER, lab.here, &["a"]).await.unwrap();
    lab.bench.vma.refuse_clean_ups(lab.here, minutes(5), None);
    let meanwhile = async {
        sleep(HALF).await;
        let owed = lab.bench.store.view().await.unwrap().owed_cleanup("a").await.unwrap().unwrap();
        let mut work = lab.bench.store.begin().await.unwrap();
        assert!(work.strike_off(&owed).await.unwrap());
        work.commit().await.unwrap();
        sleep(minutes(1)).await;
        lab.owes(fixtures::VCENTER, lab.here, &["b"]).await.unwrap();
        sleep(minutes(3)).await;
        assert_eq!(lab.asked(lab.here), ["a"], "it is at work");
        sleep(minutes(2)).await;
        assert_eq!(lab.asked(lab.here), ["a", "b"]);
    };
    tokio::select! {
        () = lab.rounds.run(CancellationToken::new()) => panic!("it was not told to stop"),
        () = meanwhile => {}
    }
}

#[tokio::test(start_paused = true)]
async fn more_sources_than_are_asked_at_a_time_are_all_asked() {
    let lab = Lab::new().await.unwrap();
    let options = OwedOptions { sources_at_once: 1, ..lab.rounds.options };
    let rounds = OwedCleanups { options, ..lab.rounds.clone() };
    lab.owes(fixtures::VCENTER, lab.here, &["a"]).await.unwrap();
    lab.owes(ELSEWHERE, lab.elsewhere, &["b"]).await.unwrap();
    assert_eq!(rounds.round().await.unwrap().settled, 2);
}

/// A VM that is gone for good stays owed until somebody says so, and is asked for all that time.
#[tokio::test(start_paused = true)]
async fn what_is_asked_for_in_vain_is_asked_for_less_and_less_often() {
    let lab = Lab::new().await.unwrap();
    lab.owes(fixtures::VCENTER, lab.here, &["gone"]).await.unwrap();
    lab.refuse(lab.here, MISSING);
    lab.run_for(minutes(8)).await;
    assert_eq!(lab.asked(lab.here).len(), 4, "at once, and after 1, 3 and 7 minutes");
    let before = lab.asked(lab.here).len();
    lab.run_for(minutes(24 * 60)).await;
    let asked = lab.asked(lab.here).len() - before;
    assert!((50..=54).contains(&asked), "{asked}: a start asks at once, and twice an hour then");
    // It is as old as it is, and warned of, however seldom it is asked for.
    let overdue = lab.rounds.round().await.unwrap().overdue;
    assert_eq!(overdue[0].fault.as_ref().unwrap().code, MISSING);
    assert_eq!(overdue[0].tries as usize, lab.asked(lab.here).len());
}

#[tokio::test(start_paused = true)]
async fn what_changes_with_the_vm_its_login_or_its_vma_is_asked_for_at_once() {
    let lab = Lab::new().await.unwrap();
    lab.owes(fixtures::VCENTER, lab.here, &["gone"]).await.unwrap();
    lab.refuse(lab.here, MISSING);
    let asked = || lab.asked(lab.here).len();
    let changes = async {
        sleep(minutes(100) + HALF).await;
        let before = asked();
        // A discovery has found the VM to be registered anew.
        let at = Timestamp::UNIX_EPOCH + minutes(1);
        let seen = VmContext { facts_at: Some(at), ..lab.bench.vm.clone() };
        let mut work = lab.bench.store.begin().await.unwrap();
        work.update_vm(&seen).await.unwrap();
        work.commit().await.unwrap();
        sleep(minutes(1)).await;
        assert_eq!(asked(), before + 1, "the VM");
        sleep(minutes(100)).await;
        let before = asked();
        let moved = VmaNode {
            url: "http://elsewhere.example.local:8081".to_owned(),
            ..reading(1, "vma1", fixtures::VCENTER)
        };
        let mut work = lab.bench.store.begin().await.unwrap();
        work.update_vma_node(&moved).await.unwrap();
        work.commit().await.unwrap();
        sleep(minutes(1)).await;
        assert_eq!(asked(), before + 1, "the VMA");
    };
    tokio::select! {
        () = lab.rounds.run(CancellationToken::new()) => panic!("it was not told to stop"),
        () = changes => {}
    }
    // So does a start of the hub.
    let before = asked();
    lab.run_for(minutes(1)).await;
    assert_eq!(asked(), before + 1);
}

#[tokio::test(start_paused = true)]
async fn a_vma_that_is_back_is_asked_for_everything_at_once() {
    let lab = Lab::new().await.unwrap();
    lab.owes(fixtures::VCENTER, lab.here, &["a", "b"]).await.unwrap();
    lab.refuse(lab.here, MISSING);
    let asked = || lab.asked(lab.here).len();
    let away = async {
        sleep(minutes(100) + HALF).await;
        for code in ["", "source/endpoint-unreachable"] {
            if code.is_empty() {
                lab.bench.vma.silence(lab.here, "vma.clean_up");
            } else {
                lab.refuse(lab.here, code);
            }
            // As long as it may take until something is due.
            sleep(minutes(31)).await;
            let before = asked();
            sleep(minutes(10)).await;
            assert_eq!(asked() - before, 10, "one question a minute finds out whether it is back");
            lab.bench.vma.unsilence(lab.here);
            lab.refuse(lab.here, MISSING);
            let before = asked();
            sleep(minutes(1)).await;
            assert_eq!(asked() - before, 2, "both");
        }
        lab.obey(lab.here);
        sleep(minutes(3)).await;
        assert!(lab.owed().await.unwrap().is_empty());
    };
    tokio::select! {
        () = lab.rounds.run(CancellationToken::new()) => panic!("it was not told to stop"),
        () = away => {}
    }
}

/// A stand-in that finds nothing settles nothing, and is not asked for the same every minute.
#[tokio::test(start_paused = true)]
async fn a_stand_in_is_asked_less_and_less_often_while_the_silent_one_is_tried_every_minute() {
    let lab = Lab::new().await.unwrap();
    let other = reading(3, "vma3", fixtures::VCENTER);
    let mut work = lab.bench.store.begin().await.unwrap();
    work.insert_vma_node(&other).await.unwrap();
    work.commit().await.unwrap();
    lab.owes(fixtures::VCENTER, lab.here, &["a", "b"]).await.unwrap();
    lab.bench.vma.silence(lab.here, "vma.clean_up");
    lab.run_for(minutes(8)).await;
    assert_eq!(lab.asked(other.id).len(), 2 * 4);
    assert_eq!(lab.asked(lab.here).len(), 8);
    assert_eq!(lab.owed().await.unwrap(), ["a", "b"]);
    // One that does not reach the vCenter is stood in for, too.
    lab.bench.vma.unsilence(lab.here);
    lab.refuse(lab.here, "source/endpoint-unreachable");
    let before = lab.asked(other.id).len();
    lab.rounds.round().await.unwrap();
    assert_eq!(lab.asked(other.id).len(), before + 2);
}
