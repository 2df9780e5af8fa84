//! Changed areas are believed on the ground that they were taken on, and on no other.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use hub_vsphere_peer::{DiskShape, Trouble, VmShape};
use tokio::task::JoinSet;

use super::lab::{GRAIN, Lab, disk, named};
use super::vddk;
use crate::doubles::until;
use crate::source::{Changed, OpenRequest, Snapshot, Source as _};

impl Lab {
    /// Takes a snapshot for a job and removes it again: the mark of the first disk, and what is said since an earlier one.
    pub(super) async fn run(
        &self,
        job_id: &str,
        since: Option<&str>,
    ) -> Result<(Option<String>, Changed)> {
        let opened = self.open(job_id).await?;
        let mark = opened.disks().first().context("no disk")?.change_id.clone();
        let changed = match since {
            Some(since) => opened.changed_since(0, since).await,
            None => Changed::Unknown("nobody asked".to_owned()),
        };
        opened.close().await?;
        Ok((mark, changed))
    }

    /// Whether deltas of removed snapshots wait to be merged.
    pub(super) fn consolidates(&self, due: bool) -> Result<()> {
        let shape = VmShape { consolidation: Some(due), ..named(&self.vm) };
        self.peer.shape(&shape).map(drop)
    }

    /// How often tracking was switched on or off.
    pub(super) fn reconfigured(&self) -> u64 {
        self.peer.calls().unwrap_or_default().get("ReconfigVM_Task").copied().unwrap_or_default()
    }
}

pub(super) fn why(changed: &Changed) -> &str {
    if let Changed::Unknown(why) = changed { why } else { "it is believed" }
}

/// Trap U1: a build of ESXi that loses changes is patched, and its change ids go on as if nothing had been.
#[tokio::test]
async fn trap_u1_changes_across_two_builds_of_the_host_are_not_believed() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    lab.peer.host_build(&lab.vm, "17630552").unwrap();
    let (mark, _) = lab.run("one", None).await.unwrap();
    let mark = mark.unwrap();
    assert!(mark.contains("|17630552|"), "{mark}");
    let (_, changed) = lab.run("two", Some(&mark)).await.unwrap();
    assert_eq!(changed, Changed::Areas(Vec::new()));

    lab.peer.host_build(&lab.vm, "17700523").unwrap();
    lab.write(0, GRAIN, b"lost by the patch").unwrap();
    let (patched, changed) = lab.run("three", Some(&mark)).await.unwrap();
    let told = why(&changed);
    assert!(told.contains("build 17700523 and had 17630552"), "{told}");
    let (_, changed) = lab.run("four", patched.as_deref()).await.unwrap();
    assert_eq!(changed, Changed::Areas(Vec::new()), "doubt is for once");
    lab.nothing_is_left().await.unwrap();
}

#[tokio::test]
async fn a_move_to_another_host_of_the_same_build_is_no_doubt() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    let (mark, _) = lab.run("one", None).await.unwrap();
    lab.peer.move_vm(&lab.vm, "elsewhere").unwrap();
    let (_, changed) = lab.run("two", mark.as_deref()).await.unwrap();
    assert_eq!(changed, Changed::Areas(Vec::new()));
    // The new host is the one that is asked.
    lab.peer.host_build(&lab.vm, "1").unwrap();
    let (_, changed) = lab.run("three", mark.as_deref()).await.unwrap();
    assert!(why(&changed).contains("has build 1 "), "{changed:?}");
}

#[tokio::test]
async fn a_mark_of_an_earlier_version_is_a_doubt_for_once() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    let (mark, _) = lab.run("one", None).await.unwrap();
    let mark = mark.unwrap();
    let parts: Vec<_> = mark.split('|').collect();
    let before = format!("vsphere-v2|{}|{}|{}", parts[1], parts[2], parts[3]);
    let (next, changed) = lab.run("two", Some(&before)).await.unwrap();
    assert!(why(&changed).contains("earlier version"), "{changed:?}");
    let (_, changed) = lab.run("three", next.as_deref()).await.unwrap();
    assert_eq!(changed, Changed::Areas(Vec::new()));
}

#[tokio::test]
async fn a_host_that_does_not_tell_its_build_is_a_doubt_and_fails_no_job() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    let (mark, _) = lab.run("one", None).await.unwrap();
    for build in ["", "1|2", &"1".repeat(65)] {
        lab.peer.host_build(&lab.vm, build).unwrap();
        let (none, changed) = lab.run("two", mark.as_deref()).await.unwrap();
        assert_eq!(none, None);
        assert!(why(&changed).contains("tell"), "{changed:?}");
    }
    let mut refused = Trouble::once("RetrievePropertiesEx", "fault", "NoPermission");
    refused.containing = "config.product.build".to_owned();
    lab.peer.trouble(&refused).unwrap();
    let (none, changed) = lab.run("three", mark.as_deref()).await.unwrap();
    assert_eq!(none, None);
    assert!(why(&changed).contains("privilege"), "{changed:?}");
    lab.nothing_is_left().await.unwrap();
}

/// Trap U1: before there was a patch, no two builds differ, and the changes are lost all the same.
#[tokio::test]
async fn trap_u1_a_host_that_is_known_to_lose_changes_is_not_believed_until_it_is_patched() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    lab.peer.host_version(&lab.vm, "6.0.0").unwrap();
    lab.peer.host_build(&lab.vm, "2494585").unwrap();
    let opened = lab.open("one").await.unwrap();
    let first = opened.disks()[0].clone();
    opened.close().await.unwrap();
    assert_eq!(first.change_id, None);
    let told = first.no_mark.unwrap();
    assert!(told.contains("2136854") && told.contains("ESXi600-201511001"), "{told}");
    lab.peer.host_build(&lab.vm, "3247720").unwrap();
    let (mark, _) = lab.run("two", None).await.unwrap();
    let (_, changed) = lab.run("three", mark.as_deref()).await.unwrap();
    assert_eq!(changed, Changed::Areas(Vec::new()));
    // A host that was believed, and is replaced by one that is not.
    lab.peer.host_version(&lab.vm, "5.5.0").unwrap();
    let (none, changed) = lab.run("four", mark.as_deref()).await.unwrap();
    assert_eq!(none, None);
    assert!(why(&changed).contains("2090639"), "{changed:?}");
    lab.nothing_is_left().await.unwrap();
}

/// Opens a job that is held at one call, lets somebody else take a snapshot meanwhile, and lets it go on.
pub(super) async fn beside_another(lab: &Arc<Lab>, held: &Trouble) -> Result<Box<dyn Snapshot>> {
    let request = lab.request("job");
    meanwhile(lab, request, held, |lab| lab.peer.snapshot(&lab.vm, "somebody else's")).await
}

/// Opens a job that is held at one call, lets something happen meanwhile, and lets it go on.
pub(super) async fn meanwhile(
    lab: &Arc<Lab>,
    request: OpenRequest,
    held: &Trouble,
    act: impl FnOnce(&Lab) -> Result<()>,
) -> Result<Box<dyn Snapshot>> {
    let calls = |lab: &Lab| lab.peer.calls().unwrap_or_default().get(&held.method).copied();
    let before = calls(lab).unwrap_or_default();
    lab.peer.trouble(held)?;
    let mut opening = JoinSet::new();
    let own = lab.clone();
    opening.spawn(async move { own.source.open(&request).await });
    // The peer says that it holds a call; what it counts alone, others may have made.
    until("the call is held", || lab.peer.holds().unwrap_or_default() > 0).await?;
    assert!(calls(lab).unwrap_or_default() > before);
    act(lab)?;
    lab.peer.go_on()?;
    Ok(opening.join_next().await.context("nothing was opened")???)
}

/// Trap U3: tracking that was switched on beside a snapshot omits changes, without an error.
#[tokio::test]
async fn trap_u3_a_snapshot_that_comes_after_planning_keeps_tracking_off() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    let lab = Arc::new(lab);
    let mut held = Trouble::once("RetrievePropertiesEx", "hold", "");
    held.containing = "<type>Datacenter</type>".to_owned();
    let opened = beside_another(&lab, &held).await.unwrap();
    assert_eq!(lab.reconfigured(), 0, "the list was read again");
    assert_eq!(opened.disks()[0].change_id, None);
    opened.close().await.unwrap();
}

#[tokio::test]
async fn trap_u3_tracking_that_was_switched_on_beside_a_snapshot_is_switched_off_again() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    let lab = Arc::new(lab);
    let opened = beside_another(&lab, &Trouble::once("ReconfigVM_Task", "hold", "")).await.unwrap();
    assert_eq!(lab.reconfigured(), 2, "on, and off again");
    assert_eq!(opened.disks()[0].change_id, None);
    let changed = opened.changed_since(0, "whatever").await;
    assert!(why(&changed).contains("switched off again"), "{changed:?}");
    opened.close().await.unwrap();
    lab.peer.remove_snapshots(&lab.vm).unwrap();
    // Alone, it is switched on, and what it says from then on is believed.
    let (mark, _) = lab.run("next", None).await.unwrap();
    assert_eq!(lab.reconfigured(), 3);
    let (_, changed) = lab.run("after", mark.as_deref()).await.unwrap();
    assert_eq!(changed, Changed::Areas(Vec::new()));
    lab.nothing_is_left().await.unwrap();
}

/// Whoever looks at the run is told, and no later one believes what was on beside that snapshot.
#[tokio::test]
async fn trap_u3_tracking_that_cannot_be_switched_off_again_is_told_with_the_run() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    let lab = Arc::new(lab);
    let off = Trouble::once("ReconfigVM_Task", "fault", "InvalidState");
    let off = Trouble { containing: "Enabled>false".to_owned(), ..off };
    lab.peer.trouble(&off).unwrap();
    let mut on = Trouble::once("ReconfigVM_Task", "hold", "");
    on.containing = "Enabled>true".to_owned();
    let opened = beside_another(&lab, &on).await.unwrap();
    assert_eq!(lab.reconfigured(), 2);
    let told = opened.disks()[0].no_mark.clone().unwrap();
    assert!(told.contains("could not be switched off again"), "{told}");
    assert!(told.contains("by hand") && !told.contains("so it was"), "{told}");
    assert_eq!(why(&opened.changed_since(0, "whatever").await), told);
    opened.close().await.unwrap();
    lab.peer.remove_snapshots(&lab.vm).unwrap();
    let (none, _) = lab.run("next", None).await.unwrap();
    assert_eq!((none, lab.reconfigured()), (None, 3), "off now, to be started anew");
}

#[tokio::test]
async fn trap_u3_a_snapshot_beside_ours_leaves_no_mark() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    let tracking = Some(true);
    lab.peer.shape(&VmShape { tracking, ..named(&lab.vm) }).unwrap();
    let lab = Arc::new(lab);
    let held = Trouble::once("CreateSnapshot_Task", "hold", "");
    let opened = beside_another(&lab, &held).await.unwrap();
    assert_eq!(opened.disks()[0].change_id, None, "it is not the newest of its tracking alone");
    let changed = opened.changed_since(0, "whatever").await;
    assert!(why(&changed).contains("somebody else"), "{changed:?}");
    opened.close().await.unwrap();
}

/// A snapshot whose removal came to half leaves deltas and is in no list; tracking beside them lies as beside it.
#[tokio::test]
async fn trap_u3_tracking_is_not_switched_on_beside_deltas_that_no_snapshot_is_left_of() {
    let Some((lab, _library, _)) = vddk::start().await.unwrap() else { return };
    let delta = DiskShape { parent: "disk-9.vmdk".into(), ..disk(2001, 1) };
    let disks = Some(vec![disk(2000, 0), delta]);
    lab.peer.shape(&VmShape { disks, ..named(&lab.vm) }).unwrap();
    let opened = lab.open("job").await.unwrap();
    assert_eq!(lab.reconfigured(), 0, "the whole VM is tracked, or none of it");
    let why = opened.disks()[0].no_mark.clone().unwrap_or_default();
    assert!(why.contains("merged"), "{why}");
    opened.close().await.unwrap();
    let merged = Some(vec![disk(2000, 0), disk(2001, 1)]);
    lab.peer.shape(&VmShape { disks: merged, ..named(&lab.vm) }).unwrap();
    lab.consolidates(true).unwrap();
    let opened = lab.open("due").await.unwrap();
    assert_eq!(lab.reconfigured(), 0, "the server knows of deltas that no disk shows");
    opened.close().await.unwrap();
    lab.consolidates(false).unwrap();
    lab.open("next").await.unwrap().close().await.unwrap();
    assert_eq!(lab.reconfigured(), 1);
    lab.nothing_is_left().await.unwrap();
}
