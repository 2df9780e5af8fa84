//! How the copies of a scripted VMA go.

use std::collections::BTreeMap;
use std::time::Duration;

use hub_domain::audit::{Audited, Lie};
use hub_domain::disk::DiskKey;
use hub_domain::fault::Fault;
use hub_domain::ids::VmaNodeId;
use hub_domain::source::{
    CopyBytes, CopyMethod, CopyPhase, CopyStatus, DiskCopyStatus, OrderedDisk, Quiescence, ReadBy,
};

/// How the copies of a [`FakeVma`](crate::FakeVma) go; the default is two steps and success.
#[derive(Clone, Debug)]
pub struct CopyScript {
    /// How many reports a copy needs from its start to its end.
    pub steps: u64,
    /// Until this step the copy waits for something at its source, and no disk begins.
    pub waits: Option<(u64, String)>,
    /// These disks fail at their last step, and why; the others succeed.
    pub failing: BTreeMap<DiskKey, Fault>,
    /// Progress ends at this step, and nothing more happens.
    pub stuck_at: Option<u64>,
    /// The node answers nothing from this step on.
    pub lost_at: Option<u64>,
    /// The node forgets the job at this step, as after a restart.
    pub forgets_at: Option<u64>,
    /// The method that is really used, and why, where it is not the one asked for.
    pub falls_back: Option<(CopyMethod, String)>,
    /// Whether the guest came to rest for the snapshot, where one is told of.
    pub quiescence: Option<Quiescence>,
    /// The way to the disks, where that is told.
    pub read_by: Option<ReadBy>,
    /// These disks are found to have lied about changes, where they are audited; they are read as a whole then.
    pub lies: BTreeMap<DiskKey, Lie>,
    /// These disks leave out one change, which only an audit finds whose stretch it lies in.
    pub hidden: BTreeMap<DiskKey, Lie>,
    /// Whether an audit is told that nobody has ordered.
    pub tells_unasked: bool,
    /// The step from which on audits are told.
    pub audits_at: u64,
    /// Whether a finished disk carries a mark for the next changed-since copy.
    pub gives_change_id: bool,
    /// Whether a copy can be cancelled; else it hangs on whatever it is told.
    pub obeys_cancel: bool,
    /// How many copies it takes at a time; one more is refused.
    pub takes: Option<usize>,
}

impl Default for CopyScript {
    fn default() -> Self {
        Self {
            steps: 2,
            waits: None,
            failing: BTreeMap::new(),
            stuck_at: None,
            lost_at: None,
            forgets_at: None,
            falls_back: None,
            quiescence: None,
            read_by: None,
            lies: BTreeMap::new(),
            hidden: BTreeMap::new(),
            tells_unasked: false,
            audits_at: 1,
            gives_change_id: true,
            obeys_cancel: true,
            takes: None,
        }
    }
}

/// A copy that was ordered.
#[derive(Clone, Debug)]
pub(super) struct Copy {
    pub(super) node: VmaNodeId,
    pub(super) disks: Vec<OrderedDisk>,
    pub(super) script: CopyScript,
    pub(super) step: u64,
    pub(super) cancelled: bool,
    pub(super) number: usize,
}

impl Copy {
    /// What an ordered audit has found, from the step on at which it is told; that of a chain is told at the end.
    fn audit(&self, disk: &OrderedDisk) -> Option<(Audited, Option<Lie>)> {
        let lies = [&self.script.lies, &self.script.hidden];
        if let Some(order) = &disk.chain_audit {
            let is_told = self.step >= self.script.steps.max(self.script.audits_at);
            let lie = lies.iter().find_map(|it| it.get(&disk.key)).cloned();
            let audited = Audited { blocks: 1, bytes: disk.capacity.bytes(), next: order.from };
            return is_told.then_some((audited, lie));
        }
        if self.script.tells_unasked && disk.audit.is_none() {
            let audited = Audited { blocks: 1, bytes: 1, next: 1 };
            return Some((audited, self.script.lies.get(&disk.key).cloned()));
        }
        let order = disk.audit.filter(|_| self.step >= self.script.audits_at)?;
        let total = disk.capacity.bytes();
        let bytes = total.div_ceil(u64::from(order.runs.get().get()));
        let next = (order.from + bytes) % total;
        let within = |lie: &&Lie| (lie.offset + total - order.from) % total < bytes;
        let hidden = self.script.hidden.get(&disk.key).filter(within);
        let lie = self.script.lies.get(&disk.key).or(hidden).cloned();
        Some((Audited { blocks: 1, bytes, next }, lie))
    }

    /// What it waits for, as long as it does.
    fn wait(&self) -> Option<&str> {
        self.script
            .waits
            .as_ref()
            .filter(|(until, _)| self.step < *until)
            .map(|(_, for_)| for_.as_str())
    }

    /// How far it is.
    pub(super) fn status(&self) -> CopyStatus {
        let disks: Vec<DiskCopyStatus> = self.disks.iter().map(|disk| self.disk(disk)).collect();
        let any = |phase| disks.iter().any(|disk| disk.phase == phase);
        let phase = if disks.iter().any(|disk| !disk.phase.is_terminal()) {
            CopyPhase::Running
        } else if any(CopyPhase::Cancelled) {
            CopyPhase::Cancelled
        } else if any(CopyPhase::Failed) {
            CopyPhase::Failed
        } else {
            CopyPhase::Succeeded
        };
        let quiescence = self.script.quiescence.clone().filter(|_| self.step > 0);
        let waiting = self.wait().filter(|_| !phase.is_terminal()).map(str::to_owned);
        CopyStatus { phase, waiting, disks, fault: None, quiescence, snapshot_is_gone: false }
    }

    fn disk(&self, disk: &OrderedDisk) -> DiskCopyStatus {
        let fault = self.script.failing.get(&disk.key).cloned();
        let phase = match fault {
            _ if self.cancelled => CopyPhase::Cancelled,
            _ if self.wait().is_some() => CopyPhase::Queued,
            _ if self.step < self.script.steps => CopyPhase::Running,
            Some(_) => CopyPhase::Failed,
            None => CopyPhase::Succeeded,
        };
        let audit = self.audit(disk);
        let lied = || Some("a change was left out".to_owned());
        let (method, method_reason) = match (&self.script.falls_back, &audit) {
            (Some((method, reason)), _) => (method.word(), Some(reason.clone())),
            (None, Some((_, Some(_)))) if disk.chain_audit.is_some() => {
                (disk.method.word(), lied())
            }
            (None, Some((_, Some(_)))) => (CopyMethod::ByDigest.word(), lied()),
            (None, _) => (disk.method.word(), None),
        };
        let total = disk.capacity.bytes();
        let begun = if self.wait().is_some() { 0 } else { self.step };
        let done = total / self.script.steps.max(1) * begun;
        let finished = phase == CopyPhase::Succeeded;
        DiskCopyStatus {
            key: disk.key.clone(),
            phase,
            method: method.to_owned(),
            method_reason,
            read_by: self.script.read_by.clone().filter(|_| self.step > 0),
            bytes: CopyBytes {
                total,
                done: if finished { total } else { done },
                read: done,
                sent: done / 2,
                ..CopyBytes::default()
            },
            held_back: Duration::ZERO,
            audit,
            change_id: (finished && self.script.gives_change_id)
                .then(|| format!("mark-{}-{}", disk.key, self.number)),
            source_root: finished.then(|| format!("root-{}-{}", disk.key, self.number)),
            fault: fault.filter(|_| phase == CopyPhase::Failed),
        }
    }
}
