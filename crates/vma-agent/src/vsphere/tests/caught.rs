//! Tracking that was caught: what is known of it outlives whoever was to be told, and one disk's doubt takes none of another's.

use std::num::NonZeroU32;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use hub_vma_api::{AuditOrder, ChainAudit, CopyDisk, CopyMethod, CopyState, DiskReport, Lie};
use hub_vsphere_peer::AreaPage;
use tokio_util::sync::CancellationToken;

use super::lab::{CAPACITY, GRAIN, Lab, options};
use crate::doubles::{Hub, copying, ended, full_disk, memory};
use crate::jobs::{Jobs, JobsOptions};
use crate::source::Caught;
use crate::vsphere::{VsphereOptions, VsphereSource};

/// Both disks of a VM may be caught in one run, whose disks are copied at a time.
#[tokio::test]
async fn disks_that_are_caught_at_one_time_are_all_doubted() {
    let Some(mut lab) = Lab::start().await.unwrap() else { return };
    lab.run("first", None).await.unwrap();
    let opened = lab.open("second").await.unwrap();
    assert!(opened.disks().iter().all(|it| it.change_id.is_some()));
    let digest = "ab".repeat(32);
    let lie = Lie { offset: 0, blocks: 1, expected: digest.clone(), found: digest };
    let caught = Caught { why: "it lied".to_owned(), change_id: "mark".to_owned(), lie };
    tokio::join!(opened.distrust(0, &caught), opened.distrust(1, &caught));
    opened.close().await.unwrap();
    // Where the VMA may not start it anew, each disk has its own reason.
    let asked = options(&lab.peer, &lab.state).unwrap();
    let asked = VsphereOptions { enable_change_tracking: false, ..asked };
    lab.source = VsphereSource::new(asked).unwrap();
    let opened = lab.open("third").await.unwrap();
    for disk in opened.disks() {
        assert_eq!(disk.change_id, None, "{}: {:?}", disk.key, disk.no_mark);
    }
    opened.close().await.unwrap();
}

/// A disk whose source leaves out a change since the mark of its full.
struct Lying {
    lab: Lab,
    jobs: Jobs,
    hub: Hub,
    /// What the full holds.
    point: Vec<u8>,
    mark: String,
}

impl Lying {
    async fn start() -> Result<Option<Self>> {
        let Some(lab) = Lab::start().await? else { return Ok(None) };
        let point = vec![7; usize::try_from(CAPACITY)?];
        lab.write(0, 0, &point)?;
        let source = Arc::new(lab.over_https()?);
        let jobs = Jobs::new(source, JobsOptions::default(), CancellationToken::new());
        let hub = Hub::start().await?;
        let mut lying = Self { lab, jobs, hub, point, mark: String::new() };
        let full = lying.disk("full")?;
        let report = lying.copied("full", full).await?;
        lying.mark = report.change_id.context("no mark")?;
        lying.lab.write(0, 21 * GRAIN, b"left out")?;
        let none = AreaPage {
            start: 0,
            length: i64::try_from(CAPACITY)?,
            areas: Vec::new(),
            fault: String::new(),
        };
        lying.lab.peer.areas(&lying.lab.vm, 2000, &[none])?;
        Ok(Some(lying))
    }

    /// A full of the first disk into an image of its own.
    fn disk(&mut self, image: &str) -> Result<CopyDisk> {
        let target = self.hub.offer(image, memory(self.point.clone()))?;
        Ok(full_disk("disk-2000", self.point.len(), target))
    }

    /// The same as an incremental that audits all.
    async fn incremental(&mut self, image: &str) -> Result<CopyDisk> {
        self.hub.withdraw("parent-manifest");
        let parent = self.hub.parent(&self.point).await?;
        Ok(CopyDisk {
            method: CopyMethod::ChangedSince { change_id: self.mark.clone() },
            parent: Some(parent),
            audit: Some(AuditOrder { runs: NonZeroU32::MIN, from: 0 }),
            ..self.disk(image)?
        })
    }

    /// The same as a full that audits the chain.
    async fn full(&mut self, image: &str) -> Result<CopyDisk> {
        self.hub.withdraw("parent-manifest");
        let point = self.hub.parent(&self.point).await?;
        let chain_audit = Some(ChainAudit { change_id: self.mark.clone(), point, from: 0 });
        Ok(CopyDisk { chain_audit, ..self.disk(image)? })
    }

    async fn copied(&self, job: &str, disk: CopyDisk) -> Result<DiskReport> {
        let mut request = copying(job, vec![disk]);
        request.vm_id.clone_from(&self.lab.id);
        request.credentials = Some(self.lab.credentials());
        self.jobs.start(request).await?;
        let mut report = ended(&self.jobs, job).await?;
        anyhow::ensure!(report.state == CopyState::Succeeded, "{report:?}");
        Ok(report.disks.remove(0))
    }
}

/// The hub may die before it has heard of a lie, and asks again with the same mark: nobody else would ever tell it.
#[tokio::test]
async fn trap_u36_a_lie_is_told_to_whoever_asks_with_the_same_mark_again() {
    let Some(mut lying) = Lying::start().await.unwrap() else { return };
    let first = lying.incremental("one").await.unwrap();
    let first = lying.copied("one", first).await.unwrap();
    let lie = first.audit.unwrap().lie.unwrap();
    assert_eq!((lie.offset, lie.blocks), (21 * GRAIN, 1));
    // Whether the block has changed since, and is named now, is all the same.
    let again = lying.incremental("two").await.unwrap();
    let again = lying.copied("two", again).await.unwrap();
    assert_eq!(again.method, "by_digest");
    assert_eq!(again.audit.and_then(|it| it.lie).as_ref(), Some(&lie), "{:?}", again.method_reason);
    let full = lying.full("three").await.unwrap();
    let full = lying.copied("three", full).await.unwrap();
    assert_eq!(full.audit.and_then(|it| it.lie).as_ref(), Some(&lie), "{:?}", full.method_reason);
    lying.lab.nothing_is_left().await.unwrap();
}
