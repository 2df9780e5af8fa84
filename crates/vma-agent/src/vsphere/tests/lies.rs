//! Odd answers about changes that are right, and a server that leaves changes out.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use hub_vma_api::{AuditOrder, ChainAudit, CopyDisk, CopyMethod, CopyReport, CopyState};
use hub_vsphere_peer::{AreaPage, Trouble};
use tokio_util::sync::CancellationToken;

use super::lab::{CAPACITY, GRAIN, Lab};
use crate::doubles::{Hub, copying, ended, full_disk, memory, until};
use crate::jobs::{Jobs, JobsOptions};
use crate::source::Changed;

fn page(start: u64, length: u64, areas: &[(u64, u64)]) -> AreaPage {
    let signed = |it: u64| i64::try_from(it).unwrap_or(i64::MAX);
    let areas = areas.iter().map(|(start, length)| (signed(*start), signed(*length))).collect();
    AreaPage { start: signed(start), length: signed(length), areas, fault: String::new() }
}

#[tokio::test]
async fn trap_u4_areas_on_many_pages_in_any_order_that_overlap_are_all_found() {
    let Some(lab) = Lab::start().await.unwrap() else { return };
    let first = lab.open("one").await.unwrap();
    let mark = first.disks()[0].change_id.clone().unwrap();
    first.close().await.unwrap();
    let second = lab.open("two").await.unwrap();
    let half = CAPACITY / 2;
    let pages = [
        page(0, half, &[(GRAIN, GRAIN), (0, 512), (GRAIN / 2, GRAIN), (256, 512)]),
        page(half, half, &[(CAPACITY - 512, 512), (half, 512)]),
    ];
    lab.peer.areas(&lab.vm, 2000, &pages).unwrap();
    let found = second.changed_since(0, &mark).await;
    let expected = vec![0..768, GRAIN / 2..2 * GRAIN, half..half + 512, CAPACITY - 512..CAPACITY];
    assert_eq!(found, Changed::Areas(expected));
    lab.peer.areas(&lab.vm, 2000, &[page(0, CAPACITY, &[(GRAIN, 0)])]).unwrap();
    let empty = second.changed_since(0, &mark).await;
    assert!(matches!(empty, Changed::Unknown(_)), "an area without length: {empty:?}");
    // The truth on pages of two areas each.
    lab.peer.areas(&lab.vm, 2000, &[]).unwrap();
    second.close().await.unwrap();
    lab.peer.page_size(2).unwrap();
    for grain in [1, 3, 5, 7, 9] {
        lab.write(0, grain * GRAIN, b"changed").unwrap();
    }
    let third = lab.open("three").await.unwrap();
    let expected = [1, 3, 5, 7, 9].map(|it| it * GRAIN..(it + 1) * GRAIN).to_vec();
    assert_eq!(third.changed_since(0, &mark).await, Changed::Areas(expected));
    third.close().await.unwrap();
    lab.nothing_is_left().await.unwrap();
}

/// Trap U6: a vCenter that keeps every deadline and never comes to an end costs a disk its changed areas, and no more.
#[tokio::test]
async fn trap_u6_a_server_that_takes_too_long_to_say_what_has_changed_makes_the_disk_be_read() {
    let Some(mut lab) = Lab::start().await.unwrap() else { return };
    let first = lab.open("one").await.unwrap();
    let mark = first.disks()[0].change_id.clone().unwrap();
    first.close().await.unwrap();
    // Long enough for somebody to see that it waits.
    lab.hasty(Duration::from_secs(5)).unwrap();
    lab.write(0, 3 * GRAIN, b"changed").unwrap();
    lab.peer.trouble(&Trouble::once("QueryChangedDiskAreas", "hold", "")).unwrap();
    let mut hub = Hub::start().await.unwrap();
    let size = usize::try_from(CAPACITY).unwrap();
    let image = memory(vec![0; size]);
    let parent = hub.parent(&image.snapshot()).await.unwrap();
    let target = hub.offer("disk", image.clone()).unwrap();
    let disk = CopyDisk {
        method: CopyMethod::ChangedSince { change_id: mark },
        parent: Some(parent),
        ..full_disk("disk-2000", size, target)
    };
    let mut request = copying("job", vec![disk]);
    request.vm_id.clone_from(&lab.id);
    request.credentials = Some(lab.credentials());
    let peer = lab.peer;
    let jobs = Jobs::new(Arc::new(lab.source), JobsOptions::default(), CancellationToken::new());
    jobs.start(request).await.unwrap();
    // Nothing moves meanwhile, so the disk has not begun, and what it waits for is said.
    let says = |it: CopyReport| {
        it.disks[0].state == CopyState::Queued
            && it.waiting.is_some_and(|it| it.contains("what has changed"))
    };
    until("it says what it waits for", || jobs.report("job").is_some_and(says)).await.unwrap();
    let report = ended(&jobs, "job").await.unwrap();
    assert_eq!(report.state, CopyState::Succeeded, "{report:?}");
    assert_eq!(report.disks[0].method, "by_digest");
    let reason = report.disks[0].method_reason.clone().unwrap();
    assert!(reason.contains("source.changed_areas_seconds"), "{reason}");
    assert!(image.snapshot()[usize::try_from(3 * GRAIN).unwrap()..].starts_with(b"changed"));
    peer.calm().unwrap();
}

/// Trap U36: a vCenter that leaves out a change is caught within as many copies as were promised.
#[tokio::test]
async fn trap_u36_a_change_that_the_server_leaves_out_is_found_in_time() {
    const RUNS: u32 = 4;
    let Some(lab) = Lab::start().await.unwrap() else { return };
    let bytes: Vec<u8> = (0..CAPACITY).map(|it| u8::try_from(it % 251).unwrap()).collect();
    lab.write(0, 0, &bytes).unwrap();
    let mut hub = Hub::start().await.unwrap();
    let image = memory(vec![0; bytes.len()]);
    let target = hub.offer("disk", image.clone()).unwrap();
    let source = Arc::new(lab.over_https().unwrap());
    let jobs = Jobs::new(source, JobsOptions::default(), CancellationToken::new());
    let order = |job: &str, disk: CopyDisk| {
        let mut request = copying(job, vec![disk]);
        request.vm_id.clone_from(&lab.id);
        request.credentials = Some(lab.credentials());
        request
    };
    let full = full_disk("disk-2000", bytes.len(), target.clone());
    jobs.start(order("full", full.clone())).await.unwrap();
    let report = ended(&jobs, "full").await.unwrap();
    assert_eq!(report.state, CopyState::Succeeded, "{report:?}");
    let mut mark = report.disks[0].change_id.clone().unwrap();
    let parent_of = image.snapshot();
    assert!(parent_of == bytes);

    // Changed, and never told.
    let place = 21 * GRAIN + 7;
    lab.write(0, place, b"left out").unwrap();
    let mut truth = bytes.clone();
    truth[usize::try_from(place).unwrap()..][..8].copy_from_slice(b"left out");
    lab.peer.areas(&lab.vm, 2000, &[page(0, CAPACITY, &[])]).unwrap();
    let (mut from, mut found) = (0, None);
    for run in 1..=RUNS {
        let mut parents = Hub::start().await.unwrap();
        let parent = parents.parent(&image.snapshot()).await.unwrap();
        let runs = NonZeroU32::new(RUNS).unwrap();
        let disk = CopyDisk {
            method: CopyMethod::ChangedSince { change_id: mark.clone() },
            parent: Some(parent),
            audit: Some(AuditOrder { runs, from }),
            ..full.clone()
        };
        let job = format!("run-{run}");
        jobs.start(order(&job, disk)).await.unwrap();
        let mut report = ended(&jobs, &job).await.unwrap();
        assert_eq!(report.state, CopyState::Succeeded, "{report:?}");
        let disk = report.disks.remove(0);
        let audit = disk.audit.unwrap();
        if let Some(lie) = audit.lie {
            assert_eq!((lie.offset, lie.blocks), (21 * GRAIN, 1));
            assert_eq!(disk.method, "by_digest");
            found = Some(run);
            break;
        }
        assert!(image.snapshot() == bytes, "believed, and wrong: this is why there is an audit");
        (from, mark) = (audit.next, disk.change_id.unwrap());
    }
    assert_eq!(found, Some(3), "21 of 32 grains lies in the third of four stretches");
    assert!(image.snapshot() == truth, "the copy that found it is right");
    // The full that follows does not begin a chain on the tracking that lied.
    jobs.start(order("anew", full)).await.unwrap();
    let report = ended(&jobs, "anew").await.unwrap();
    let disk = &report.disks[0];
    assert_eq!((report.state, disk.change_id.clone()), (CopyState::Succeeded, None));
    let reason = disk.method_reason.clone().unwrap();
    assert!(
        reason.contains("called a block unchanged") && reason.contains("switched off"),
        "{reason}"
    );
    lab.nothing_is_left().await.unwrap();
}

/// The audit of a full finds the same lie, and the tracking that told it begins no chain either.
#[tokio::test]
async fn trap_u36_tracking_that_the_audit_of_a_full_has_caught_is_not_believed_again() {
    let Some(mut lab) = Lab::start().await.unwrap() else { return };
    let (mark, _) = lab.run("point", None).await.unwrap();
    for grain in [21, 23] {
        lab.write(0, grain * GRAIN, b"left out").unwrap();
    }
    lab.peer.areas(&lab.vm, 2000, &[page(0, CAPACITY, &[])]).unwrap();
    let mut hub = Hub::start().await.unwrap();
    let size = usize::try_from(CAPACITY).unwrap();
    let point = hub.parent(&vec![0; size]).await.unwrap();
    let target = hub.offer("disk", memory(vec![0; size])).unwrap();
    let chain_audit = Some(ChainAudit { change_id: mark.unwrap(), point, from: 0 });
    let disk = CopyDisk { chain_audit, ..full_disk("disk-2000", size, target) };
    let mut request = copying("full", vec![disk]);
    request.vm_id.clone_from(&lab.id);
    request.credentials = Some(lab.credentials());
    let source = Arc::new(lab.over_https().unwrap());
    let jobs = Jobs::new(source, JobsOptions::default(), CancellationToken::new());
    jobs.start(request).await.unwrap();
    let report = ended(&jobs, "full").await.unwrap();
    assert_eq!(report.state, CopyState::Succeeded, "{report:?}");
    let lie = report.disks[0].audit.clone().unwrap().lie.unwrap();
    assert_eq!((lie.offset, lie.blocks), (21 * GRAIN, 2), "the first of both");
    lab.restart().unwrap();
    let next = lab.first_disk("next").await.unwrap();
    assert_eq!(next.change_id, None);
    assert!(
        next.no_mark.unwrap().contains("2 blocks unchanged that differ from the latest backup")
    );
    lab.nothing_is_left().await.unwrap();
}
