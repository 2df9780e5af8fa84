//! One job at a time of a VM: a snapshot of ours is never taken for somebody else's.

use std::time::Duration;

use hub_vsphere_peer::{PeerOptions, Trouble};

use super::lab::{GRAIN, Lab};
use super::vddk;
use crate::doubles::until;
use crate::source::{Changed, OpenRequest, Source as _};

/// Lets an opening begin, and answers once its job says what it waits for.
macro_rules! waits {
    ($lab:expr, $opening:expr, $job:expr) => {
        tokio::select! {
            biased;
            _ = $opening.as_mut() => panic!("it was to wait"),
            said = until("the job says what it waits for", || $lab.source.waits_for($job).is_some()) => {
                said.unwrap();
                $lab.source.waits_for($job).unwrap()
            }
        }
    };
}

fn slow_removal() -> Trouble {
    Trouble::once("RemoveSnapshot_Task", "delay", "400")
}

#[tokio::test]
async fn a_job_waits_until_the_snapshot_of_another_job_of_its_vm_is_gone() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    let first = lab.open("one").await.unwrap();
    let mark = first.disks()[0].change_id.clone().unwrap();
    lab.write(0, 3 * GRAIN, b"changed").unwrap();
    let asked = lab.request("two");
    lab.source.check(&asked).await.unwrap();
    let mut opening = Box::pin(lab.source.open(&asked));
    let told = waits!(lab, opening, "two");
    assert!(told.contains("another job"), "{told}");
    assert_eq!(lab.source.waits_for("one"), None);
    assert_eq!(lab.peer.calls().unwrap().get("CreateSnapshot_Task"), Some(&1));
    lab.peer.trouble(&slow_removal()).unwrap();
    let (closed, second) = tokio::join!(first.close(), opening);
    closed.unwrap();
    let second = second.unwrap();
    assert_eq!(lab.source.waits_for("two"), None);
    let names: Vec<_> = lab.peer.snapshots().unwrap().into_iter().map(|it| it.name).collect();
    assert_eq!(names, ["sendense-hub job two"]);
    // Nothing was beneath it, so that what has changed is believed.
    let block = 3 * GRAIN..4 * GRAIN;
    let areas = Changed::Areas(vec![block]);
    assert_eq!(second.changed_since(0, &mark).await, areas);
    assert!(second.disks()[0].change_id.is_some());
    second.close().await.unwrap();
    lab.nothing_is_left().await.unwrap();
}

#[tokio::test]
async fn a_snapshot_that_was_let_go_is_waited_for_too() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    lab.peer.trouble(&slow_removal()).unwrap();
    drop(lab.open("one").await.unwrap());
    let second = lab.open("two").await.unwrap();
    let names: Vec<_> = lab.peer.snapshots().unwrap().into_iter().map(|it| it.name).collect();
    assert_eq!(names, ["sendense-hub job two"]);
    second.close().await.unwrap();
    lab.nothing_is_left().await.unwrap();
}

#[tokio::test]
async fn p9_a_job_that_gives_up_waiting_leaves_nothing_and_keeps_nobody() {
    let options = PeerOptions { vms: 2, ..PeerOptions::default() };
    let Some(lab) = Lab::start_with(options).await.unwrap() else { return };
    let first = lab.open("one").await.unwrap();
    let asked = lab.request("two");
    let mut opening = Box::pin(lab.source.open(&asked));
    waits!(lab, opening, "two");
    drop(opening);
    assert_eq!(lab.source.waits_for("two"), None);
    let other = lab.another("DC0_H0_VM1", 12).unwrap();
    let elsewhere = lab.source.open(&lab.request_of(&other.id, "elsewhere")).await.unwrap();
    elsewhere.close().await.unwrap();
    first.close().await.unwrap();
    lab.open("three").await.unwrap().close().await.unwrap();
    lab.nothing_is_left().await.unwrap();
    assert_eq!(lab.peer.calls().unwrap().get("CreateSnapshot_Task"), Some(&3));
}

#[tokio::test]
async fn a_leftover_that_cannot_be_removed_is_ours_and_nobody_is_told_to_remove_it() {
    let Some(mut lab) = Lab::start().await.unwrap() else { return };
    let crashed = lab.open("one").await.unwrap();
    std::mem::forget(crashed);
    lab.restart().unwrap();
    // Another VMA's, or of a state directory that was lost.
    lab.peer.snapshot(&lab.vm, "sendense-hub job elsewhere").unwrap();
    let refused = Trouble::once("RemoveSnapshot_Task", "task_fault", "HostCommunication");
    lab.peer.trouble(&Trouble { times: 0, ..refused }).unwrap();
    for job in ["two", "three"] {
        lab.source.check(&lab.request(job)).await.unwrap();
        let error = lab.source.open(&lab.request(job)).await.err().unwrap();
        assert_eq!(error.code(), "source/leftover-snapshot");
        assert!(error.to_string().contains("sendense-hub job "), "{error}");
        lab.peer.calm().unwrap();
    }
    let names: Vec<_> = lab.peer.snapshots().unwrap().into_iter().map(|it| it.name).collect();
    assert_eq!(names, ["sendense-hub job elsewhere"], "only what is written down is removed");
}

/// Trap U3: nobody can tell what was switched on beside a snapshot, whoever took it.
#[tokio::test]
async fn trap_u3_a_leftover_that_stands_is_read_through_and_changed_areas_are_not_believed_beside_it()
 {
    let Some((mut lab, library, _)) = vddk::start().await.unwrap() else { return };
    let first = lab.open("one").await.unwrap();
    let mark = first.disks()[0].change_id.clone().unwrap();
    first.close().await.unwrap();
    std::mem::forget(lab.open("crashed").await.unwrap());
    lab.read_through(vddk::options(&library)).unwrap();
    let refused = Trouble::once("RemoveSnapshot_Task", "task_fault", "HostCommunication");
    lab.peer.trouble(&Trouble { times: 0, ..refused }).unwrap();
    let opened = lab.open("two").await.unwrap();
    assert_eq!(lab.peer.snapshots().unwrap().len(), 2);
    assert_eq!(opened.disks()[0].change_id, None);
    let answer = opened.changed_since(0, &mark).await;
    assert!(matches!(&answer, Changed::Unknown(why) if why.contains("another job")), "{answer:?}");
    lab.peer.calm().unwrap();
    opened.close().await.unwrap();
    // Once it is gone, what was tracked before it and since is believed again.
    let later = lab.open("three").await.unwrap();
    assert!(later.disks()[0].change_id.is_some());
    assert_eq!(later.changed_since(0, &mark).await, Changed::Areas(Vec::new()));
    later.close().await.unwrap();
    lab.nothing_is_left().await.unwrap();
}

/// What takes its time at a server is said, since nobody sees anything move meanwhile.
#[tokio::test]
async fn a_snapshot_that_takes_its_time_is_said_to() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    lab.peer.trouble(&Trouble::once("CreateSnapshot_Task", "hold", "")).unwrap();
    let asked: OpenRequest = lab.request("job");
    let mut opening = Box::pin(lab.source.open(&asked));
    let calls = || lab.peer.calls().unwrap().contains_key("CreateSnapshot_Task");
    let told = tokio::select! {
        biased;
        _ = opening.as_mut() => panic!("the peer was to be slow"),
        asked = until("a snapshot is asked for", calls) => {
            asked.unwrap();
            lab.source.waits_for("job").unwrap()
        }
    };
    assert!(told.contains("snapshot of the VM"), "{told}");
    lab.peer.calm().unwrap();
    let opened = tokio::time::timeout(Duration::from_secs(60), opening).await.unwrap().unwrap();
    assert_eq!(lab.source.waits_for("job"), None);
    opened.close().await.unwrap();
    lab.nothing_is_left().await.unwrap();
}
