//! Nodes that never move, that never answer, that wait and that cannot.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use hub_domain::disk::DiskKey;
use hub_domain::ids::VmaNodeId;
use hub_domain::inventory::SeenInventory;
use hub_domain::source::{CopyBytes, CopyPhase};
use hub_domain::time::Timestamp;
use uuid::Uuid;

use super::*;
use crate::{CopyKind, InventoryQuery, NodeIdentity};

/// A VMA that accepts everything, and whose copies never move.
struct Stuck {
    reachable: AtomicBool,
}

impl Stuck {
    fn answer(&self, node: &VmaNode) -> Result<CopyStatus, SourceError> {
        if self.reachable.load(Ordering::Relaxed) {
            return Ok(CopyStatus {
                phase: CopyPhase::Running,
                waiting: None,
                disks: Vec::new(),
                fault: None,
                quiescence: None,
                snapshot_is_gone: false,
            });
        }
        Err(SourceError::Unreachable { url: node.url.clone(), detail: "refused".to_owned() })
    }
}

#[async_trait]
impl SourceNode for Stuck {
    async fn identify(&self, node: &VmaNode) -> Result<NodeIdentity, SourceError> {
        Err(SourceError::NotTheNode { url: node.url.clone() })
    }

    async fn inventory(
        &self,
        node: &VmaNode,
        _: &InventoryQuery,
    ) -> Result<SeenInventory, SourceError> {
        Err(SourceError::NotTheNode { url: node.url.clone() })
    }

    async fn start_copy(&self, node: &VmaNode, _: &CopyOrder) -> Result<CopyStatus, SourceError> {
        self.answer(node)
    }

    async fn copy_status(&self, node: &VmaNode, _: &str) -> Result<CopyStatus, SourceError> {
        self.answer(node)
    }

    async fn cancel_copy(&self, node: &VmaNode, _: &str) -> Result<(), SourceError> {
        self.answer(node).map(|_| ())
    }
}

fn node() -> VmaNode {
    VmaNode {
        id: VmaNodeId::from_uuid(Uuid::nil()),
        name: "vma1".to_owned(),
        url: "http://vma1".to_owned(),
        token: "token".into(),
        source_kind: "folder".to_owned(),
        source: Default::default(),
        limits: Default::default(),
        created_at: Timestamp::UNIX_EPOCH,
    }
}

fn order() -> CopyOrder {
    let (job, vm) = ("1".to_owned(), "vm-1".to_owned());
    CopyOrder {
        vcenter_uuid: None,
        kind: CopyKind::Backup,
        job,
        vm,
        credential: None,
        disks: Vec::new(),
        quiesce: None,
        rates: Default::default(),
    }
}

/// A VMA that answers at once, and whose only disk ends after a while.
struct Hasty {
    ends_at: Instant,
    waits: bool,
    /// Since when a limit holds it back, if one does.
    held_since: Option<Instant>,
    /// The phase of its disk while it says that it waits, if it does.
    waits_for: Option<CopyPhase>,
    asked: AtomicUsize,
}

#[async_trait]
impl SourceNode for Hasty {
    async fn identify(&self, node: &VmaNode) -> Result<NodeIdentity, SourceError> {
        Err(SourceError::NotTheNode { url: node.url.clone() })
    }

    async fn inventory(
        &self,
        node: &VmaNode,
        _: &InventoryQuery,
    ) -> Result<SeenInventory, SourceError> {
        Err(SourceError::NotTheNode { url: node.url.clone() })
    }

    async fn start_copy(
        &self,
        node: &VmaNode,
        order: &CopyOrder,
    ) -> Result<CopyStatus, SourceError> {
        self.copy_status(node, &order.job).await
    }

    async fn copy_status(&self, _: &VmaNode, _: &str) -> Result<CopyStatus, SourceError> {
        let over = Instant::now() >= self.ends_at;
        let phase = if over { CopyPhase::Succeeded } else { CopyPhase::Running };
        let phase = if over { phase } else { self.waits_for.unwrap_or(phase) };
        let disk = DiskCopyStatus {
            key: DiskKey::new("disk-2000").unwrap(),
            phase,
            method: "full".to_owned(),
            method_reason: None,
            read_by: None,
            bytes: CopyBytes::default(),
            held_back: self.held_since.map_or(Duration::ZERO, |since| since.elapsed()),
            audit: None,
            change_id: None,
            source_root: None,
            fault: None,
        };
        let waiting = self.waits_for.map(|_| "waits for a place at host a".to_owned());
        Ok(CopyStatus {
            phase,
            waiting,
            disks: vec![disk],
            fault: None,
            quiescence: None,
            snapshot_is_gone: false,
        })
    }

    async fn await_copy(
        &self,
        node: &VmaNode,
        job: &str,
        ended: usize,
        patience: Duration,
    ) -> Result<CopyStatus, SourceError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.waits && ended == 0 {
            tokio::time::sleep_until(self.ends_at.min(Instant::now() + patience)).await;
        }
        self.copy_status(node, job).await
    }

    async fn cancel_copy(&self, _: &VmaNode, _: &str) -> Result<(), SourceError> {
        Ok(())
    }
}

/// A VMA that cannot wait, and whose disk nothing holds up.
fn hasty(ends_at: Instant) -> Hasty {
    Hasty { ends_at, waits: false, held_since: None, waits_for: None, asked: AtomicUsize::new(0) }
}

/// How long after its end a copy of this length is seen to have ended, and after how many questions.
async fn seen_after(length: Duration, waits: bool) -> (Duration, usize) {
    let ends_at = Instant::now() + length;
    let source = Hasty { waits, ..hasty(ends_at) };
    let node = node();
    let options = WatchOptions::default();
    let mut watch = CopyWatch::start(&source, &node, &order(), options).await.ok().unwrap();
    while !watch.next().await.unwrap().is_some_and(|it| it.phase.is_terminal()) {}
    (ends_at.elapsed(), source.asked.load(Ordering::Relaxed))
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_copy_is_seen_when_it_comes() {
    let grain = Duration::from_millis(2);
    for millis in [0, 20, 299, 300, 1_000, 60_000] {
        let length = Duration::from_millis(millis);
        let (late, asked) = seen_after(length, true).await;
        assert!(late <= grain, "{late:?} after {length:?}");
        assert!(asked <= 2 + usize::try_from(millis / 300).unwrap(), "{asked}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_vma_that_cannot_wait_is_asked_in_growing_pauses() {
    for millis in [0, 20, 200, 1_000, 60_000] {
        let length = Duration::from_millis(millis);
        let (late, asked) = seen_after(length, false).await;
        let bound = (FIRST_PAUSE + length / 2).min(WatchOptions::default().poll_interval);
        assert!(late <= bound + Duration::from_millis(2), "{late:?} after {length:?}");
        assert!(asked <= 12 + usize::try_from(millis / 300).unwrap(), "{asked}");
    }
}

#[tokio::test(start_paused = true)]
async fn trap_u29_a_copy_that_does_not_move_is_noticed_in_bounded_time() {
    let (source, node) = (Stuck { reachable: AtomicBool::new(true) }, node());
    let options = WatchOptions::default();
    let began = Instant::now();
    let mut watch = CopyWatch::start(&source, &node, &order(), options).await.ok().unwrap();
    let fault = loop {
        if let Err(fault) = watch.next().await {
            break fault;
        }
    };
    assert_eq!(fault.code, "vma/stalled");
    assert!(began.elapsed() <= options.stall_timeout + 2 * options.poll_interval);
    stop_copy(&source, &node, "1", options).await;
}

#[tokio::test(start_paused = true)]
async fn a_vma_that_does_not_answer_is_given_up_on_in_bounded_time() {
    let (source, node) = (Stuck { reachable: AtomicBool::new(false) }, node());
    let options = WatchOptions::default();
    let began = Instant::now();
    let fault = CopyWatch::start(&source, &node, &order(), options).await.err();
    assert_eq!(fault.map(|fault| fault.code), Some("vma/unreachable".to_owned()));
    assert!(began.elapsed() <= options.unreachable_timeout + options.poll_interval);
}

#[tokio::test(start_paused = true)]
async fn a_vma_is_silent_only_since_it_was_asked_in_vain() {
    let (source, node) = (Stuck { reachable: AtomicBool::new(true) }, node());
    let mut watch =
        CopyWatch::start(&source, &node, &order(), WatchOptions::default()).await.ok().unwrap();
    // The hub was busy with an image for longer than a VMA may be silent.
    tokio::time::sleep(Duration::from_secs(60)).await;
    source.reachable.store(false, Ordering::Relaxed);
    assert_eq!(watch.next().await, Ok(None), "one answer was lost");
    source.reachable.store(true, Ordering::Relaxed);
    assert!(watch.next().await.is_ok());
}

/// How the watch of a copy that takes longer than one may stall ends.
async fn watched(change: impl FnOnce(&mut Hasty)) -> Result<(), String> {
    let options = WatchOptions::default();
    let (mut source, node) = (hasty(Instant::now() + 5 * options.stall_timeout), node());
    change(&mut source);
    let mut watch = CopyWatch::start(&source, &node, &order(), options).await.ok().unwrap();
    loop {
        match watch.next().await {
            Ok(Some(status)) if status.phase.is_terminal() => return Ok(()),
            Ok(_) => (),
            Err(fault) => return Err(fault.code),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_a_limit_holds_back_is_not_taken_for_a_stalled_one() {
    let held = watched(|it| it.held_since = Some(Instant::now())).await;
    assert_eq!(held, Ok(()));
    assert_eq!(watched(|_| ()).await, Err("vma/stalled".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_waits_for_its_source_is_stalled_only_where_a_disk_has_begun() {
    let queued = watched(|it| it.waits_for = Some(CopyPhase::Queued)).await;
    assert_eq!(queued, Ok(()), "others may read from the host for hours");
    // Its own disk holds the place that the next one waits for, so waiting does not say that all is well.
    let begun = watched(|it| it.waits_for = Some(CopyPhase::Running)).await;
    assert_eq!(begun, Err("vma/stalled".to_owned()));
}
