//! Watches a copy at a VMA until it ends, and notices when nothing happens any more.

use std::time::Duration;

use hub_domain::access::VmaNode;
use hub_domain::fault::Fault;
use hub_domain::source::{CopyStatus, DiskCopyStatus};
use tokio::time::Instant;

use crate::{Classify, CopyOrder, SourceError, SourceNode};

/// How patient a watch is.
#[derive(Clone, Copy, Debug)]
pub struct WatchOptions {
    /// Time between two questions.
    pub poll_interval: Duration,
    /// How long a copy may make no progress.
    pub stall_timeout: Duration,
    /// How long a VMA may not answer.
    pub unreachable_timeout: Duration,
    /// How long a copy that was asked to stop may take for it.
    pub stop_timeout: Duration,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self {
            poll_interval: Duration::from_millis(300),
            stall_timeout: Duration::from_secs(120),
            unreachable_timeout: Duration::from_secs(30),
            stop_timeout: Duration::from_secs(5),
        }
    }
}

/// Watches one copy; every wait in it is bounded, and dropping a future of it leaves the copy as it is.
pub struct CopyWatch<'a> {
    source: &'a dyn SourceNode,
    node: &'a VmaNode,
    job: String,
    options: WatchOptions,
    /// Since when it has been asked in vain; a hub that was busy elsewhere has not asked.
    silent_since: Option<Instant>,
    moved_at: Instant,
    moved: u64,
}

impl<'a> CopyWatch<'a> {
    /// Orders a copy and watches it; a VMA that does not answer is asked again, since one order twice is one copy.
    pub async fn start(
        source: &'a dyn SourceNode,
        node: &'a VmaNode,
        order: &CopyOrder,
        options: WatchOptions,
    ) -> Result<Self, Fault> {
        let now = Instant::now();
        let mut watch = Self {
            source,
            node,
            job: order.job.clone(),
            options,
            silent_since: None,
            moved_at: now,
            moved: 0,
        };
        loop {
            let asked_at = Instant::now();
            match source.start_copy(node, order).await {
                Ok(status) => {
                    watch.heard(&status);
                    return Ok(watch);
                }
                Err(error) => watch.not_heard(&error, asked_at)?,
            }
            tokio::time::sleep(options.poll_interval).await;
        }
    }

    /// Waits for the next report; `None` when the VMA did not answer this time.
    pub async fn next(&mut self) -> Result<Option<CopyStatus>, Fault> {
        tokio::time::sleep(self.options.poll_interval).await;
        let asked_at = Instant::now();
        match self.source.copy_status(self.node, &self.job).await {
            Ok(status) => {
                self.heard(&status);
                if !status.phase.is_terminal()
                    && self.moved_at.elapsed() >= self.options.stall_timeout
                {
                    return Err(self.stalled());
                }
                Ok(Some(status))
            }
            Err(error) => self.not_heard(&error, asked_at).map(|()| None),
        }
    }

    fn heard(&mut self, status: &CopyStatus) {
        self.silent_since = None;
        let counters = |disk: &DiskCopyStatus| [disk.bytes.done, disk.bytes.read, disk.bytes.sent];
        let moved = status.disks.iter().flat_map(counters).fold(0_u64, u64::saturating_add);
        if moved > self.moved {
            self.moved = moved;
            self.moved_at = Instant::now();
        }
    }

    /// A VMA that cannot be reached may come back; everything else is final.
    fn not_heard(&mut self, error: &SourceError, asked_at: Instant) -> Result<(), Fault> {
        let silent_since = *self.silent_since.get_or_insert(asked_at);
        let patient = silent_since.elapsed() < self.options.unreachable_timeout;
        if error.is_transient() && patient { Ok(()) } else { Err(error.to_fault()) }
    }

    fn stalled(&self) -> Fault {
        Fault::new(
            "vma/stalled",
            format!(
                "the copy at the VMA {} made no progress for {} seconds; look at its log and at the source's storage",
                self.node.name,
                self.options.stall_timeout.as_secs()
            ),
        )
    }
}

/// Asks a copy to stop and waits, bounded, until it has; a VMA that does not answer is given up on, since it cannot
/// write to a target that is closed.
pub async fn stop_copy(source: &dyn SourceNode, node: &VmaNode, job: &str, options: WatchOptions) {
    let stopped = async {
        // One answer that is lost is not the VMA's last word; the deadline ends this either way.
        while let Err(error) = source.cancel_copy(node, job).await {
            if !error.is_transient() {
                return;
            }
            tokio::time::sleep(options.poll_interval).await;
        }
        loop {
            match source.copy_status(node, job).await {
                Ok(status) if status.phase.is_terminal() => return,
                Err(error) if !error.is_transient() => return,
                Ok(_) | Err(_) => tokio::time::sleep(options.poll_interval).await,
            }
        }
    };
    // Not in time: the target is closed next, and the copy fails there.
    let _ = tokio::time::timeout(options.stop_timeout, stopped).await;
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use async_trait::async_trait;
    use hub_domain::ids::VmaNodeId;
    use hub_domain::inventory::SeenInventory;
    use hub_domain::source::CopyPhase;
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
                    disks: Vec::new(),
                    fault: None,
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

        async fn start_copy(
            &self,
            node: &VmaNode,
            _: &CopyOrder,
        ) -> Result<CopyStatus, SourceError> {
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
            created_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn order() -> CopyOrder {
        let (job, vm) = ("1".to_owned(), "vm-1".to_owned());
        CopyOrder { kind: CopyKind::Backup, job, vm, credential: None, disks: Vec::new() }
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
}
