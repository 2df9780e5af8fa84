//! Trap U11: deltas that are merged load a datastore for longer than a copy did, and the run that they belong to has ended.

use std::time::Duration;

use anyhow::Result;
use hub_vma_api::{CleanupOutcome, CleanupRequest};
use hub_vsphere_peer::{PeerOptions, Trouble};

use super::lab::Lab;
use crate::doubles::until;
use crate::source::{Snapshot, Source as _};

const REMOVE: &str = "RemoveSnapshot_Task";

/// A lab in which one snapshot is removed at a host at a time, with three VMs at one host; the lab's own is at another.
async fn one_at_a_time() -> Result<Option<(Lab, [String; 3])>> {
    let options = PeerOptions { vms: 3, ..PeerOptions::default() };
    let Some(mut lab) = Lab::start_with(options).await? else { return Ok(None) };
    let of = |vm: u64| anyhow::Ok(lab.another(&format!("DC0_H0_VM{vm}"), 11 + vm)?.id);
    let ids = [of(0)?, of(1)?, of(2)?];
    lab.removing(1)?;
    Ok(Some((lab, ids)))
}

async fn open(lab: &Lab, id: &str, job: &str) -> Result<Box<dyn Snapshot>> {
    Ok(lab.source.open(&lab.request_of(id, job)).await?)
}

/// Whether a job says that it waits for a removal at its host.
fn waits(lab: &Lab, job: &str) -> bool {
    lab.source.waits_for(job).is_some_and(|it| it.contains("source.removals_per_host"))
}

/// How many removals were asked for.
fn asked(lab: &Lab) -> u64 {
    lab.peer.calls().unwrap_or_default().get(REMOVE).copied().unwrap_or_default()
}

/// Holds the next removal.
fn hold(lab: &Lab) -> Result<()> {
    lab.peer.trouble(&Trouble::once(REMOVE, "hold", ""))
}

fn cleanup(lab: &Lab, id: &str, job: &str) -> CleanupRequest {
    CleanupRequest {
        job_id: job.to_owned(),
        vm_id: id.to_owned(),
        source: None,
        credentials: Some(lab.credentials()),
    }
}

#[tokio::test]
async fn trap_u11_so_many_snapshots_of_a_host_are_removed_at_once_and_none_is_taken_meanwhile() {
    let Some((lab, [one, two, three])) = one_at_a_time().await.unwrap() else { return };
    let first = open(&lab, &one, "first").await.unwrap();
    let second = open(&lab, &two, "second").await.unwrap();
    hold(&lab).unwrap();
    let closing = async { tokio::join!(first.close(), second.close()) };
    let meanwhile = async {
        let either = || waits(&lab, "first") || waits(&lab, "second");
        until("one waits for the other", either).await.unwrap();
        let mut opening = Box::pin(open(&lab, &three, "third"));
        tokio::select! {
            biased;
            _ = opening.as_mut() => panic!("it was to wait"),
            said = until("a job says that it waits, too", || waits(&lab, "third")) => said.unwrap(),
        }
        lab.open("elsewhere").await.unwrap().close().await.unwrap();
        let calls = lab.peer.calls().unwrap();
        assert_eq!(calls.get("CreateSnapshot_Task"), Some(&3), "not for the one that waits");
        assert_eq!(asked(&lab), 2, "one of each host");
        lab.peer.go_on().unwrap();
        opening.await.unwrap().close().await.unwrap();
    };
    let ((one, two), ()) = tokio::join!(closing, meanwhile);
    one.unwrap();
    two.unwrap();
    lab.nothing_is_left().await.unwrap();
}

#[tokio::test]
async fn trap_u11_a_clean_up_keeps_its_place_when_its_hub_gives_up_and_is_asked_for_once() {
    let Some((lab, [one, two, _])) = one_at_a_time().await.unwrap() else { return };
    lab.peer.snapshot("DC0_H0_VM0", "sendense-hub job lost").unwrap();
    hold(&lab).unwrap();
    let wanted = cleanup(&lab, &one, "lost");
    let under_way = || asked(&lab) > 0;
    let waited_for = || lab.source.waits_for("lost").is_some();
    let steps: [&dyn Fn() -> bool; 2] = [&under_way, &waited_for];
    for step in steps {
        let mut cleaning = Box::pin(lab.source.clean_up(&wanted));
        tokio::select! {
            biased;
            _ = cleaning.as_mut() => panic!("the removal was to be held"),
            said = until("it is under way, then waited for", step) => said.unwrap(),
        }
    }
    let mut opening = Box::pin(open(&lab, &two, "next"));
    tokio::select! {
        biased;
        _ = opening.as_mut() => panic!("it was to wait"),
        said = until("the job says that it waits", || waits(&lab, "next")) => said.unwrap(),
    }
    assert_eq!(asked(&lab), 1);
    lab.peer.go_on().unwrap();
    opening.await.unwrap().close().await.unwrap();
    let again = lab.source.clean_up(&wanted).await.unwrap();
    assert_eq!(again.outcome, CleanupOutcome::None);
    assert_eq!(asked(&lab), 2, "of each snapshot one");
    lab.nothing_is_left().await.unwrap();
}

#[tokio::test]
async fn a_removal_that_hangs_keeps_no_leftover_of_another_host() {
    let Some((mut lab, [one, ..])) = one_at_a_time().await.unwrap() else { return };
    std::mem::forget(open(&lab, &one, "hung").await.unwrap());
    std::mem::forget(lab.open("crashed").await.unwrap());
    lab.restart().unwrap();
    hold(&lab).unwrap();
    let mut opening = Box::pin(open(&lab, &one, "next"));
    tokio::select! {
        biased;
        _ = opening.as_mut() => panic!("the removal was to be held"),
        said = until("a removal is asked for", || asked(&lab) > 0) => said.unwrap(),
    }
    let elsewhere = tokio::time::timeout(Duration::from_secs(60), lab.open("elsewhere")).await;
    let elsewhere = elsewhere.expect("it waits for the other host").unwrap();
    let left: Vec<_> = lab.peer.snapshots().unwrap().into_iter().map(|it| it.name).collect();
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(!left.contains(&"sendense-hub job crashed".to_owned()), "{left:?}");
    lab.peer.go_on().unwrap();
    elsewhere.close().await.unwrap();
    opening.await.unwrap().close().await.unwrap();
    lab.nothing_is_left().await.unwrap();
}

#[tokio::test]
async fn p9_a_removal_that_nobody_waits_for_any_more_keeps_its_place_in_line() {
    let Some((lab, [one, two, _])) = one_at_a_time().await.unwrap() else { return };
    let first = open(&lab, &one, "first").await.unwrap();
    let second = open(&lab, &two, "second").await.unwrap();
    hold(&lab).unwrap();
    let meanwhile = async {
        until("a removal is asked for", || asked(&lab) > 0).await.unwrap();
        let mut closing = Box::pin(second.close());
        tokio::select! {
            biased;
            _ = closing.as_mut() => panic!("it was to wait"),
            said = until("it waits", || waits(&lab, "second")) => said.unwrap(),
        }
        drop(closing);
        until("it waits all the same", || waits(&lab, "second")).await.unwrap();
        assert_eq!(asked(&lab), 1);
        lab.peer.go_on().unwrap();
    };
    let (closed, ()) = tokio::join!(first.close(), meanwhile);
    closed.unwrap();
    lab.nothing_is_left().await.unwrap();
    assert_eq!(asked(&lab), 2);
}

#[tokio::test]
async fn a_snapshot_that_somebody_removed_while_ours_waited_is_not_asked_for() {
    let Some((lab, [one, two, _])) = one_at_a_time().await.unwrap() else { return };
    let first = open(&lab, &one, "first").await.unwrap();
    let second = open(&lab, &two, "second").await.unwrap();
    hold(&lab).unwrap();
    let meanwhile = async {
        until("a removal is asked for", || asked(&lab) > 0).await.unwrap();
        let gone = async {
            until("it waits", || waits(&lab, "second")).await.unwrap();
            lab.peer.remove_snapshots("DC0_H0_VM1").unwrap();
            lab.peer.go_on().unwrap();
        };
        let (closed, ()) = tokio::join!(second.close(), gone);
        closed.unwrap();
    };
    let (closed, ()) = tokio::join!(first.close(), meanwhile);
    closed.unwrap();
    assert_eq!(asked(&lab), 1);
    lab.nothing_is_left().await.unwrap();
}
