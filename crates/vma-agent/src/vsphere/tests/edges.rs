//! What becomes of change tracking where the moment decides: somebody else acts, a look fails, a disk is silent.

use std::fs;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use hub_vma_api::Lie;
use hub_vsphere_peer::{DiskShape, Trouble, VmShape};

use super::doubts::{beside_another, meanwhile};
use super::lab::{CAPACITY, Lab, disk, named};
use super::vddk;
use crate::source::{Caught, Source as _};

impl Lab {
    /// Why each disk of the VM is doubted that is, in the record of the only VM.
    fn doubts(&self) -> Result<Vec<String>> {
        let mut all = fs::read_dir(self.state.path().join("change-tracking"))?;
        let path = all.next().context("no record")??.path();
        let record: serde_json::Value = serde_json::from_slice(&fs::read(path)?)?;
        let disks = record["disks"].as_object().context("no disks")?;
        let doubts = disks.values().filter_map(|it| it["doubt"].as_str());
        Ok(doubts.map(str::to_owned).collect())
    }

    /// Doubts what the first disk says of its changes.
    async fn caught(&self, job_id: &str) -> Result<()> {
        let opened = self.open(job_id).await?;
        let digest = "ab".repeat(32);
        let lie = Lie { offset: 0, blocks: 1, expected: digest.clone(), found: digest };
        let (why, change_id) = ("it was caught".to_owned(), "mark".to_owned());
        opened.distrust(0, &Caught { why, change_id, lie }).await;
        opened.close().await?;
        Ok(())
    }
}

/// The last call of planning.
fn planning() -> Trouble {
    let held = Trouble::once("RetrievePropertiesEx", "hold", "");
    Trouble { containing: "<type>Datacenter</type>".to_owned(), ..held }
}

/// The look at a VM that comes immediately before and after a switch, after so many others.
fn looking(skip: u32, kind: &str, value: &str) -> Trouble {
    let containing = "<pathSet>snapshot</pathSet><pathSet>config.changeTrackingEnabled</pathSet>";
    let looked = Trouble::once("RetrievePropertiesEx", kind, value);
    Trouble { containing: containing.to_owned(), skip, ..looked }
}

#[tokio::test]
async fn tracking_that_somebody_switches_meanwhile_is_left_as_it_is() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    let lab = Arc::new(lab);
    let planned = planning();
    let on = meanwhile(&lab, lab.request("one"), &planned, |it| it.tracked(true));
    let opened = on.await.unwrap();
    assert_eq!(lab.reconfigured(), 0, "it is not ours to switch off again");
    assert!(opened.disks()[0].change_id.is_some());
    opened.close().await.unwrap();
    lab.caught("two").await.unwrap();
    let off = meanwhile(&lab, lab.request("three"), &planned, |it| it.tracked(false));
    off.await.unwrap().close().await.unwrap();
    assert_eq!(lab.reconfigured(), 0, "it is off already");
    lab.nothing_is_left().await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_looked_at_is_not_switched() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    lab.peer.trouble(&looking(0, "fault", "NoPermission")).unwrap();
    let first = lab.first_disk("one").await.unwrap();
    assert_eq!((first.change_id, lab.reconfigured()), (None, 0));
    let told = first.no_mark.unwrap();
    assert!(told.contains("could not be switched on") && told.contains("privilege"), "{told}");
    // Somebody else has switched it on by the time of the snapshot, so there is nothing to tell.
    lab.peer.trouble(&looking(0, "fault", "NoPermission")).unwrap();
    let lab = Arc::new(lab);
    let planned = planning();
    let on = meanwhile(&lab, lab.request("two"), &planned, |it| it.tracked(true));
    let opened = on.await.unwrap();
    let second = opened.disks()[0].clone();
    assert_eq!((second.change_id.is_some(), second.no_mark), (true, None));
    opened.close().await.unwrap();
    lab.caught("three").await.unwrap();
    lab.peer.trouble(&looking(0, "fault", "NoPermission")).unwrap();
    let doubted = lab.first_disk("four").await.unwrap();
    assert_eq!((doubted.change_id, lab.reconfigured()), (None, 0), "off is not ours to risk");
    assert!(lab.first_disk("five").await.unwrap().no_mark.unwrap().contains("switched off"));
    lab.nothing_is_left().await.unwrap();
}

/// Trap U3: whether a snapshot came while it was switched on is to be known, and not to be hoped.
#[tokio::test]
async fn trap_u3_tracking_is_switched_off_again_where_nobody_can_see_whether_a_snapshot_came() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    lab.peer.trouble(&looking(1, "fault", "NoPermission")).unwrap();
    let first = lab.first_disk("one").await.unwrap();
    assert_eq!((first.change_id, lab.reconfigured()), (None, 2), "on, and off again");
    let told = first.no_mark.unwrap();
    assert!(told.contains("cannot be read") && told.contains("switched off again"), "{told}");
    let second = lab.first_disk("two").await.unwrap();
    assert_eq!((second.change_id.is_some(), lab.reconfigured()), (true, 3));
    lab.nothing_is_left().await.unwrap();
}

#[tokio::test]
async fn what_could_not_be_switched_on_is_not_switched_off() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    let lab = Arc::new(lab);
    lab.peer.trouble(&Trouble::once("ReconfigVM_Task", "fault", "NoPermission")).unwrap();
    let opened = beside_another(&lab, &looking(1, "hold", "")).await.unwrap();
    assert_eq!(lab.reconfigured(), 1);
    assert_eq!(opened.disks()[0].change_id, None);
    opened.close().await.unwrap();
}

#[tokio::test]
async fn tracking_of_which_nobody_says_that_it_is_supported_is_not_switched_on() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    let name = lab.peer.vms().unwrap().into_keys().find(|it| *it != lab.vm).unwrap();
    let other = lab.another(&name, 8).unwrap();
    let request = lab.request_of(&other.id, "job");
    lab.source.open(&request).await.unwrap().close().await.unwrap();
    assert_eq!(lab.reconfigured(), 0);
}

/// Beside deltas, what is switched off takes no effect that anybody could rely on.
#[tokio::test]
async fn doubted_tracking_is_left_alone_while_deltas_wait_to_be_merged() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    lab.tracked(true).unwrap();
    lab.caught("one").await.unwrap();
    lab.consolidates(true).unwrap();
    assert_eq!(lab.first_disk("two").await.unwrap().change_id, None);
    assert_eq!(lab.reconfigured(), 0);
    lab.consolidates(false).unwrap();
    assert_eq!(lab.first_disk("three").await.unwrap().change_id, None);
    assert_eq!(lab.reconfigured(), 1);
    lab.nothing_is_left().await.unwrap();
}

/// Trap U3: a snapshot that is gone when ours is there was there all the same.
#[tokio::test]
async fn trap_u3_a_snapshot_that_goes_after_planning_is_a_doubt_too() {
    let Some((lab, _library, _)) = vddk::start().await.unwrap() else { return };
    lab.tracked(true).unwrap();
    lab.peer.snapshot(&lab.vm, "somebody else's").unwrap();
    let lab = Arc::new(lab);
    let held = Trouble::once("CreateSnapshot_Task", "hold", "");
    let gone = meanwhile(&lab, lab.request("one"), &held, |it| it.peer.remove_snapshots(&it.vm));
    let opened = gone.await.unwrap();
    let first = opened.disks()[0].clone();
    assert_eq!(first.change_id, None);
    assert!(first.no_mark.unwrap().contains("somebody else"));
    opened.close().await.unwrap();
    assert_eq!(lab.doubts().unwrap().len(), 2);
}

/// A disk that tells nothing beside a snapshot may begin there, and is not in the way before it is heard.
#[tokio::test]
async fn trap_u3_a_disk_that_was_silent_beside_a_snapshot_is_doubted_when_it_is_heard() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    let shaped = |lab: &Lab, change_id: &str| {
        let second = DiskShape { change_id: change_id.to_owned(), ..disk(2001, 1) };
        let disks = Some(vec![disk(2000, 0), second]);
        lab.peer.shape(&VmShape { disks, ..named(&lab.vm) }).map(drop)
    };
    let first_alone = |lab: &Lab, job: &str| {
        let mut request = lab.request(job);
        request.disks.truncate(1);
        request
    };
    lab.tracked(true).unwrap();
    lab.peer.shape(&VmShape { disks: Some(vec![disk(2000, 0)]), ..named(&lab.vm) }).unwrap();
    lab.source.open(&first_alone(&lab, "one")).await.unwrap().close().await.unwrap();
    shaped(&lab, "silent").unwrap();
    let lab = Arc::new(lab);
    let held = Trouble::once("CreateSnapshot_Task", "hold", "");
    let another = |it: &Lab| it.peer.snapshot(&it.vm, "somebody else's");
    let opened = meanwhile(&lab, first_alone(&lab, "two"), &held, another).await.unwrap();
    opened.close().await.unwrap();
    lab.peer.remove_snapshots(&lab.vm).unwrap();
    shaped(&lab, "").unwrap();
    let opened = lab.open("three").await.unwrap();
    assert_eq!(lab.reconfigured(), 0, "nobody has said anything yet");
    assert!(opened.disks()[0].change_id.is_some(), "{:?}", opened.disks()[0]);
    let second = opened.disks()[1].clone();
    assert_eq!(second.change_id, None);
    assert!(second.no_mark.unwrap().contains("somebody else"));
    opened.close().await.unwrap();
    lab.nothing_is_left().await.unwrap();
}

/// What was switched on a moment ago beside a snapshot, and stays on, is of a disk that is silent yet, too.
#[tokio::test]
async fn trap_u3_tracking_that_stays_on_beside_a_snapshot_is_doubted_of_silent_disks_too() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    let silent = DiskShape { change_id: "silent".to_owned(), ..disk(2002, 2) };
    let disks = Some(vec![disk(2000, 0), disk(2001, 1), silent]);
    lab.peer.shape(&VmShape { disks, ..named(&lab.vm) }).unwrap();
    let lab = Arc::new(lab);
    let off = Trouble::once("ReconfigVM_Task", "fault", "InvalidState");
    lab.peer.trouble(&Trouble { containing: "Enabled>false".to_owned(), ..off }).unwrap();
    let mut on = Trouble::once("ReconfigVM_Task", "hold", "");
    on.containing = "Enabled>true".to_owned();
    beside_another(&lab, &on).await.unwrap().close().await.unwrap();
    assert_eq!(lab.doubts().unwrap().len(), 3);
}

/// What keeps a run from believing one disk is no reason to doubt another that it has not seen before.
#[tokio::test]
async fn tracking_that_cannot_be_started_anew_is_no_doubt_about_a_disk_that_is_new() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    lab.tracked(true).unwrap();
    let (mark, _) = lab.run("one", None).await.unwrap();
    lab.caught("two").await.unwrap();
    let change_id = mark.unwrap().rsplit('|').next().unwrap().to_owned();
    let told = DiskShape { change_id, ..disk(2000, 0) };
    let disks = Some(vec![told, disk(2001, 1), disk(2002, 2)]);
    lab.peer.shape(&VmShape { disks, ..named(&lab.vm) }).unwrap();
    lab.peer.trouble(&Trouble::once("ReconfigVM_Task", "fault", "InvalidState")).unwrap();
    let told = lab.first_disk("three").await.unwrap().no_mark.unwrap();
    assert!(told.contains("could not be switched off"), "{told}");
    assert_eq!(lab.doubts().unwrap(), ["it was caught"]);
}

/// A VMA that has lost its record goes by what the hub says of the parent.
#[tokio::test]
async fn a_disk_that_has_grown_since_its_parent_is_doubted_by_a_vma_that_has_not_seen_it() {
    let Some(mut lab) = Lab::start().await.unwrap() else { return };
    let (mark, _) = lab.run("one", None).await.unwrap();
    let change_id = mark.unwrap().rsplit('|').next().unwrap().to_owned();
    let grown = DiskShape { capacity: 2 * CAPACITY, change_id, ..disk(2000, 0) };
    let disks = Some(vec![grown, disk(2001, 1)]);
    lab.peer.shape(&VmShape { disks, ..named(&lab.vm) }).unwrap();
    fs::remove_dir_all(lab.state.path().join("change-tracking")).unwrap();
    lab.restart().unwrap();
    let mut request = lab.request("two");
    (request.disks[0].capacity_bytes, request.disks[0].grown) = (2 * CAPACITY, true);
    let opened = lab.source.open(&request).await.unwrap();
    let told = opened.disks()[0].no_mark.clone().unwrap();
    assert!(told.contains("2090639"), "{told}");
    opened.close().await.unwrap();
    assert_eq!(lab.reconfigured(), 2, "on, and off to be started anew");
}

/// A run ends where it cannot write down what it has seen; one that has seen nothing new has nothing to write.
#[tokio::test]
async fn a_run_that_cannot_remember_what_it_has_seen_fails_and_leaves_nothing() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    lab.run("one", None).await.unwrap();
    fs::remove_dir_all(lab.state.path().join("change-tracking")).unwrap();
    lab.run("two", None).await.unwrap();
    lab.peer.restart_tracking("52 99 99 99").unwrap();
    let error = lab.source.open(&lab.request("three")).await.err().unwrap();
    assert_eq!(error.code(), "source/state-unwritable", "{error}");
    lab.nothing_is_left().await.unwrap();
}
