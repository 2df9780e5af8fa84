//! Copies that cannot succeed: each ends in a named state, soon, with what to do.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use hub_block::{BlockDevice, FaultPlan, FaultyDevice};
use hub_vma_api::{CopyDisk, CopyMethod, CopyReport, CopyState};
use tokio::sync::Semaphore;

use super::jobs;
use crate::doubles::{GatedDevice, Hub, MemorySource, copying, ended, full_disk, memory, until};
use crate::fixture::content;

/// Copies one disk and answers how it ended.
async fn outcome(source: Arc<dyn BlockDevice>, target: Arc<dyn BlockDevice>) -> Result<CopyReport> {
    let mut hub = Hub::start().await?;
    let capacity = usize::try_from(source.size())?;
    let disk = full_disk("disk-2000", capacity, hub.offer("disk", target)?);
    let jobs = jobs(MemorySource::with(vec![("disk-2000", source)]));
    jobs.start(copying("job", vec![disk])).await?;
    ended(&jobs, "job").await
}

fn code(report: &CopyReport) -> &str {
    report.disks[0].error.as_ref().map_or("", |it| it.code.as_str())
}

fn faulty(plan: FaultPlan) -> Arc<dyn BlockDevice> {
    Arc::new(FaultyDevice::new(memory(vec![0; content(1).len()]), plan))
}

#[tokio::test]
async fn a_full_repository_is_said() {
    let report = outcome(memory(content(1)), faulty(FaultPlan::NoSpaceFrom(2))).await.unwrap();
    assert_eq!((report.state, code(&report)), (CopyState::Failed, "target/no-space"));
    assert!(report.disks[0].error.as_ref().unwrap().detail.contains("free space"));
    assert_eq!(report.disks[0].source_root, None);
    assert_eq!(report.disks[0].change_id, None, "trap C29");
}

#[tokio::test]
async fn a_target_that_cannot_write_is_told_from_a_source_that_cannot_read() {
    let report = outcome(memory(content(1)), faulty(FaultPlan::IoErrorAt(1))).await.unwrap();
    assert_eq!(code(&report), "target/write-failed");
    let source = FaultyDevice::new(memory(content(1)), FaultPlan::IoErrorAt(2));
    let target = memory(vec![0; content(1).len()]);
    let report = outcome(Arc::new(source), target).await.unwrap();
    assert_eq!(code(&report), "source/read-failed");
}

#[tokio::test]
async fn a_target_of_another_size_gets_no_byte_trap_d7() {
    let target = memory(vec![0; content(1).len() + 65_536]);
    let report = outcome(memory(content(1)), target.clone()).await.unwrap();
    assert_eq!(code(&report), "target/capacity-mismatch");
    assert!(target.snapshot().iter().all(|it| *it == 0));
}

#[tokio::test]
async fn a_target_that_is_not_there_is_said() {
    let hub = Hub::start().await.unwrap();
    let source = memory(content(1));
    let disk = full_disk("disk-2000", content(1).len(), hub.target("nobody"));
    let jobs = jobs(MemorySource::with(vec![("disk-2000", source as Arc<dyn BlockDevice>)]));
    jobs.start(copying("job", vec![disk])).await.unwrap();
    let report = ended(&jobs, "job").await.unwrap();
    assert_eq!(code(&report), "target/unreachable");
}

#[tokio::test]
async fn a_target_that_vanishes_ends_the_copy() {
    let mut hub = Hub::start().await.unwrap();
    let gate = Arc::new(Semaphore::new(1));
    let source = GatedDevice { inner: memory(content(1)), gate: gate.clone() };
    let target = hub.offer("disk", memory(vec![0; content(1).len()])).unwrap();
    let disk = full_disk("disk-2000", content(1).len(), target);
    let jobs = jobs(MemorySource::with(vec![("disk-2000", Arc::new(source) as _)]));
    jobs.start(copying("job", vec![disk])).await.unwrap();
    let sent = || jobs.report("job").is_some_and(|it| it.disks[0].bytes_sent > 0);
    until("bytes are sent", sent).await.unwrap();
    hub.withdraw("disk");
    gate.add_permits(1000);
    let report = ended(&jobs, "job").await.unwrap();
    assert_eq!((report.state, code(&report)), (CopyState::Failed, "target/gone"));
}

/// Promise P5: the hub's port is away for a moment in the middle of a copy, with nobody's bytes lost.
#[tokio::test]
async fn p5_a_connection_that_is_cut_is_dialled_again_and_the_copy_goes_on() {
    let mut hub = Hub::start().await.unwrap();
    let gate = Arc::new(Semaphore::new(1));
    let source = GatedDevice { inner: memory(content(1)), gate: gate.clone() };
    let image = memory(vec![0; content(1).len()]);
    let target = hub.offer("disk", image.clone()).unwrap();
    let disk = full_disk("disk-2000", content(1).len(), target);
    let jobs = jobs(MemorySource::with(vec![("disk-2000", Arc::new(source) as _)]));
    jobs.start(copying("job", vec![disk])).await.unwrap();
    let sent = || jobs.report("job").is_some_and(|it| it.disks[0].bytes_sent > 0);
    until("bytes are sent", sent).await.unwrap();
    hub.cut().await.unwrap();
    gate.add_permits(1000);
    let report = ended(&jobs, "job").await.unwrap();
    let disk = &report.disks[0];
    assert_eq!((report.state, disk.reconnects), (CopyState::Succeeded, 1), "{report:?}");
    assert!(disk.bytes_sent >= disk.bytes_sent_again, "{report:?}");
    assert!(image.snapshot() == content(1));
}

#[tokio::test]
async fn cancelling_ends_a_job_that_is_stuck_promise_p9() {
    let mut hub = Hub::start().await.unwrap();
    let stuck = GatedDevice { inner: memory(content(1)), gate: Arc::new(Semaphore::new(0)) };
    let source = MemorySource::with(vec![("disk-2000", Arc::new(stuck) as _)]);
    let open = source.open.clone();
    let target = hub.offer("disk", memory(vec![0; content(1).len()])).unwrap();
    let jobs = jobs(source);
    let disk = full_disk("disk-2000", content(1).len(), target);
    jobs.start(copying("job", vec![disk])).await.unwrap();
    until("the target is in use", || hub.sessions("disk") > 0).await.unwrap();
    jobs.cancel("job").unwrap();
    let report = ended(&jobs, "job").await.unwrap();
    assert_eq!(report.state, CopyState::Cancelled);
    assert_eq!(open.load(Ordering::SeqCst), 0, "nothing is left open");
    until("the target is free", || hub.sessions("disk") == 0).await.unwrap();
    assert_eq!(jobs.cancel("job").unwrap(), report, "a job that has ended stays as it is");
}

#[tokio::test]
async fn shutting_down_cancels_what_runs() {
    let mut hub = Hub::start().await.unwrap();
    let stuck = GatedDevice { inner: memory(content(1)), gate: Arc::new(Semaphore::new(0)) };
    let target = hub.offer("disk", memory(vec![0; content(1).len()])).unwrap();
    let jobs = jobs(MemorySource::with(vec![("disk-2000", Arc::new(stuck) as _)]));
    let disk = full_disk("disk-2000", content(1).len(), target);
    jobs.start(copying("job", vec![disk.clone()])).await.unwrap();
    jobs.shut_down(Duration::from_secs(120)).await;
    assert_eq!(jobs.report("job").unwrap().state, CopyState::Cancelled);
    let refused = jobs.start(copying("late", vec![disk])).await.unwrap_err();
    assert!(matches!(refused, crate::jobs::StartError::Stopping));
}

#[tokio::test]
async fn a_layer_that_changed_while_it_was_read_is_no_success() {
    let mut hub = Hub::start().await.unwrap();
    let target = hub.offer("disk", memory(vec![0; content(1).len()])).unwrap();
    let mut source = MemorySource::with(vec![("disk-2000", memory(content(1)) as _)]);
    source.spoiled = true;
    let jobs = jobs(source);
    let disk = full_disk("disk-2000", content(1).len(), target);
    jobs.start(copying("job", vec![disk])).await.unwrap();
    let report = ended(&jobs, "job").await.unwrap();
    assert_eq!((report.state, code(&report)), (CopyState::Failed, "source/changed-while-reading"));
}

#[tokio::test]
async fn a_parent_that_is_not_the_promised_one_is_refused() {
    let mut hub = Hub::start().await.unwrap();
    let target = hub.offer("disk", memory(vec![0; content(1).len()])).unwrap();
    let mut parent = hub.parent(&content(1)).await.unwrap();
    parent.root = parent.root.replace(['0', '1', '2', '3'], "4");
    let disk = CopyDisk {
        method: CopyMethod::ByDigest,
        parent: Some(parent),
        ..full_disk("disk-2000", content(1).len(), target)
    };
    let jobs = jobs(MemorySource::with(vec![("disk-2000", memory(content(1)) as _)]));
    jobs.start(copying("job", vec![disk])).await.unwrap();
    let report = ended(&jobs, "job").await.unwrap();
    assert_eq!(code(&report), "copy/parent-manifest-mismatch");
}

#[tokio::test]
async fn one_disk_that_fails_does_not_stop_the_others() {
    let mut hub = Hub::start().await.unwrap();
    let size = content(1).len();
    let image = memory(vec![0; size]);
    let disks = vec![
        full_disk("disk-2000", size, hub.offer("a", faulty(FaultPlan::NoSpaceFrom(1))).unwrap()),
        full_disk("disk-2001", size, hub.offer("b", image.clone()).unwrap()),
    ];
    let jobs = jobs(MemorySource::with(vec![
        ("disk-2000", memory(content(1)) as Arc<dyn BlockDevice>),
        ("disk-2001", memory(content(2))),
    ]));
    jobs.start(copying("job", disks)).await.unwrap();
    let report = ended(&jobs, "job").await.unwrap();
    let states: Vec<_> = report.disks.iter().map(|it| it.state).collect();
    assert_eq!(states, [CopyState::Failed, CopyState::Succeeded]);
    assert_eq!(report.state, CopyState::Failed);
    assert!(image.snapshot() == content(2));
}

#[tokio::test]
async fn a_panic_ends_its_job_and_nothing_else() {
    let mut hub = Hub::start().await.unwrap();
    let target = hub.offer("disk", memory(vec![0; content(1).len()])).unwrap();
    let mut source = MemorySource::with(vec![("disk-2000", memory(content(1)) as _)]);
    source.panics = true;
    let jobs = jobs(source);
    let disk = full_disk("disk-2000", content(1).len(), target);
    jobs.start(copying("job", vec![disk])).await.unwrap();
    let report = ended(&jobs, "job").await.unwrap();
    assert_eq!((report.state, code(&report)), (CopyState::Failed, "internal"));
    assert_eq!(report.error.unwrap().code, "internal");
}
