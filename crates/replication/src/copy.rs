//! The copy at the VMA: ordered once for all disks, watched, and stopped.

use std::time::Duration;

use hub_domain::access::VmaNode;
use hub_domain::ids::ReplicationJobId;
use hub_domain::source::CopyStatus;
use hub_ports::{CopyKind, CopyOrder, SourceError};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::disk_run::{Verdict, verdict};
use crate::engine::Replication;
use crate::fault::RunFault;
use crate::run::{Run, Stop};
use crate::targets::{When, stoppable};

impl Replication {
    /// Orders one copy of all disks, so that they are of one instant (trap D6).
    pub(crate) async fn start_copy(
        &self,
        run: &mut Run,
        cancel: &CancellationToken,
    ) -> Result<CopyStatus, Stop> {
        let order = CopyOrder {
            kind: CopyKind::Replication,
            job: run.id.to_string(),
            vm: run.route.vmware_vm_id.clone(),
            credential: run.route.credential.clone(),
            disks: run.disks.iter().filter_map(|disk| disk.order()).collect(),
        };
        // An order whose answer is lost may have been accepted.
        run.at_vma = true;
        let node = &run.route.node;
        // The same job is the same copy, so the order may be sent again.
        self.persist(cancel, || self.source.start_copy(node, &order)).await
    }

    /// Watches a copy until it has ended and every replica is sealed.
    pub(crate) async fn follow(
        &self,
        run: &mut Run,
        first: CopyStatus,
        cancel: &CancellationToken,
    ) -> Result<(), Stop> {
        let job = run.id.to_string();
        let mut status = first;
        let mut moved = Instant::now();
        loop {
            let progress = take(run, &status);
            run.at_vma = !status.phase.is_terminal();
            let settled = self.settle(run, &status, cancel).await?;
            if status.phase.is_terminal() {
                return judge(run, &status);
            }
            if progress || settled {
                moved = Instant::now();
            } else if moved.elapsed() >= self.options.stall_timeout {
                let seconds = self.options.stall_timeout.as_secs();
                return Err(Stop::of(&RunFault::Stalled { seconds }));
            }
            self.save_progress(run, if settled { When::Now } else { When::Due }).await?;
            stoppable(cancel, sleep(self.options.poll_interval)).await?;
            let node = &run.route.node;
            status = self.persist(cancel, || self.source.copy_status(node, &job)).await?;
        }
    }

    /// Asks a VMA until it answers; one that is out of reach for too long has failed, and so has any other error.
    async fn persist<F, Fut>(&self, cancel: &CancellationToken, call: F) -> Result<CopyStatus, Stop>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<CopyStatus, SourceError>>,
    {
        let mut lost: Option<Instant> = None;
        loop {
            let error = match stoppable(cancel, call()).await? {
                Ok(status) => return Ok(status),
                Err(error) => error,
            };
            let since = *lost.get_or_insert_with(Instant::now);
            let bearable = matches!(error, SourceError::Unreachable { .. })
                && since.elapsed() < self.options.unreachable_timeout;
            if !bearable {
                return Err(Stop::Fault(error.to_fault()));
            }
            tracing::debug!(error = %error, "a VMA is out of reach; it is asked again");
            stoppable(cancel, sleep(self.options.poll_interval)).await?;
        }
    }

    /// Asks a VMA to end a copy and waits until it has, for a limited time: targets are closed afterwards anyway,
    /// and a copy without targets ends by itself.
    pub(crate) async fn stop_copy(&self, id: ReplicationJobId, node: &VmaNode) {
        let job = id.to_string();
        let stopped = timeout(self.options.cancel_timeout, self.until_stopped(&job, node)).await;
        let error = match stopped {
            Ok(Ok(()) | Err(SourceError::UnknownJob { .. })) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it did not answer in time".to_owned(),
        };
        tracing::warn!(job.id = %id, vma.name = node.name, error, "a VMA could not be told to end a copy");
    }

    async fn until_stopped(&self, job: &str, node: &VmaNode) -> Result<(), SourceError> {
        /// A VMA that was asked to end a copy does so at once.
        const PAUSE: Duration = Duration::from_millis(100);
        loop {
            match self.source.cancel_copy(node, job).await {
                Ok(()) => break,
                Err(SourceError::Unreachable { .. }) => sleep(PAUSE).await,
                Err(error) => return Err(error),
            }
        }
        loop {
            match self.source.copy_status(node, job).await {
                Ok(status) if status.phase.is_terminal() => return Ok(()),
                Ok(_) | Err(SourceError::Unreachable { .. }) => sleep(PAUSE).await,
                Err(error) => return Err(error),
            }
        }
    }
}

/// Takes over what a VMA reports; whether any byte has moved.
fn take(run: &mut Run, status: &CopyStatus) -> bool {
    let mut moved = false;
    for report in &status.disks {
        for disk in run.disks.iter_mut().filter(|disk| disk.record.key == report.key) {
            moved |= disk.take(report);
        }
    }
    moved
}

fn judge(run: &Run, status: &CopyStatus) -> Result<(), Stop> {
    match verdict(&run.disks, status) {
        Verdict::Complete => Ok(()),
        Verdict::Failed(fault) => Err(Stop::Fault(fault)),
        Verdict::StoppedAtVma => Err(Stop::of(&RunFault::StoppedAtVma)),
        Verdict::Unexplained => {
            let url = run.route.node.url.clone();
            let detail = "a copy ended without every disk and without a reason".to_owned();
            Err(Stop::of(&SourceError::Garbled { url, detail }))
        }
    }
}
