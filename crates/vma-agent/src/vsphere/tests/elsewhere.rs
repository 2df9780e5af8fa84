//! The endpoint leads to another vCenter than before, which has a VM with the same id.

use anyhow::{Context as _, Result};
use hub_vma_api::{CleanupOutcome, CleanupReport, CleanupRequest, DiscoverRequest};
use hub_vsphere_peer::{PeerOptions, Trouble};

use super::lab::{CAPACITY, Lab};
use crate::doubles::until;
use crate::source::{Changed, OpenRequest, Source as _};

const OTHER_VCENTER: &str = "source/other-vcenter";

/// The id of a copy of the lab's vCenter, with VMs of the same ids and the same references.
const COPY: &str = "0c0b1a52-0000-4000-8000-00000000c0b1";

/// The id of the lab's vCenter.
async fn here(lab: &Lab) -> Result<String> {
    let asked =
        DiscoverRequest { credentials: Some(lab.credentials()), ..DiscoverRequest::default() };
    lab.source.inventory(&asked).await?.vcenter.instance_uuid.context("it has no id")
}

/// An order for the lab's VM as the one of a vCenter.
fn at(lab: &Lab, vcenter: &str, job_id: &str) -> OpenRequest {
    OpenRequest { vcenter_uuid: Some(vcenter.to_owned()), ..lab.request(job_id) }
}

async fn cleaned_up(lab: &Lab, vcenter: &str, job_id: &str) -> Result<CleanupReport> {
    let request = CleanupRequest {
        job_id: job_id.to_owned(),
        vm_id: lab.id.clone(),
        source: Some(vcenter.to_owned()),
        credentials: Some(lab.credentials()),
    };
    Ok(lab.source.clean_up(&request).await?)
}

fn refused(report: &CleanupReport) -> bool {
    let code = report.error.as_ref().map(|it| it.code.as_str());
    report.outcome == CleanupOutcome::Failed && code == Some(OTHER_VCENTER)
}

#[tokio::test]
async fn trap_u15_a_vm_of_another_vcenter_is_refused_before_its_snapshot() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    let known = here(&lab).await.unwrap();
    for other in [COPY, ""] {
        lab.peer.become_another(other).unwrap();
        let asked = at(&lab, &known, "job");
        for error in [
            lab.source.check(&asked).await.err().unwrap(),
            lab.source.open(&asked).await.err().unwrap(),
        ] {
            assert_eq!(error.code(), OTHER_VCENTER, "{error}");
            let told = error.to_string();
            assert!(told.contains(&known) && told.contains(other), "{told}");
        }
        assert_eq!(lab.peer.calls().unwrap().get("CreateSnapshot_Task"), None);
        assert_eq!(lab.owed().unwrap(), 0);
        let report = cleaned_up(&lab, &known, "job").await.unwrap();
        assert_eq!(report.outcome, CleanupOutcome::None, "the refusal itself left nothing");
    }
    // An older hub does not say which vCenter it means, and a newer one spells it as it likes.
    lab.open("older").await.unwrap().close().await.unwrap();
    lab.peer.become_another(&known).unwrap();
    let asked = at(&lab, &format!(" {} ", known.to_ascii_uppercase()), "again");
    lab.source.check(&asked).await.unwrap();
    lab.source.open(&asked).await.unwrap().close().await.unwrap();
    lab.nothing_is_left().await.unwrap();
}

#[tokio::test]
async fn trap_u15_a_host_that_has_no_id_is_not_the_vcenter_that_is_meant() {
    let esxi = PeerOptions { esxi: true, ..PeerOptions::default() };
    let Some(lab) = Lab::start_with(esxi).await.unwrap() else { return };
    let error = lab.source.check(&at(&lab, COPY, "job")).await.unwrap_err();
    assert_eq!(error.code(), OTHER_VCENTER, "{error}");
    lab.source.check(&lab.request("job")).await.unwrap();
}

#[tokio::test]
async fn trap_u15_a_job_that_meets_another_vcenter_reads_nothing_more_and_keeps_its_debt() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    let known = here(&lab).await.unwrap();
    let opened = lab.source.open(&at(&lab, &known, "job")).await.unwrap();
    let disk = opened.reader(0).await.unwrap();
    let whole = u32::try_from(CAPACITY).unwrap();
    disk.read_at(0, whole).await.unwrap();
    lab.peer.become_another(COPY).unwrap();
    let error = disk.read_at(0, 512).await.unwrap_err();
    assert!(format!("{error:?}").contains(COPY), "{error:?}");
    let changed = opened.changed_since(0, "a mark").await;
    assert!(matches!(changed, Changed::Unknown(_)), "{changed:?}");
    let error = opened.check_unchanged(0).await.unwrap_err();
    assert_eq!(error.code(), OTHER_VCENTER, "{error}");
    drop(disk);
    let error = opened.close().await.unwrap_err();
    assert_eq!(error.code(), OTHER_VCENTER, "{error}");
    // The copy has a snapshot of the same name and reference, and it is none of ours.
    until("the job lets go", || !lab.source.owed().iter().any(|it| it.at_work)).await.unwrap();
    assert!(refused(&cleaned_up(&lab, &known, "job").await.unwrap()));
    assert_eq!((lab.peer.snapshots().unwrap().len(), lab.owed().unwrap()), (1, 1));
    assert_eq!(lab.peer.calls().unwrap().get("RemoveSnapshot_Task"), None);
    lab.peer.become_another(&known).unwrap();
    let report = cleaned_up(&lab, &known, "job").await.unwrap();
    assert_ne!(report.outcome, CleanupOutcome::Failed, "{report:?}");
    lab.nothing_is_left().await.unwrap();
}

#[tokio::test]
async fn trap_u15_a_clean_up_that_ends_up_at_another_vcenter_finds_nothing_out() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    let known = here(&lab).await.unwrap();
    for job in ["none", "left"] {
        if job == "left" {
            lab.peer.snapshot(&lab.vm, "sendense-hub job left").unwrap();
        }
        lab.peer.trouble(&Trouble::once("FindAllByUuid", "hold", "")).unwrap();
        let moves = async {
            until("it looks for the VM", || lab.peer.holds().unwrap_or_default() > 0).await?;
            lab.peer.become_another(COPY)?;
            lab.peer.go_on()
        };
        let (report, moved) = tokio::join!(cleaned_up(&lab, &known, job), moves);
        moved.unwrap();
        assert!(refused(&report.unwrap()), "{job}");
        assert!(refused(&cleaned_up(&lab, &known, job).await.unwrap()), "{job}");
        lab.peer.become_another(&known).unwrap();
    }
    assert_eq!(lab.peer.snapshots().unwrap().len(), 1);
    let report = cleaned_up(&lab, &known, "left").await.unwrap();
    assert_eq!(report.outcome, CleanupOutcome::Removed);
}

#[tokio::test]
async fn trap_u15_a_snapshot_is_not_ordered_from_another_vcenter() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    let known = here(&lab).await.unwrap();
    lab.peer.trouble(&Trouble::once("CreateSnapshot_Task", "hold", "")).unwrap();
    let asked = at(&lab, &known, "job");
    let moves = async {
        until("it is ordered", || lab.peer.holds().unwrap_or_default() > 0).await?;
        lab.peer.become_another(COPY)?;
        lab.peer.go_on()
    };
    let (opened, moved) = tokio::join!(lab.source.open(&asked), moves);
    moved.unwrap();
    let error = opened.err().unwrap();
    assert_eq!(error.code(), OTHER_VCENTER, "{error}");
    assert!(lab.peer.snapshots().unwrap().is_empty());
    lab.peer.become_another(&known).unwrap();
    // It is doubted for a while whether the first one has begun to take it.
    let report = cleaned_up(&lab, &known, "job").await.unwrap();
    assert!(report.error.unwrap().detail.contains("may be taken yet"));
    assert_eq!(lab.owed().unwrap(), 1);
}
