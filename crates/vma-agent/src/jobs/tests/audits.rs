//! Sources that leave out changes, and how soon that is found.

use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::Arc;

use anyhow::Result;
use hub_block::BlockDevice;
use hub_data_mover::{Digest, ProvingDevice};
use hub_vma_api::{AuditOrder, ChainAudit, CopyDisk, CopyMethod, CopyState, DiskReport};
use tokio::sync::Semaphore;

use super::jobs;
use crate::doubles::{
    BLOCK, GatedDevice, Hub, MemorySource, copying, ended, full_disk, memory, table_of, until,
};
use crate::fixture::content;
use crate::source::Changed;

const STEP: usize = BLOCK as usize;

/// How many copies may pass before a lie is found.
const RUNS: u32 = 5;

fn order(from: u64) -> AuditOrder {
    AuditOrder { runs: NonZeroU32::new(RUNS).unwrap_or(NonZeroU32::MIN), from }
}

fn disk_of(device: Arc<dyn BlockDevice>, areas: Vec<Range<u64>>) -> MemorySource {
    let mut source = MemorySource::with(vec![("disk-2000", device)]);
    source.changed = Some(Changed::Areas(areas));
    source
}

/// A copy by changed areas onto what the parent holds, and what the image holds then.
async fn copied(source: MemorySource, parent: &[u8], from: u64) -> Result<(DiskReport, Vec<u8>)> {
    let mut hub = Hub::start().await?;
    let manifest = hub.parent(parent).await?;
    let image = memory(parent.to_vec());
    let table = Arc::new(table_of(parent).await?);
    let proving = Arc::new(ProvingDevice::new(image.clone(), table));
    let disk = CopyDisk {
        method: CopyMethod::ChangedSince { change_id: "mark".to_owned() },
        parent: Some(manifest),
        audit: Some(order(from)),
        ..full_disk("disk-2000", parent.len(), hub.offer("disk", proving.clone())?)
    };
    let jobs = jobs(source);
    jobs.start(copying("job", vec![disk])).await?;
    let mut report = ended(&jobs, "job").await?;
    anyhow::ensure!(report.state == CopyState::Succeeded, "{report:?}");
    let disk = report.disks.remove(0);
    anyhow::ensure!(disk.source_root == Some(proving.settle().await?.to_string()));
    Ok((disk, image.snapshot()))
}

/// Trap U36: whichever block is left out, it is found within as many copies as were promised, and that copy is right.
#[tokio::test]
async fn trap_u36_a_change_that_was_left_out_is_found_in_time_wherever_it_is() {
    let before = content(5);
    let blocks = before.len() / STEP;
    for left_out in [0, 1, 13, 14, 40, blocks - 1] {
        let mut parent = before.clone();
        let mut from = 40 * u64::from(BLOCK);
        let mut found = None;
        for run in 1..=RUNS {
            let mut now = parent.clone();
            // What is told changes with every copy, as it does on a disk that is used.
            let told = (usize::try_from(run).unwrap() * 7) % blocks;
            now[told * STEP] = u8::try_from(run).unwrap();
            // What is left out changed before the first copy, and stays.
            now[left_out * STEP + 77] = before[left_out * STEP + 77] ^ 0x10;
            let area = (told * STEP) as u64..(told * STEP) as u64 + 1;
            let source = disk_of(memory(now.clone()), std::iter::once(area).collect());
            let (report, image) = copied(source, &parent, from).await.unwrap();
            let audit = report.audit.unwrap();
            from = audit.next;
            if let Some(lie) = audit.lie {
                assert_eq!((report.method.as_str(), lie.blocks), ("by_digest", 1));
                assert!(report.method_reason.unwrap().contains("unchanged"));
                assert_eq!(lie.offset, (left_out * STEP) as u64);
                let block = left_out * STEP..(left_out + 1) * STEP;
                assert_eq!(lie.expected, Digest::of(&parent[block.clone()]).to_string());
                assert_eq!(lie.found, Digest::of(&now[block]).to_string());
                assert!(image == now, "the copy that finds a lie is right");
                found = Some(run);
                break;
            }
            assert_eq!(report.method, "changed_since");
            let healed = told == left_out;
            assert_eq!(image == now, healed, "block {left_out} in copy {run}: the lie is one");
            if healed {
                found = Some(run);
                break;
            }
            parent = image;
        }
        assert!(found.is_some(), "block {left_out} was not found in {RUNS} copies");
    }
}

#[tokio::test]
async fn a_source_that_tells_the_truth_is_believed_and_its_part_is_read_once() {
    let disk = content(5);
    let mut from = 0;
    let mut audited = 0;
    for _ in 0..RUNS {
        let area = 0..u64::from(BLOCK);
        let source = disk_of(memory(disk.clone()), std::iter::once(area).collect());
        let (report, image) = copied(source, &disk, from).await.unwrap();
        let audit = report.audit.unwrap();
        assert_eq!((report.method.as_str(), &audit.lie), ("changed_since", &None));
        assert_eq!(report.bytes_total, audit.bytes + u64::from(BLOCK));
        assert_eq!((report.bytes_done, report.bytes_sent), (report.bytes_total, 0));
        assert!(image == disk);
        audited += audit.blocks;
        from = audit.next;
    }
    // The last stretch begins anew at the start: five of thirteen blocks are one more than the disk has.
    assert_eq!(audited, (disk.len() / STEP) as u64 - 1);
}

#[tokio::test]
async fn a_lie_is_told_before_anything_is_sent() {
    let parent = content(5);
    let mut now = parent.clone();
    now[2 * STEP] ^= 1;
    let gate = Arc::new(Semaphore::new(0));
    let device = GatedDevice { inner: memory(now.clone()), gate: gate.clone() };
    let mut hub = Hub::start().await.unwrap();
    let manifest = hub.parent(&parent).await.unwrap();
    let image = memory(parent.clone());
    let target = hub.offer("disk", image.clone()).unwrap();
    let disk = CopyDisk {
        method: CopyMethod::ChangedSince { change_id: "mark".to_owned() },
        parent: Some(manifest),
        audit: Some(order(0)),
        ..full_disk("disk-2000", parent.len(), target)
    };
    let jobs = jobs(disk_of(Arc::new(device), Vec::new()));
    jobs.start(copying("job", vec![disk])).await.unwrap();
    let seen = || jobs.report("job").map(|mut it| it.disks.remove(0));
    let mut given = 0;
    while seen().is_some_and(|it| it.audit.is_none()) {
        gate.add_permits(1);
        given += 1;
        let more = || seen().is_none_or(|it| it.audit.is_some()) || gate.available_permits() == 0;
        until("a read is taken", more).await.unwrap();
        assert!(given < 64, "the audit reads no more than its part");
    }
    let report = seen().unwrap();
    assert_eq!(report.audit.unwrap().lie.unwrap().offset, 2 * u64::from(BLOCK));
    assert_eq!((report.state, report.bytes_sent), (CopyState::Running, 0));
    assert!(image.snapshot() == parent);
    gate.add_permits(1000);
    assert_eq!(ended(&jobs, "job").await.unwrap().state, CopyState::Succeeded);
    assert!(image.snapshot() == now);
}

/// A full that is asked to audit a chain whose latest point held `point`, and what the image holds then.
async fn full_after(
    source: MemorySource,
    point: &[u8],
    change: impl FnOnce(&mut ChainAudit),
) -> Result<(DiskReport, Vec<u8>)> {
    let mut hub = Hub::start().await?;
    let (change_id, point_table) = ("mark".to_owned(), hub.parent(point).await?);
    let mut chain = ChainAudit { change_id, point: point_table, from: 3 * u64::from(BLOCK) };
    change(&mut chain);
    let image = memory(vec![0; point.len()]);
    let target = hub.offer("disk", image.clone())?;
    let chain_audit = Some(chain);
    let disk = CopyDisk { chain_audit, ..full_disk("disk-2000", point.len(), target) };
    let jobs = jobs(source);
    jobs.start(copying("job", vec![disk])).await?;
    Ok((ended(&jobs, "job").await?.disks.remove(0), image.snapshot()))
}

/// Trap U36: a full reads everything, so it finds whatever was left out of the chain that it ends.
#[tokio::test]
async fn trap_u36_a_full_finds_every_change_that_the_chain_before_was_denied() {
    let point = content(5);
    let blocks = point.len() / STEP;
    for left_out in [None, Some(0), Some(40), Some(blocks - 1)] {
        let mut now = point.clone();
        now[7 * STEP] ^= 1;
        if let Some(block) = left_out {
            now[block * STEP + 77] ^= 0x10;
        }
        let told = (7 * STEP) as u64..(7 * STEP) as u64 + 1;
        let source = disk_of(memory(now.clone()), std::iter::once(told).collect());
        let (report, image) = full_after(source, &point, |_| ()).await.unwrap();
        assert_eq!((report.state, report.method.as_str()), (CopyState::Succeeded, "full"));
        assert!(image == now, "the full is right");
        let audit = report.audit.unwrap();
        assert_eq!((audit.blocks, audit.next), (blocks as u64 - 1, 3 * u64::from(BLOCK)));
        let found = audit.lie.as_ref().map(|it| (it.offset, it.blocks));
        assert_eq!(found, left_out.map(|block| ((block * STEP) as u64, 1)));
        let says = report.method_reason.is_some_and(|it| it.contains("unchanged"));
        assert_eq!(says, left_out.is_some());
        assert_eq!(report.bytes_total, point.len() as u64, "nothing is read twice");
    }
}

/// A copy that relies on the source is audited by its part alone, whatever else it is asked for.
#[tokio::test]
async fn a_chain_is_not_audited_by_a_copy_that_does_not_read_it() {
    let parent = content(5);
    let mut hub = Hub::start().await.unwrap();
    let point = hub.parent(&parent).await.unwrap();
    let change_id = "mark".to_owned();
    let disk = CopyDisk {
        method: CopyMethod::ChangedSince { change_id: change_id.clone() },
        parent: Some(point.clone()),
        audit: Some(order(0)),
        chain_audit: Some(ChainAudit { change_id, point, from: 0 }),
        ..full_disk("disk-2000", parent.len(), hub.offer("d", memory(parent.clone())).unwrap())
    };
    let jobs = jobs(disk_of(memory(parent.clone()), Vec::new()));
    jobs.start(copying("job", vec![disk])).await.unwrap();
    let report = ended(&jobs, "job").await.unwrap().disks.remove(0);
    assert_eq!((report.state, report.method.as_str()), (CopyState::Succeeded, "changed_since"));
    assert!(report.audit.unwrap().blocks < (parent.len() / STEP) as u64);
}

/// The audit of a chain is a gift of the full: whatever is wrong with it is said, and the copy is what it was asked for.
#[tokio::test]
async fn a_full_that_cannot_audit_its_chain_says_why_and_succeeds() {
    let point = content(5);
    let mut now = point.clone();
    now[0] ^= 1;
    let honest = || disk_of(memory(now.clone()), Vec::new());
    let silent = || MemorySource { changed: None, ..honest() };
    let other = |chain: &mut ChainAudit| {
        chain.point.root = chain.point.root.replace(['0', '1', '2', '3'], "4");
    };
    let gone = |chain: &mut ChainAudit| chain.point.target.export = "gone".to_owned();
    let smaller = |chain: &mut ChainAudit| chain.point.capacity_bytes -= 512;
    let cases = [
        (full_after(silent(), &point, |_| ()).await, "nobody knows"),
        (full_after(honest(), &point, other).await, "root that was promised"),
        (full_after(honest(), &point, gone).await, "cannot be opened"),
        (full_after(honest(), &point, smaller).await, "grown"),
    ];
    for (case, why) in cases {
        let (report, image) = case.unwrap();
        assert_eq!((report.state, report.audit), (CopyState::Succeeded, None), "{why}");
        assert!(image == now && report.change_id.is_some());
        let reason = report.method_reason.unwrap();
        assert!(reason.contains("not audited") && reason.contains(why), "{reason}");
    }
    let spoiled = MemorySource { spoiled: true, ..honest() };
    let (report, _) = full_after(spoiled, &point, |_| ()).await.unwrap();
    assert_eq!((report.state, report.audit), (CopyState::Failed, None), "what it read is no proof");
}

#[tokio::test]
async fn what_cannot_be_read_of_the_sample_fails_the_disk_and_is_no_lie() {
    let parent = content(5);
    let faulty =
        hub_block::FaultyDevice::new(memory(parent.clone()), hub_block::FaultPlan::IoErrorAt(1));
    let error = copied(disk_of(Arc::new(faulty), Vec::new()), &parent, 0).await.unwrap_err();
    assert!(error.to_string().contains("source/read-failed"), "{error}");
    assert!(error.to_string().contains("audit: None"), "{error}");
}
