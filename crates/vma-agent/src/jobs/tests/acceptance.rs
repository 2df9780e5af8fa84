//! Which requests become jobs, and how often.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hub_block::BlockDevice;
use hub_vma_api::{
    CopyDisk, CopyMethod, CopyReport, CopyRequest, CopyState, NbdTarget, ParentManifest,
};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::jobs;
use crate::doubles::{
    BLOCK, GatedDevice, Hub, MemorySource, Stop, copying, ended, full_disk, memory,
};
use crate::fixture::content;
use crate::jobs::request::ValidRequest;
use crate::jobs::{Jobs, JobsOptions, StartError};

fn target(name: &str) -> NbdTarget {
    NbdTarget { host: "127.0.0.1".to_owned(), port: 1, export: name.to_owned(), tls: None }
}

fn code(request: CopyRequest) -> &'static str {
    ValidRequest::new(request).map_or_else(|it| it.code, |_| "accepted")
}

fn parent(capacity_bytes: u64) -> ParentManifest {
    let root = "00".repeat(32);
    ParentManifest { target: target("m"), block_size: BLOCK, capacity_bytes, root }
}

#[test]
fn requests_that_contradict_themselves_are_refused_traps_d2_and_d8() {
    let good = full_disk("disk-2000", 4096, target("a"));
    let one = |disk: CopyDisk| code(copying("job", vec![disk]));
    assert_eq!(one(good.clone()), "accepted");
    assert_eq!(code(copying("job", Vec::new())), "copy/invalid-disk-count");
    for id in ["", "a/b", "a b", "ü", &"x".repeat(129)] {
        assert_eq!(code(copying(id, vec![good.clone()])), "copy/invalid-job-id");
    }
    let twice = vec![good.clone(), full_disk("disk-2000", 4096, target("b"))];
    assert_eq!(code(copying("job", twice)), "copy/duplicate-disk");
    let same = vec![good.clone(), full_disk("disk-2001", 4096, target("a"))];
    assert_eq!(code(copying("job", same)), "copy/duplicate-target");
    assert_eq!(one(full_disk("disk-2000", 0, target("a"))), "copy/invalid-capacity");
    assert_eq!(one(full_disk("disk-2000", 1 << 51, target("a"))), "copy/invalid-capacity");
    assert_eq!(one(full_disk("disk-2000", 1, target(""))), "copy/invalid-target");
    for block_size in [0, 1, 65_537, u32::MAX] {
        assert_eq!(one(CopyDisk { block_size, ..good.clone() }), "copy/invalid-block-size");
    }
    let later = CopyDisk { method: CopyMethod::ByDigest, ..good };
    assert_eq!(one(later.clone()), "copy/parent-required");
    let with = |it: ParentManifest| CopyDisk { parent: Some(it), ..later.clone() };
    assert_eq!(one(with(parent(4096))), "accepted");
    assert_eq!(one(with(parent(4097))), "copy/parent-larger");
    let other = ParentManifest { block_size: BLOCK * 2, ..parent(4096) };
    assert_eq!(one(with(other)), "copy/parent-block-size");
    let rubbish = ParentManifest { root: "no".to_owned(), ..parent(4096) };
    assert_eq!(one(with(rubbish)), "copy/invalid-parent-root");
}

/// Some releases of ESXi lose changes of a disk that has grown, so the source is told.
#[test]
fn what_is_opened_is_the_disk_of_the_order_and_grown_where_its_parent_is_smaller() {
    let opened = |capacity: Option<u64>| {
        let disk = CopyDisk {
            parent: capacity.map(parent),
            backing_uuid: Some("6000c29".to_owned()),
            ..full_disk("disk-2000", 4096, target("a"))
        };
        ValidRequest::new(copying("job", vec![disk])).unwrap().to_open()
    };
    assert_eq!(opened(None).disks[0].backing_uuid.as_deref(), Some("6000c29"));
    assert!(opened(None).grown().is_empty() && opened(Some(4096)).grown().is_empty());
    assert_eq!(opened(Some(2048)).grown(), ["disk-2000".to_owned()].into());
}

#[tokio::test]
async fn a_vm_or_disk_that_is_unknown_is_refused_at_once_trap_c33() {
    let jobs = jobs(MemorySource::with(vec![("disk-2000", memory(content(1)) as _)]));
    let mut request = copying("job", vec![full_disk("disk-2001", 4096, target("a"))]);
    let refused = jobs.start(request.clone()).await.unwrap_err();
    assert!(matches!(refused, StartError::Source(it) if it.code() == "source/disk-not-found"));
    request.vm_id = "other".to_owned();
    let refused = jobs.start(request).await.unwrap_err();
    assert!(matches!(refused, StartError::Source(it) if it.code() == "source/vm-not-found"));
    assert_eq!(jobs.report("job"), None);
}

/// A source that takes its time costs no run: the order is a job then, and what is refused late ends it by that name.
#[tokio::test]
async fn an_order_does_not_wait_for_a_source_that_is_slow() {
    let mut hub = Hub::start().await.unwrap();
    let export = hub.offer("disk", memory(vec![0; content(1).len()])).unwrap();
    let disk = full_disk("disk-2000", content(1).len(), export);
    let stranger =
        CopyRequest { vm_id: "other".to_owned(), ..copying("refused", vec![disk.clone()]) };
    for (request, code) in
        [(copying("good", vec![disk]), None), (stranger, Some("source/vm-not-found"))]
    {
        let held = Stop::new();
        let mut source = MemorySource::with(vec![("disk-2000", memory(content(1)) as _)]);
        source.checking = Some(held.clone());
        let opened = source.opened.clone();
        let options = JobsOptions { check_within: Duration::ZERO, ..JobsOptions::default() };
        let jobs = Jobs::new(Arc::new(source), options, CancellationToken::new());
        let accepted = timeout(Duration::from_secs(60), jobs.start(request.clone())).await;
        let accepted = accepted.expect("it waits for its source").unwrap();
        assert_eq!(accepted.state, CopyState::Queued);
        held.is_reached().await.unwrap();
        assert!(jobs.is_at_work(&request.job_id));
        assert_eq!(jobs.start(request.clone()).await.unwrap(), accepted, "it is one job");
        assert_eq!(opened.load(Ordering::SeqCst), 0, "nothing is opened before it is looked at");
        held.go_on();
        let ended = ended(&jobs, &request.job_id).await.unwrap();
        assert_eq!(ended.error.map(|it| it.code).as_deref(), code);
        assert_eq!(opened.load(Ordering::SeqCst), usize::from(code.is_none()));
    }
}

#[tokio::test]
async fn fifty_equal_starts_at_once_make_one_job_promise_p8() {
    let mut hub = Hub::start().await.unwrap();
    let source = MemorySource::with(vec![("disk-2000", memory(content(1)) as _)]);
    let opened = source.opened.clone();
    let image = memory(vec![0; content(1).len()]);
    let export = hub.offer("disk", image.clone()).unwrap();
    let jobs = Arc::new(jobs(source));
    let request = copying("job", vec![full_disk("disk-2000", content(1).len(), export)]);
    let mut starts = JoinSet::new();
    for _ in 0..50 {
        let (jobs, request) = (jobs.clone(), request.clone());
        starts.spawn(async move { jobs.start(request).await.map(|it| it.job_id) });
    }
    while let Some(started) = starts.join_next().await {
        assert_eq!(started.unwrap().unwrap(), "job");
    }
    let report = ended(&jobs, "job").await.unwrap();
    assert_eq!(opened.load(Ordering::SeqCst), 1);
    assert_eq!(jobs.start(request.clone()).await.unwrap(), report, "an ended job is answered too");

    let mut other = request;
    other.disks[0].block_size *= 2;
    let refused = jobs.start(other).await.unwrap_err();
    assert!(matches!(refused, StartError::OtherRequest(_)));
}

#[tokio::test]
async fn there_is_a_limit_to_jobs_under_way_and_to_reports() {
    let mut hub = Hub::start().await.unwrap();
    let gate = Arc::new(Semaphore::new(0));
    let stuck = GatedDevice { inner: memory(content(1)), gate: gate.clone() };
    let source = MemorySource::with(vec![("disk-2000", Arc::new(stuck) as Arc<dyn BlockDevice>)]);
    let options = JobsOptions { max_running: 1, keep_reports: 1, ..JobsOptions::default() };
    let jobs = Jobs::new(Arc::new(source), options, CancellationToken::new());
    let mut request = |id: &str| {
        let export = hub.offer(id, memory(vec![0; content(1).len()])).unwrap();
        copying(id, vec![full_disk("disk-2000", content(1).len(), export)])
    };
    jobs.start(request("one")).await.unwrap();
    let refused = jobs.start(request("two")).await.unwrap_err();
    assert!(matches!(refused, StartError::TooMany(1)));
    gate.add_permits(10_000);
    ended(&jobs, "one").await.unwrap();
    jobs.start(request("three")).await.unwrap();
    ended(&jobs, "three").await.unwrap();
    assert_eq!(jobs.report("one"), None, "the older report is forgotten");
    assert!(jobs.report("three").is_some());
}

#[tokio::test]
async fn who_waits_for_news_is_told_of_each_end_when_it_comes() {
    let mut hub = Hub::start().await.unwrap();
    let gate = Arc::new(Semaphore::new(0));
    let stuck = GatedDevice { inner: memory(content(1)), gate: gate.clone() };
    let source = MemorySource::with(vec![
        ("disk-2000", memory(content(1)) as Arc<dyn BlockDevice>),
        ("disk-2001", Arc::new(stuck)),
    ]);
    let jobs = jobs(source);
    let mut disk = |key: &str| {
        let export = hub.offer(key, memory(vec![0; content(1).len()])).unwrap();
        full_disk(key, content(1).len(), export)
    };
    let disks = vec![disk("disk-2000"), disk("disk-2001")];
    jobs.start(copying("job", disks)).await.unwrap();
    let ends = |report: CopyReport| report.disks.iter().filter(|it| it.state.is_terminal()).count();
    let patient = |ended| {
        let told = jobs.report_after("job", ended, Duration::MAX);
        async { timeout(Duration::from_secs(120), told).await.unwrap().unwrap() }
    };
    assert_eq!(ends(patient(0).await), 1);
    assert_eq!(ends(patient(0).await), 1, "old news are told at once");
    let unmoved = jobs.report_after("job", 1, Duration::from_millis(1)).await.unwrap();
    assert_eq!(ends(unmoved), 1, "patience ends");
    gate.add_permits(10_000);
    assert_eq!(ends(patient(1).await), 2);
    assert_eq!(patient(2).await.state, CopyState::Succeeded, "the whole job ends");
    assert_eq!(jobs.report_after("none", 0, Duration::MAX).await, None);
}
