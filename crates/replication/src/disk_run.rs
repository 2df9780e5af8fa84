//! What a run knows about its disks: reports are taken over here, and the verdict is found here, without any effect.

use hub_domain::capacity::Capacity;
use hub_domain::fault::Fault;
use hub_domain::replication::ReplicaDisk;
use hub_domain::source::{
    CopyMethod, CopyPhase, CopyStatus, DiskCopyStatus, OrderedDisk, PreparedTarget,
};

use crate::fault::of_disk;

/// One disk of a run.
#[derive(Clone, Debug)]
pub(crate) struct DiskRun {
    /// What the job says about it.
    pub(crate) record: ReplicaDisk,
    /// Its capacity when the run began.
    pub(crate) capacity: Capacity,
    /// Its target while that is open; neither sealed nor released.
    pub(crate) target: Option<PreparedTarget>,
    /// Why it failed.
    pub(crate) fault: Option<Fault>,
    phase: CopyPhase,
    /// Whether the storage gave the reason for the method; that one stays.
    reason_is_ours: bool,
}

/// What has to be done about the target of a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing: bytes move, or it is done already.
    Nothing,
    /// Everything has arrived: compare, with this root of the source, and complete it.
    Seal(String),
    /// It has failed: let it go.
    Release,
}

impl DiskRun {
    /// A disk of which nothing is done.
    pub(crate) fn new(record: ReplicaDisk, capacity: Capacity) -> Self {
        Self {
            record,
            capacity,
            target: None,
            fault: None,
            phase: CopyPhase::Queued,
            reason_is_ours: false,
        }
    }

    /// Takes over its open target.
    pub(crate) fn prepared(&mut self, target: PreparedTarget) {
        self.record.path = Some(target.path.clone());
        self.record.method = Some(method_for(&target).word().to_owned());
        self.record.method_reason.clone_from(&target.no_parent_reason);
        self.reason_is_ours = target.no_parent_reason.is_some();
        self.target = Some(target);
    }

    /// What the VMA is asked to do for it; nothing without a target.
    pub(crate) fn order(&self) -> Option<OrderedDisk> {
        let target = self.target.clone()?;
        Some(OrderedDisk {
            key: self.record.key.clone(),
            capacity: self.capacity,
            method: method_for(&target),
            target,
        })
    }

    /// Takes over a report; whether anything has moved since the last one. Counters never go back (trap D24).
    pub(crate) fn take(&mut self, report: &DiskCopyStatus) -> bool {
        let bytes = self.record.bytes.max(report.bytes);
        let moved = bytes != self.record.bytes || report.phase != self.phase;
        self.record.bytes = bytes;
        self.phase = report.phase;
        self.record.method = Some(report.method.clone());
        if !self.reason_is_ours {
            self.record.method_reason.clone_from(&report.method_reason);
        }
        moved
    }

    /// What its report asks for; a disk whose target is closed is done.
    pub(crate) fn due(&self, report: &DiskCopyStatus) -> Due {
        if self.target.is_none() {
            return Due::Nothing;
        }
        match report.phase {
            CopyPhase::Queued | CopyPhase::Running => Due::Nothing,
            CopyPhase::Succeeded => report.source_root.clone().map_or(Due::Release, Due::Seal),
            CopyPhase::Failed | CopyPhase::Cancelled => Due::Release,
        }
    }

    /// Its replica is complete.
    pub(crate) fn sealed(&mut self, root: String) {
        self.record.root = Some(root);
        self.target = None;
    }

    /// It has failed; the first fault counts.
    pub(crate) fn failed(&mut self, fault: Fault) {
        if self.fault.is_none() {
            self.fault = Some(of_disk(&self.record.key, fault));
        }
    }
}

/// Without the digests of what the target holds already, only a full copy is right.
fn method_for(target: &PreparedTarget) -> CopyMethod {
    if target.parent.is_some() { CopyMethod::ByDigest } else { CopyMethod::Full }
}

/// How a copy that will not change any more ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Every replica is complete (trap D26).
    Complete,
    /// The VMA ended it, or a disk failed.
    Failed(Fault),
    /// The VMA cancelled it, and the hub had not asked.
    StoppedAtVma,
    /// The report contradicts itself.
    Unexplained,
}

/// Judges a copy by its last report and by what became of its disks.
pub(crate) fn verdict(disks: &[DiskRun], status: &CopyStatus) -> Verdict {
    if let Some(fault) = &status.fault {
        return Verdict::Failed(fault.clone());
    }
    if let Some(fault) = disks.iter().find_map(|disk| disk.fault.clone()) {
        return Verdict::Failed(fault);
    }
    if disks.iter().all(|disk| disk.record.root.is_some()) {
        return Verdict::Complete;
    }
    if status.phase == CopyPhase::Cancelled {
        return Verdict::StoppedAtVma;
    }
    Verdict::Unexplained
}
