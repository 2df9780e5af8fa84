//! One job as it is remembered: its states only go forward, its numbers never fall.

use std::sync::Arc;
use std::time::Instant;

use hub_data_mover::{Progress, RateLimit};
use hub_nbd::RedialCounts;
use hub_vma_api::{AuditReport, CopyReport, CopyState, DiskReport, Fault, SnapshotReport};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::copying::both;
use super::fault;
use super::request::ValidRequest;
use crate::source::ReadBy;

/// A job and the state of its disks.
pub(super) struct Job {
    id: String,
    fingerprint: blake3::Hash,
    cancel: CancellationToken,
    rate: Arc<RateLimit>,
    disks: Vec<JobDisk>,
    end: Mutex<JobEnd>,
    /// Who waits for an end is told of each.
    ends: watch::Sender<Ends>,
}

/// What has ended.
#[derive(Clone, Copy, Default)]
struct Ends {
    disks: usize,
    job: bool,
}

#[derive(Default)]
struct JobEnd {
    /// Set once, when nothing of the job is left.
    at: Option<Instant>,
    error: Option<Fault>,
    snapshot: Option<SnapshotReport>,
}

/// One disk of a job.
struct JobDisk {
    key: String,
    progress: Arc<Progress>,
    link: Arc<RedialCounts>,
    run: Mutex<DiskRun>,
}

/// What a disk's task has reported.
struct DiskRun {
    state: CopyState,
    method: &'static str,
    method_reason: Option<String>,
    read_by: Option<ReadBy>,
    audit: Option<AuditReport>,
    change_id: Option<String>,
    source_root: Option<String>,
    error: Option<Fault>,
}

/// How a disk ended.
pub(super) enum DiskEnd {
    /// The target holds the disk and has flushed it; the proof and the mark for the next run.
    Succeeded {
        source_root: String,
        change_id: Option<String>,
    },
    Failed(Fault),
    Cancelled,
}

impl Job {
    pub(super) fn new(request: &ValidRequest, cancel: CancellationToken) -> Self {
        let disk = |it: &hub_vma_api::CopyDisk| JobDisk {
            key: it.key.clone(),
            progress: Arc::new(Progress::default()),
            link: Arc::default(),
            run: Mutex::new(DiskRun {
                state: CopyState::Queued,
                method: it.method.name(),
                method_reason: None,
                read_by: None,
                audit: None,
                change_id: None,
                source_root: None,
                error: None,
            }),
        };
        Self {
            id: request.job_id().to_owned(),
            fingerprint: request.fingerprint(),
            cancel,
            rate: Arc::new(RateLimit::new(None)),
            disks: request.disks().iter().map(disk).collect(),
            end: Mutex::new(JobEnd::default()),
            ends: watch::Sender::default(),
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn is_for(&self, request: &ValidRequest) -> bool {
        self.fingerprint == request.fingerprint()
    }

    /// What the job may send.
    pub(super) fn rate(&self) -> &Arc<RateLimit> {
        &self.rate
    }

    pub(super) fn cancel(&self) {
        self.cancel.cancel();
    }

    pub(super) fn cancelled(&self) -> &CancellationToken {
        &self.cancel
    }

    /// When it ended, if it has.
    pub(super) fn ended_at(&self) -> Option<Instant> {
        self.end.lock().at
    }

    pub(super) fn progress(&self, disk: usize) -> Arc<Progress> {
        self.disks.get(disk).map(|it| it.progress.clone()).unwrap_or_default()
    }

    /// What lost connections have cost the copy of a disk.
    pub(super) fn link(&self, disk: usize) -> Arc<RedialCounts> {
        self.disks.get(disk).map(|it| it.link.clone()).unwrap_or_default()
    }

    /// A disk's turn has come.
    pub(super) fn disk_started(&self, disk: usize) {
        self.change(disk, |run| run.state = CopyState::Running);
    }

    /// The method that is really used, and why.
    pub(super) fn disk_method(&self, disk: usize, method: &'static str, reason: Option<String>) {
        self.change(disk, |run| {
            run.method = method;
            run.method_reason = reason;
        });
    }

    /// Something more that is to be known of how the disk was copied.
    pub(super) fn disk_remarked(&self, disk: usize, more: String) {
        self.change(disk, |run| run.method_reason = both(run.method_reason.take(), Some(more)));
    }

    /// The way to the disk's bytes.
    pub(super) fn disk_read_by(&self, disk: usize, read_by: Option<ReadBy>) {
        self.change(disk, |run| run.read_by = read_by);
    }

    /// What the audit of the source's word about changes has found.
    pub(super) fn disk_audited(&self, disk: usize, audit: AuditReport) {
        self.change(disk, |run| run.audit = Some(audit));
    }

    pub(super) fn disk_ended(&self, disk: usize, end: DiskEnd) {
        self.change(disk, |run| match end {
            DiskEnd::Succeeded { source_root, change_id } => {
                run.state = CopyState::Succeeded;
                run.source_root = Some(source_root);
                run.change_id = change_id;
            }
            DiskEnd::Failed(fault) => {
                run.state = CopyState::Failed;
                run.error = Some(fault);
            }
            DiskEnd::Cancelled => run.state = CopyState::Cancelled,
        });
    }

    /// Ends every disk that has not, for a cause that is not one disk's.
    pub(super) fn fail(&self, fault: &Fault) {
        for disk in 0..self.disks.len() {
            self.disk_ended(disk, DiskEnd::Failed(fault.clone()));
        }
        let mut end = self.end.lock();
        if end.at.is_none() {
            end.error = Some(fault.clone());
        }
    }

    /// What is known of the job's snapshot.
    pub(super) fn snapshot(&self, report: Option<SnapshotReport>) {
        if let Some(report) = report {
            self.end.lock().snapshot = Some(report);
        }
    }

    /// The snapshot has another state now, perhaps with a reason.
    pub(super) fn snapshot_is(&self, state: &str, reason: Option<String>) {
        let mut end = self.end.lock();
        if let Some(report) = &mut end.snapshot {
            state.clone_into(&mut report.state);
            if reason.is_some() {
                report.reason = reason;
            }
        }
    }

    pub(super) fn cancel_rest(&self) {
        for disk in 0..self.disks.len() {
            self.disk_ended(disk, DiskEnd::Cancelled);
        }
    }

    /// Nothing of the job is left; a disk that reported nothing was lost to a defect.
    pub(super) fn finish(&self) {
        if self.disks.iter().any(|it| !it.run.lock().state.is_terminal()) {
            self.fail(&fault::internal());
        }
        self.end.lock().at.get_or_insert_with(Instant::now);
        self.ends.send_modify(|ends| ends.job = true);
    }

    /// Waits until more than `known` disks have ended, or all of the job.
    pub(super) async fn news(&self, known: usize) {
        let mut ends = self.ends.subscribe();
        // The sender lives in `self`, so the wait cannot fail.
        let _ = ends.wait_for(|ends| ends.job || ends.disks > known).await;
    }

    /// The job at this moment.
    pub(super) fn report(&self) -> CopyReport {
        let (ended, error, snapshot) = {
            let end = self.end.lock();
            (end.at.is_some(), end.error.clone(), end.snapshot.clone())
        };
        let disks: Vec<_> = self.disks.iter().map(JobDisk::report).collect();
        let state = folded(ended, disks.iter().map(|it| it.state));
        CopyReport { job_id: self.id.clone(), state, waiting: None, disks, error, snapshot }
    }

    /// Changes a disk that has not ended; what comes later is ignored.
    fn change(&self, disk: usize, apply: impl FnOnce(&mut DiskRun)) {
        let Some(disk) = self.disks.get(disk) else { return };
        let mut run = disk.run.lock();
        if run.state.is_terminal() {
            return;
        }
        apply(&mut run);
        let has_ended = run.state.is_terminal();
        drop(run);
        if has_ended {
            self.ends.send_modify(|ends| ends.disks += 1);
        }
    }
}

impl JobDisk {
    fn report(&self) -> DiskReport {
        let run = self.run.lock();
        let counted = self.progress.snapshot();
        DiskReport {
            key: self.key.clone(),
            state: run.state,
            method: run.method.to_owned(),
            method_reason: run.method_reason.clone(),
            reader: run.read_by.map(|it| it.name.to_owned()),
            reader_reason: run.read_by.map(|it| it.reason.to_owned()),
            bytes_total: counted.total,
            bytes_done: counted.done.min(counted.total),
            bytes_read: counted.read,
            bytes_sent: counted.sent + self.link.bytes_again(),
            bytes_sent_again: self.link.bytes_again(),
            reconnects: self.link.redials(),
            held_back_ms: u64::try_from(counted.held.as_millis()).unwrap_or(u64::MAX),
            audit: run.audit.clone(),
            change_id: run.change_id.clone(),
            source_root: run.source_root.clone(),
            error: run.error.clone(),
        }
    }
}

/// The state of a job from those of its disks; terminal only when nothing of the job is left.
fn folded(ended: bool, states: impl Iterator<Item = CopyState> + Clone) -> CopyState {
    let any = |state| states.clone().any(|it| it == state);
    if !ended {
        let waiting = states.clone().all(|it| it == CopyState::Queued);
        return if waiting { CopyState::Queued } else { CopyState::Running };
    }
    if any(CopyState::Failed) {
        CopyState::Failed
    } else if any(CopyState::Cancelled) {
        CopyState::Cancelled
    } else {
        CopyState::Succeeded
    }
}

#[cfg(test)]
mod tests {
    use hub_vma_api::CopyState::{Cancelled, Failed, Queued, Running, Succeeded};

    use super::folded;

    #[test]
    fn a_job_is_as_good_as_its_worst_disk_and_over_only_when_all_is_trap_d26() {
        let cases: [(bool, &[_], _); 7] = [
            (false, &[Queued, Queued], Queued),
            (false, &[Queued, Running], Running),
            (false, &[Succeeded, Succeeded], Running),
            (false, &[Failed, Running], Running),
            (true, &[Succeeded, Succeeded], Succeeded),
            (true, &[Succeeded, Cancelled], Cancelled),
            (true, &[Cancelled, Failed], Failed),
        ];
        for (ended, states, expected) in cases {
            assert_eq!(folded(ended, states.iter().copied()), expected, "{ended} {states:?}");
        }
    }
}
