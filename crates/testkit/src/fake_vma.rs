//! A VMA that plays a script: what it has, how its copies go, and when it is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use hub_domain::access::{Credential, VmaNode};
use hub_domain::audit::{Audited, Lie};
use hub_domain::disk::DiskKey;
use hub_domain::fault::Fault;
use hub_domain::inventory::SeenInventory;
use hub_domain::owed::CleanupOutcome;
use hub_domain::source::{
    CopyBytes, CopyMethod, CopyPhase, CopyStatus, DiskCopyStatus, OrderedDisk, SourceAbout,
};
use hub_ports::{CleanupOrder, CopyOrder, InventoryQuery, NodeIdentity, SourceError, SourceNode};
use parking_lot::Mutex;
use tokio::sync::{RwLock, RwLockWriteGuard};

use crate::{Steps, fixtures};

/// How the copies of a [`FakeVma`] go; the default is two steps and success.
#[derive(Clone, Debug)]
pub struct CopyScript {
    /// How many reports a copy needs from its start to its end.
    pub steps: u64,
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
    /// These disks are found to have lied about changes, where they are audited; they are read as a whole then.
    pub lies: BTreeMap<DiskKey, Lie>,
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
            failing: BTreeMap::new(),
            stuck_at: None,
            lost_at: None,
            forgets_at: None,
            falls_back: None,
            lies: BTreeMap::new(),
            audits_at: 1,
            gives_change_id: true,
            obeys_cancel: true,
            takes: None,
        }
    }
}

/// A scripted VMA; every copy moves on by one step whenever it is asked how far it is.
#[derive(Debug)]
pub struct FakeVma {
    state: Mutex<State>,
    steps: Steps,
    door: RwLock<()>,
}

#[derive(Debug)]
struct State {
    inventory: SeenInventory,
    script: CopyScript,
    reachable: bool,
    copies: BTreeMap<String, Copy>,
    orders: Vec<CopyOrder>,
    inventory_calls: usize,
    about: Option<Result<SourceAbout, Fault>>,
    snapshots: BTreeSet<String>,
    keeps_snapshots: bool,
}

#[derive(Clone, Debug)]
struct Copy {
    disks: Vec<OrderedDisk>,
    script: CopyScript,
    step: u64,
    cancelled: bool,
    number: usize,
}

impl FakeVma {
    /// A VMA whose source has these VMs.
    pub fn new(inventory: SeenInventory) -> Self {
        Self::with_steps(inventory, Steps::default())
    }

    /// The same, its calls counted.
    pub fn with_steps(inventory: SeenInventory, steps: Steps) -> Self {
        let state = State {
            inventory,
            script: CopyScript::default(),
            reachable: true,
            copies: BTreeMap::new(),
            orders: Vec::new(),
            inventory_calls: 0,
            about: None,
            snapshots: BTreeSet::new(),
            keeps_snapshots: false,
        };
        Self { state: Mutex::new(state), steps, door: RwLock::default() }
    }

    /// Changes what the source has.
    pub fn set_inventory(&self, inventory: SeenInventory) {
        self.state.lock().inventory = inventory;
    }

    /// Says how copies go that start from now on.
    pub fn script(&self, script: CopyScript) {
        self.state.lock().script = script;
    }

    /// Makes it read from a vSphere endpoint, which lets every login in, or refuses all for this reason.
    pub fn set_about(&self, about: Result<SourceAbout, Fault>) {
        self.state.lock().about = Some(about);
    }

    /// Says whether snapshots can be removed at present.
    pub fn keep_snapshots(&self, keeps: bool) {
        self.state.lock().keeps_snapshots = keeps;
    }

    /// The snapshots at the source, by the names of their copies: a vSphere endpoint has one from the order of a copy
    /// until that has ended and says so, or until its clean-up.
    pub fn snapshots(&self) -> Vec<String> {
        self.state.lock().snapshots.iter().cloned().collect()
    }

    /// Cuts or mends the connection.
    pub fn set_reachable(&self, reachable: bool) {
        self.state.lock().reachable = reachable;
    }

    /// Holds back every answer until what is returned is dropped.
    pub async fn hold_back(&self) -> RwLockWriteGuard<'_, ()> {
        self.door.write().await
    }

    /// How often a call was made, such as `vma.identify`, answered or not.
    pub fn calls(&self, name: &str) -> usize {
        self.steps.count(name)
    }

    /// Every copy that was ordered, in order; one order sent twice stands here once.
    pub fn orders(&self) -> Vec<CopyOrder> {
        self.state.lock().orders.clone()
    }

    /// How often the inventory was asked for.
    pub fn inventory_calls(&self) -> usize {
        self.state.lock().inventory_calls
    }

    /// The copies that still move bytes: a use case that has ended must leave none.
    pub fn copying(&self) -> Vec<String> {
        let state = self.state.lock();
        state
            .copies
            .iter()
            .filter(|(_, copy)| !copy.status().phase.is_terminal())
            .map(|(job, _)| job.clone())
            .collect()
    }

    async fn reach(&self, node: &VmaNode, call: &str) -> Result<(), SourceError> {
        let passed = self.steps.pass(call).await;
        let _open = self.door.read().await;
        if passed.is_ok() && self.state.lock().reachable {
            return Ok(());
        }
        Err(unreachable(node))
    }
}

fn unreachable(node: &VmaNode) -> SourceError {
    SourceError::Unreachable { url: node.url.clone(), detail: "connection refused".to_owned() }
}

impl Default for FakeVma {
    fn default() -> Self {
        Self::new(fixtures::inventory(Vec::new()))
    }
}

#[async_trait]
impl SourceNode for FakeVma {
    async fn identify(&self, node: &VmaNode) -> Result<NodeIdentity, SourceError> {
        self.reach(node, "vma.identify").await?;
        let state = self.state.lock();
        let is_vsphere = state.about.is_some();
        Ok(NodeIdentity {
            name: node.name.clone(),
            version: "0.0.0".to_owned(),
            source_kind: if is_vsphere { "vsphere" } else { "folder" }.to_owned(),
            source_host: is_vsphere.then(|| state.inventory.vcenter_host.clone()),
        })
    }

    async fn inventory(
        &self,
        node: &VmaNode,
        query: &InventoryQuery,
    ) -> Result<SeenInventory, SourceError> {
        self.reach(node, "vma.inventory").await?;
        let mut state = self.state.lock();
        state.inventory_calls += 1;
        let mut seen = state.inventory.clone();
        let wanted = |text: &String, list: &[String]| list.is_empty() || list.contains(text);
        seen.vms.retain(|vm| {
            wanted(&vm.facts.name, &query.names) && wanted(&vm.facts.vmware_vm_id, &query.ids)
        });
        Ok(seen)
    }

    async fn start_copy(
        &self,
        node: &VmaNode,
        order: &CopyOrder,
    ) -> Result<CopyStatus, SourceError> {
        self.reach(node, "vma.start_copy").await?;
        let mut state = self.state.lock();
        if let Some(copy) = state.copies.get(&order.job) {
            return Ok(copy.status());
        }
        let at_work = state.copies.values().filter(|it| !it.status().phase.is_terminal()).count();
        if state.script.takes.is_some_and(|takes| at_work >= takes) {
            let detail = format!("{at_work} jobs are under way, which is as many as this VMA runs");
            return Err(SourceError::Refused(Fault::new("vma/too-many-jobs", detail)));
        }
        let copy = Copy {
            disks: order.disks.clone(),
            script: state.script.clone(),
            step: 0,
            cancelled: false,
            number: state.orders.len() + 1,
        };
        let status = copy.status();
        if state.about.is_some() {
            state.snapshots.insert(order.job.clone());
        }
        state.orders.push(order.clone());
        state.copies.insert(order.job.clone(), copy);
        Ok(status)
    }

    async fn copy_status(&self, node: &VmaNode, job: &str) -> Result<CopyStatus, SourceError> {
        self.reach(node, "vma.copy_status").await?;
        let mut state = self.state.lock();
        let unknown = || SourceError::UnknownJob { job: job.to_owned() };
        let copy = state.copies.get_mut(job).ok_or_else(unknown)?;
        if copy.script.stuck_at.is_none_or(|at| copy.step < at) && !copy.cancelled {
            copy.step = (copy.step + 1).min(copy.script.steps);
        }
        if copy.script.lost_at.is_some_and(|at| copy.step >= at) {
            return Err(unreachable(node));
        }
        if copy.script.forgets_at.is_some_and(|at| copy.step >= at) {
            state.copies.remove(job);
            return Err(unknown());
        }
        let mut status = copy.status();
        if status.phase.is_terminal() && state.about.is_some() && !state.keeps_snapshots {
            state.snapshots.remove(job);
            status.snapshot_is_gone = true;
        }
        Ok(status)
    }

    /// Takes all the patience it is given, so that a script's steps are that far apart.
    async fn await_copy(
        &self,
        node: &VmaNode,
        job: &str,
        _ended: usize,
        patience: Duration,
    ) -> Result<CopyStatus, SourceError> {
        tokio::time::sleep(patience).await;
        self.copy_status(node, job).await
    }

    async fn cancel_copy(&self, node: &VmaNode, job: &str) -> Result<(), SourceError> {
        self.reach(node, "vma.cancel_copy").await?;
        let mut state = self.state.lock();
        let copy = state
            .copies
            .get_mut(job)
            .ok_or_else(|| SourceError::UnknownJob { job: job.to_owned() })?;
        copy.cancelled |= copy.script.obeys_cancel && copy.step < copy.script.steps;
        Ok(())
    }

    async fn test_credential(
        &self,
        node: &VmaNode,
        _: &Credential,
    ) -> Result<Option<SourceAbout>, SourceError> {
        self.reach(node, "vma.test_credential").await?;
        self.state.lock().about.clone().transpose().map_err(SourceError::Refused)
    }

    async fn clean_up(
        &self,
        node: &VmaNode,
        order: &CleanupOrder,
    ) -> Result<CleanupOutcome, SourceError> {
        self.reach(node, "vma.clean_up").await?;
        let mut state = self.state.lock();
        let refused =
            |code: &str| Ok(CleanupOutcome::Failed(Fault::new(code, "it is not removed")));
        if state.copies.get(&order.copy).is_some_and(|copy| !copy.status().phase.is_terminal()) {
            return refused("source/snapshot-in-use");
        }
        if state.keeps_snapshots {
            return refused("vma/refused");
        }
        let was_there = state.snapshots.remove(&order.copy);
        Ok(if was_there { CleanupOutcome::Removed } else { CleanupOutcome::None })
    }
}

impl Copy {
    /// What an ordered audit has found, from the step on at which it is told.
    fn audit(&self, disk: &OrderedDisk) -> Option<(Audited, Option<Lie>)> {
        let order = disk.audit.filter(|_| self.step >= self.script.audits_at)?;
        let total = disk.capacity.bytes();
        let bytes = total.div_ceil(u64::from(order.runs.get().get()));
        let next = (order.from + bytes) % total;
        Some((Audited { blocks: 1, bytes, next }, self.script.lies.get(&disk.key).cloned()))
    }

    fn status(&self) -> CopyStatus {
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
        CopyStatus { phase, disks, fault: None, snapshot_is_gone: false }
    }

    fn disk(&self, disk: &OrderedDisk) -> DiskCopyStatus {
        let fault = self.script.failing.get(&disk.key).cloned();
        let phase = match fault {
            _ if self.cancelled => CopyPhase::Cancelled,
            _ if self.step < self.script.steps => CopyPhase::Running,
            Some(_) => CopyPhase::Failed,
            None => CopyPhase::Succeeded,
        };
        let audit = self.audit(disk);
        let lied = || Some("a change was left out".to_owned());
        let (method, method_reason) = match (&self.script.falls_back, &audit) {
            (Some((method, reason)), _) => (method.word(), Some(reason.clone())),
            (None, Some((_, Some(_)))) => (CopyMethod::ByDigest.word(), lied()),
            (None, _) => (disk.method.word(), None),
        };
        let total = disk.capacity.bytes();
        let done = total / self.script.steps.max(1) * self.step;
        let finished = phase == CopyPhase::Succeeded;
        DiskCopyStatus {
            key: disk.key.clone(),
            phase,
            method: method.to_owned(),
            method_reason,
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
