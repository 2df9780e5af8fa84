//! VMs that are not in the inventory while a snapshot of theirs is owed.

use anyhow::Result;
use hub_block::trail::{self, Step};
use hub_vma_api::{CleanupOutcome, CleanupReport, CleanupRequest, OwedSnapshot};
use hub_vsphere_peer::{Trouble, VmShape};

use super::lab::{Lab, named};
use crate::doubles::until;
use crate::source::Source as _;

const MISSING: &str = "source/snapshot-vm-missing";

async fn clean_up(lab: &Lab, job_id: &str) -> Result<CleanupReport> {
    let request = CleanupRequest {
        job_id: job_id.to_owned(),
        vm_id: lab.id.clone(),
        source: None,
        credentials: Some(lab.credentials()),
    };
    Ok(lab.source.clean_up(&request).await?)
}

/// The code of a clean-up that failed.
async fn refused(lab: &Lab, job_id: &str) -> Result<String> {
    let report = clean_up(lab, job_id).await?;
    anyhow::ensure!(report.outcome == CleanupOutcome::Failed, "{report:?}");
    Ok(report.error.map(|it| it.code).unwrap_or_default())
}

#[tokio::test]
async fn p3_trap_u12_a_vm_that_is_unregistered_keeps_its_snapshot_and_the_debt() {
    let Some(mut lab) = Lab::start().await.unwrap() else { return };
    std::mem::forget(lab.open("job").await.unwrap());
    lab.restart().unwrap();
    lab.peer.unregister(&lab.vm).unwrap();
    assert_eq!(lab.peer.snapshots().unwrap().len(), 1, "among the files of the VM");
    assert_eq!(refused(&lab, "job").await.unwrap(), MISSING);
    assert_eq!(lab.owed().unwrap(), 1);
    // One that has forgotten it, too, has no proof.
    assert_eq!(refused(&lab, "another").await.unwrap(), MISSING);
    let before = lab.peer.snapshots().unwrap().remove(0).id;
    lab.peer.register(&lab.vm).unwrap();
    assert_ne!(lab.peer.snapshots().unwrap().remove(0).id, before);
    assert_eq!(clean_up(&lab, "job").await.unwrap().outcome, CleanupOutcome::Removed);
    lab.nothing_is_left().await.unwrap();
}

#[tokio::test]
async fn p3_a_vm_that_comes_back_is_cleaned_though_nobody_asks() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    let opened = lab.open("job").await.unwrap();
    lab.peer.unregister(&lab.vm).unwrap();
    assert_eq!(opened.close().await.unwrap_err().code(), MISSING);
    lab.peer.register(&lab.vm).unwrap();
    lab.nothing_is_left().await.unwrap();
}

#[tokio::test]
async fn a_job_that_has_left_nothing_owes_nothing_wherever_its_vm_is() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    lab.open("done").await.unwrap().close().await.unwrap();
    lab.peer.unregister(&lab.vm).unwrap();
    assert_eq!(clean_up(&lab, "done").await.unwrap().outcome, CleanupOutcome::None);
    // An order that is refused has taken nothing.
    let error = lab.source.check(&lab.request("refused")).await.unwrap_err();
    assert_eq!(error.code(), "source/vm-not-found");
    assert_eq!(clean_up(&lab, "refused").await.unwrap().outcome, CleanupOutcome::None);
    assert_eq!(refused(&lab, "unheard of").await.unwrap(), MISSING);
}

#[tokio::test]
async fn a_debt_that_is_struck_off_is_forgotten_and_nothing_is_touched() {
    let Some(mut lab) = Lab::start().await.unwrap() else { return };
    let opened = lab.open("job").await.unwrap();
    let held = lab.source.owed();
    let OwedSnapshot { job_id, vm_id, name, at_work, .. } = held[0].clone();
    assert_eq!((job_id.as_str(), vm_id, at_work), ("job", lab.id.clone(), true));
    assert_eq!(name, lab.peer.snapshots().unwrap()[0].name);
    let error = lab.source.strike_off("job").await.unwrap_err();
    assert_eq!(error.code(), "source/snapshot-in-use");
    std::mem::forget(opened);
    lab.restart().unwrap();
    lab.peer.unregister(&lab.vm).unwrap();
    assert_eq!(refused(&lab, "job").await.unwrap(), MISSING);
    assert!(lab.source.strike_off("job").await.unwrap());
    assert!(!lab.source.strike_off("job").await.unwrap(), "again it finds none");
    assert_eq!((lab.owed().unwrap(), lab.source.owed()), (0, Vec::new()));
    assert_eq!(lab.peer.snapshots().unwrap().len(), 1);
    assert_eq!(refused(&lab, "job").await.unwrap(), MISSING, "nobody has looked");
}

#[tokio::test]
async fn p3_a_server_that_does_not_know_the_snapshots_of_a_vm_is_not_believed() {
    let Some(mut lab) = Lab::start().await.unwrap() else { return };
    std::mem::forget(lab.open("job").await.unwrap());
    lab.restart().unwrap();
    let is = |connection: &str| {
        let connection = Some(connection.to_owned());
        lab.peer.shape(&VmShape { connection, ..named(&lab.vm) }).map(drop)
    };
    is("disconnected").unwrap();
    assert_eq!(refused(&lab, "another").await.unwrap(), "source/vm-unreadable");
    assert_eq!(clean_up(&lab, "job").await.unwrap().outcome, CleanupOutcome::Removed);
    assert_eq!(refused(&lab, "job").await.unwrap(), "source/vm-unreadable");
    is("connected").unwrap();
    assert_eq!(clean_up(&lab, "another").await.unwrap().outcome, CleanupOutcome::None);
}

/// A host gives references out again; the VM that has one now is not the one that was meant.
#[tokio::test]
async fn p3_another_vm_under_the_same_reference_is_no_proof() {
    let Some(mut lab) = Lab::start().await.unwrap() else { return };
    std::mem::forget(lab.open("job").await.unwrap());
    lab.peer.remove_snapshots(&lab.vm).unwrap();
    lab.restart().unwrap();
    let instance_uuid = Some("5015f0e2-0000-4000-8000-00000000ffff".to_owned());
    lab.peer.shape(&VmShape { instance_uuid, ..named(&lab.vm) }).unwrap();
    assert_eq!(refused(&lab, "job").await.unwrap(), MISSING);
    let instance_uuid = Some(lab.id.clone());
    lab.peer.shape(&VmShape { instance_uuid, ..named(&lab.vm) }).unwrap();
    assert_eq!(clean_up(&lab, "job").await.unwrap().outcome, CleanupOutcome::None);
    assert_eq!(lab.owed().unwrap(), 0);
}

/// A power cut keeps only what was synced: the record and its name have to be before the server is asked.
#[tokio::test]
async fn p3_a_record_is_durable_before_the_server_is_asked_for_a_snapshot() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    lab.peer.trouble(&Trouble::once("CreateSnapshot_Task", "hold", "")).unwrap();
    let trail = trail::follow(lab.state.path());
    let request = lab.request("job");
    let asked = async {
        let is_asked = || lab.peer.calls().is_ok_and(|it| it.contains_key("CreateSnapshot_Task"));
        until("a snapshot is asked for", is_asked).await.unwrap();
        let steps = trail.steps();
        lab.peer.go_on().unwrap();
        steps
    };
    let (opened, steps) = tokio::join!(lab.source.open(&request), asked);
    let at = |is: &dyn Fn(&Step) -> bool| steps.iter().find(|(_, it)| is(it)).map(|(at, _)| *at);
    let written = at(&|it| matches!(it, Step::Wrote { bytes, .. } if !bytes.is_empty())).unwrap();
    let synced = at(&|it| matches!(it, Step::Synced { .. })).unwrap();
    let json = |path: &std::path::Path| path.extension().is_some_and(|it| it == "json");
    let named = at(&|it| matches!(it, Step::Renamed { to, .. } if json(to))).unwrap();
    let kept = at(&|it| matches!(it, Step::DirectorySynced { .. })).unwrap();
    assert!(written < synced && synced < named && named < kept, "{steps:?}");
    opened.unwrap().close().await.unwrap();
    lab.nothing_is_left().await.unwrap();
}
