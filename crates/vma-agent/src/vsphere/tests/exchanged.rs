//! Trap D8: a disk that was exchanged under its key is not read as the one that the hub means.

use std::sync::Arc;

use anyhow::Result;
use hub_vma_api::{CopyDisk, CopyState};
use hub_vsphere_peer::{DiskShape, Trouble, VmShape};
use tokio_util::sync::CancellationToken;

use super::lab::{CAPACITY, Lab, disk, named};
use crate::doubles::{Hub, copying, ended, full_disk, memory, until};
use crate::jobs::{Jobs, JobsOptions};
use crate::source::{OpenRequest, Source as _};

/// The same request for the disks that the hub knows, spelt as it keeps their ids.
fn of_known(mut request: OpenRequest) -> OpenRequest {
    for (unit, asked) in (0..).zip(&mut request.disks) {
        asked.backing_uuid = Some(disk(2000 + unit, unit).uuid.to_ascii_lowercase());
    }
    request
}

/// Puts a disk of equal size in the place of the first one.
fn exchange(lab: &Lab, uuid: &str) -> Result<()> {
    let other = DiskShape { uuid: uuid.to_owned(), ..disk(2000, 0) };
    let disks = Some(vec![other, disk(2001, 1)]);
    lab.peer.shape(&VmShape { disks, ..named(&lab.vm) }).map(drop)
}

#[tokio::test]
async fn trap_d8_a_disk_that_was_exchanged_is_refused_before_a_snapshot_is_taken() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    exchange(&lab, "6000C29f-other").unwrap();
    let request = of_known(lab.request("job"));
    let error = lab.source.check(&request).await.unwrap_err();
    assert_eq!(error.code(), "source/other-disk");
    let told = error.to_string();
    assert!(told.contains("`disk-2000`") && told.contains("discovery"), "{told}");
    assert!(told.contains("6000c29f-other") && told.contains("6000c290-aaaa"), "{told}");
    assert_eq!(lab.source.open(&request).await.err().unwrap().code(), "source/other-disk");
    assert_eq!(lab.peer.calls().unwrap().get("CreateSnapshot_Task"), None);
}

/// What the order was checked for may be gone when the snapshot is there.
#[tokio::test]
async fn trap_d8_a_disk_that_is_exchanged_while_its_job_waits_is_not_read() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    let mut hub = Hub::start().await.unwrap();
    let size = usize::try_from(CAPACITY).unwrap();
    let image = memory(vec![7; size]);
    let target = hub.offer("disk", image.clone()).unwrap();
    let uuid = Some(disk(2000, 0).uuid);
    let disk = CopyDisk { backing_uuid: uuid, ..full_disk("disk-2000", size, target) };
    let mut request = copying("job", vec![disk]);
    request.vm_id.clone_from(&lab.id);
    request.credentials = Some(lab.credentials());
    let source = Arc::new(lab.over_https().unwrap());
    let jobs = Jobs::new(source, JobsOptions::default(), CancellationToken::new());
    lab.peer.trouble(&Trouble::once("CreateSnapshot_Task", "hold", "")).unwrap();
    jobs.start(request).await.unwrap();
    until("the snapshot is held", || lab.peer.holds().unwrap_or_default() > 0).await.unwrap();
    exchange(&lab, "6000C29f-other").unwrap();
    lab.peer.go_on().unwrap();
    let report = ended(&jobs, "job").await.unwrap();
    assert_eq!(report.state, CopyState::Failed, "{report:?}");
    let fault = report.error.or_else(|| report.disks[0].error.clone()).unwrap();
    assert_eq!(fault.code, "source/other-disk", "{fault:?}");
    assert_eq!(report.disks[0].change_id, None);
    assert!(image.snapshot() == vec![7; size], "nothing was written");
    lab.nothing_is_left().await.unwrap();
}

/// What is not known, at either end, is not compared, and two spellings are one disk.
#[tokio::test]
async fn a_disk_is_read_where_one_of_both_does_not_know_its_id() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    lab.source.open(&of_known(lab.request("known"))).await.unwrap().close().await.unwrap();
    let mut padded = of_known(lab.request("padded"));
    padded.disks[0].backing_uuid = Some(format!(" {}\n", disk(2000, 0).uuid));
    padded.disks[1].backing_uuid = Some(String::new());
    lab.source.open(&padded).await.unwrap().close().await.unwrap();
    exchange(&lab, "6000C29f-other").unwrap();
    lab.source.open(&lab.request("unknown")).await.unwrap().close().await.unwrap();
    exchange(&lab, "").unwrap();
    let silent = of_known(lab.request("silent"));
    lab.source.open(&silent).await.unwrap().close().await.unwrap();
    lab.nothing_is_left().await.unwrap();
}
