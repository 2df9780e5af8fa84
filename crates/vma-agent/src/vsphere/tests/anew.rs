//! Tracking that was doubted is started anew before it is believed again, over restarts and when its occasion is gone.

use std::sync::Arc;

use anyhow::Result;
use hub_vsphere_peer::{DiskShape, Trouble, VmShape};

use super::doubts::{beside_another, why};
use super::lab::{CAPACITY, Lab, disk, named, options};
use crate::source::{Changed, OpenDisk, Source as _};
use crate::vsphere::{VsphereOptions, VsphereSource};

impl Lab {
    /// Tracking that somebody has switched on or off.
    pub(super) fn tracked(&self, on: bool) -> Result<()> {
        let shape = VmShape { tracking: Some(on), ..named(&self.vm) };
        self.peer.shape(&shape).map(drop)
    }

    /// A run beside a snapshot of somebody else, which is removed after it.
    async fn beside(self) -> Result<Self> {
        let lab = Arc::new(self);
        let held = Trouble::once("CreateSnapshot_Task", "hold", "");
        let opened = beside_another(&lab, &held).await?;
        anyhow::ensure!(opened.disks().iter().all(|it| it.change_id.is_none()));
        opened.close().await?;
        lab.peer.remove_snapshots(&lab.vm)?;
        Arc::into_inner(lab).ok_or_else(|| anyhow::anyhow!("somebody still opens"))
    }

    pub(super) async fn first_disk(&self, job_id: &str) -> Result<OpenDisk> {
        let opened = self.open(job_id).await?;
        let disk = opened.disks().first().cloned();
        opened.close().await?;
        disk.ok_or_else(|| anyhow::anyhow!("no disk"))
    }
}

#[tokio::test]
async fn trap_u3_tracking_that_was_found_on_beside_a_snapshot_is_started_anew_when_that_is_gone() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    lab.tracked(true).unwrap();
    let mut lab = lab.beside().await.unwrap();
    // The doubt is durable, and about nothing but this tracking.
    lab.restart().unwrap();
    let second = lab.first_disk("two").await.unwrap();
    assert_eq!((second.change_id, lab.reconfigured()), (None, 1));
    let told = second.no_mark.unwrap();
    assert!(told.contains("somebody else") && told.contains("switched off"), "{told}");
    let (mark, _) = lab.run("three", None).await.unwrap();
    assert_eq!(lab.reconfigured(), 2, "on again");
    let (_, changed) = lab.run("four", mark.as_deref()).await.unwrap();
    assert_eq!(changed, Changed::Areas(Vec::new()));
    assert_eq!(lab.reconfigured(), 2);
    lab.nothing_is_left().await.unwrap();
}

#[tokio::test]
async fn a_snapshot_of_others_says_nothing_against_tracking_that_was_on_before_it() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    lab.run("one", None).await.unwrap();
    let lab = lab.beside().await.unwrap();
    let (mark, _) = lab.run("two", None).await.unwrap();
    assert_eq!((mark.is_some(), lab.reconfigured()), (true, 1));
}

#[tokio::test]
async fn doubted_tracking_is_left_alone_where_that_is_asked_or_somebody_has_a_snapshot() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    lab.tracked(true).unwrap();
    let mut lab = lab.beside().await.unwrap();
    let mut lab = {
        // Again beside one: who has taken it may be about to ask for changed areas.
        let mut held = Trouble::once("RetrievePropertiesEx", "hold", "");
        held.containing = "<type>Datacenter</type>".to_owned();
        lab.restart().unwrap();
        let lab = Arc::new(lab);
        beside_another(&lab, &held).await.unwrap().close().await.unwrap();
        assert_eq!(lab.reconfigured(), 0, "the list was read again");
        lab.peer.remove_snapshots(&lab.vm).unwrap();
        Arc::into_inner(lab).unwrap()
    };
    let asked = options(&lab.peer, &lab.state).unwrap();
    let asked = VsphereOptions { enable_change_tracking: false, ..asked };
    lab.source = VsphereSource::new(asked).unwrap();
    let (none, changed) = lab.run("three", Some("whatever")).await.unwrap();
    assert_eq!((none, lab.reconfigured()), (None, 0));
    assert!(why(&changed).contains("docs/vsphere.md"), "{changed:?}");
    // By hand, then.
    lab.peer.restart_tracking("52 99 99 99").unwrap();
    let (mark, _) = lab.run("four", None).await.unwrap();
    let (_, changed) = lab.run("five", mark.as_deref()).await.unwrap();
    assert_eq!(changed, Changed::Areas(Vec::new()));
}

#[tokio::test]
async fn tracking_that_cannot_be_switched_off_stays_doubted() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    lab.tracked(true).unwrap();
    let lab = lab.beside().await.unwrap();
    for job in ["two", "three"] {
        lab.peer.trouble(&Trouble::once("ReconfigVM_Task", "fault", "NoPermission")).unwrap();
        let disk = lab.first_disk(job).await.unwrap();
        assert_eq!(disk.change_id, None);
        let told = disk.no_mark.unwrap();
        assert!(told.contains("could not be switched off"), "{told}");
    }
    assert!(lab.first_disk("four").await.unwrap().no_mark.unwrap().contains("was switched off"));
}

/// VMware KB 2090639 and KB 95965: from the moment when a disk has grown.
#[tokio::test]
async fn a_disk_that_has_grown_is_not_believed_until_its_tracking_is_another() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    let (mark, _) = lab.run("one", None).await.unwrap();
    let change_id = mark.unwrap().rsplit('|').next().unwrap().to_owned();
    let grown = DiskShape { capacity: 2 * CAPACITY, change_id, ..disk(2000, 0) };
    let disks = Some(vec![grown, disk(2001, 1)]);
    lab.peer.shape(&VmShape { disks, ..named(&lab.vm) }).unwrap();
    let opened = async |job: &str| -> Result<OpenDisk> {
        let mut request = lab.request(job);
        // As in a full: nothing is said of a parent.
        request.disks.truncate(1);
        request.disks[0].capacity_bytes = 2 * CAPACITY;
        let opened = lab.source.open(&request).await?;
        let disk = opened.disks()[0].clone();
        opened.close().await?;
        Ok(disk)
    };
    let second = opened("two").await.unwrap();
    assert_eq!((second.change_id, lab.reconfigured()), (None, 2), "on, and off now");
    let told = second.no_mark.unwrap();
    assert!(told.contains("2090639") && told.contains("switched off"), "{told}");
    let third = opened("three").await.unwrap();
    assert_eq!((third.change_id.is_some(), lab.reconfigured()), (true, 3));
    assert!(opened("four").await.unwrap().change_id.is_some());
    lab.nothing_is_left().await.unwrap();
}
