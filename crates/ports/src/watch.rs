//! Watches a copy at a VMA until it ends, and notices when nothing happens any more.

use std::time::Duration;

use hub_domain::access::VmaNode;
use hub_domain::fault::Fault;
use hub_domain::source::{CopyStatus, DiskCopyStatus};
use tokio::time::Instant;

use crate::{Classify, CopyOrder, SourceError, SourceNode};

/// The pause after the first answer of a VMA that cannot wait; later ones are longer by half, up to the interval.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// How patient a watch is.
#[derive(Clone, Copy, Debug)]
pub struct WatchOptions {
    /// How long a VMA may wait before it answers that nothing has ended, and the longest pause between two questions.
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
    /// Disks whose end has been heard of.
    ended: usize,
    /// The next question comes no sooner, so that a VMA that answers at once is not asked without a pause.
    not_before: Instant,
    pause: Duration,
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
            ended: 0,
            not_before: now,
            pause: FIRST_PAUSE.min(options.poll_interval),
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

    /// Waits for the next report, which comes as soon as a disk has ended; `None` when the VMA did not answer this
    /// time.
    pub async fn next(&mut self) -> Result<Option<CopyStatus>, Fault> {
        tokio::time::sleep_until(self.not_before).await;
        let asked_at = Instant::now();
        let interval = self.options.poll_interval;
        match self.source.await_copy(self.node, &self.job, self.ended, interval).await {
            Ok(status) => {
                self.heard(&status);
                self.pace(&status, asked_at);
                if !status.phase.is_terminal()
                    && self.moved_at.elapsed() >= self.options.stall_timeout
                {
                    return Err(self.stalled());
                }
                Ok(Some(status))
            }
            Err(error) => {
                self.not_before = asked_at + interval;
                self.not_heard(&error, asked_at).map(|()| None)
            }
        }
    }

    /// News may be followed by more at once; without news the pause counts from the question, so that a VMA that has
    /// waited is asked again at once, too.
    fn pace(&mut self, status: &CopyStatus, asked_at: Instant) {
        let ended = status.disks.iter().filter(|disk| disk.phase.is_terminal()).count();
        if ended > self.ended {
            self.ended = ended;
            self.not_before = asked_at;
            return;
        }
        self.not_before = asked_at + self.pause;
        self.pause = (self.pause * 3 / 2).min(self.options.poll_interval);
    }

    fn heard(&mut self, status: &CopyStatus) {
        self.silent_since = None;
        // A copy that a limit holds back is alive, however little it sends.
        let held = |disk: &DiskCopyStatus| u64::try_from(disk.held_back.as_millis()).unwrap_or(0);
        let counters =
            |disk: &DiskCopyStatus| [disk.bytes.done, disk.bytes.read, disk.bytes.sent, held(disk)];
        let moved = status.disks.iter().flat_map(counters).fold(0_u64, u64::saturating_add);
        // So is one that waits for its source, unless a disk has begun: that one has to move. A VMA bounds each such
        // wait itself: its calls and tasks have deadlines, and the jobs that others wait for are watched like this one.
        if moved > self.moved || status.only_waits() {
            self.moved = self.moved.max(moved);
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
                "the copy at the VMA {} made no progress for {} seconds; look at its log, at the source's storage and at the network between VMA and hub",
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
mod tests;
