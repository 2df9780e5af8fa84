//! A VMA that plays a script: what it has, how its copies go, and when it is gone.

mod script;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use hub_domain::access::{Credential, VmaNode};
use hub_domain::fault::Fault;
use hub_domain::ids::VmaNodeId;
use hub_domain::inventory::SeenInventory;
use hub_domain::owed::CleanupOutcome;
use hub_domain::source::{CopyStatus, SourceAbout};
use hub_ports::{CleanupOrder, CopyOrder, InventoryQuery, NodeIdentity, SourceError, SourceNode};
use parking_lot::Mutex;
use tokio::sync::{RwLock, RwLockWriteGuard};

use script::Copy;
pub use script::CopyScript;

use crate::{Steps, fixtures};

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
    silent: BTreeMap<VmaNodeId, &'static str>,
    elsewhere: BTreeMap<VmaNodeId, String>,
    copies: BTreeMap<String, Copy>,
    orders: Vec<CopyOrder>,
    ordered: Vec<VmaNodeId>,
    inventory_calls: usize,
    about: Option<Result<SourceAbout, Fault>>,
    snapshots: BTreeSet<String>,
    keeps_snapshots: bool,
    refusing: BTreeMap<VmaNodeId, (Duration, Option<Fault>)>,
    asked: Vec<(VmaNodeId, String)>,
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
            silent: BTreeMap::new(),
            elsewhere: BTreeMap::new(),
            copies: BTreeMap::new(),
            orders: Vec::new(),
            ordered: Vec::new(),
            inventory_calls: 0,
            about: None,
            snapshots: BTreeSet::new(),
            keeps_snapshots: false,
            refusing: BTreeMap::new(),
            asked: Vec::new(),
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

    /// Lets one node take so long for each clean-up, and refuse it for this reason where one is given.
    pub fn refuse_clean_ups(&self, node: VmaNodeId, after: Duration, fault: Option<Fault>) {
        self.state.lock().refusing.insert(node, (after, fault));
    }

    /// The clean-ups that were asked for, answered or not: of which node, and by the names of their copies.
    pub fn clean_ups(&self) -> Vec<(VmaNodeId, String)> {
        self.state.lock().asked.clone()
    }

    /// Cuts or mends the connection.
    pub fn set_reachable(&self, reachable: bool) {
        self.state.lock().reachable = reachable;
    }

    /// Lets one node answer no call whose name begins like this, such as `vma.start_copy`; an empty one means every call.
    pub fn silence(&self, node: VmaNodeId, calls: &'static str) {
        self.state.lock().silent.insert(node, calls);
    }

    /// Lets a node answer again.
    pub fn unsilence(&self, node: VmaNodeId) {
        self.state.lock().silent.remove(&node);
    }

    /// Lets one node reach another vCenter, of this id, which has the same VMs; without one it reaches the first again.
    pub fn lead_elsewhere(&self, node: VmaNodeId, vcenter: Option<&str>) {
        let mut state = self.state.lock();
        match vcenter {
            Some(vcenter) => state.elsewhere.insert(node, vcenter.to_owned()),
            None => state.elsewhere.remove(&node),
        };
    }

    /// Lets every copy be gone with the machine that made it; the snapshots stay.
    pub fn forget_copies(&self) {
        self.state.lock().copies.clear();
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

    /// The nodes that these were sent to.
    pub fn ordered(&self) -> Vec<VmaNodeId> {
        self.state.lock().ordered.clone()
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
        let state = self.state.lock();
        let is_silent = state.silent.get(&node.id).is_some_and(|calls| call.starts_with(calls));
        if passed.is_ok() && state.reachable && !is_silent {
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
        state.about.clone().transpose().map_err(SourceError::Refused)?;
        let mut seen = state.inventory.clone();
        if let Some(vcenter) = state.elsewhere.get(&node.id) {
            seen.vcenter_uuid = Some(vcenter.clone());
            seen.vms.iter_mut().for_each(|it| it.facts.vcenter_uuid = Some(vcenter.clone()));
        }
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
        if order.vcenter_uuid.is_some() && state.elsewhere.contains_key(&node.id) {
            let fault = Fault::new(Fault::OTHER_VCENTER, "the VM is of another vCenter");
            return Err(SourceError::Refused(fault));
        }
        let at_work = state.copies.values().filter(|it| !it.status().phase.is_terminal()).count();
        if state.script.takes.is_some_and(|takes| at_work >= takes) {
            let detail = format!("{at_work} jobs are under way, which is as many as this VMA runs");
            return Err(SourceError::Refused(Fault::new("vma/too-many-jobs", detail)));
        }
        let copy = Copy {
            node: node.id,
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
        state.ordered.push(node.id);
        state.copies.insert(order.job.clone(), copy);
        Ok(status)
    }

    async fn copy_status(&self, node: &VmaNode, job: &str) -> Result<CopyStatus, SourceError> {
        self.reach(node, "vma.copy_status").await?;
        let mut state = self.state.lock();
        let unknown = || SourceError::UnknownJob { job: job.to_owned() };
        let copy = state.copies.get_mut(job).filter(|it| it.node == node.id).ok_or_else(unknown)?;
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
            .filter(|copy| copy.node == node.id)
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
        let (after, fault) = {
            let mut state = self.state.lock();
            state.asked.push((node.id, order.copy.clone()));
            state.refusing.get(&node.id).cloned().unwrap_or_default()
        };
        tokio::time::sleep(after).await;
        self.reach(node, "vma.clean_up").await?;
        fault.map_or(Ok(()), |fault| Err(SourceError::Refused(fault)))?;
        let mut state = self.state.lock();
        let refused =
            |code: &str| Ok(CleanupOutcome::Failed(Fault::new(code, "it is not removed")));
        if state.copies.get(&order.copy).is_some_and(|copy| !copy.status().phase.is_terminal()) {
            return refused("source/snapshot-in-use");
        }
        if state.elsewhere.contains_key(&node.id) {
            return refused(Fault::OTHER_VCENTER);
        }
        if state.keeps_snapshots {
            return refused("vma/refused");
        }
        let was_there = state.snapshots.remove(&order.copy);
        Ok(if was_there { CleanupOutcome::Removed } else { CleanupOutcome::None })
    }

    /// Its records are of the snapshots that are there.
    async fn strike_off(&self, node: &VmaNode, copy: &str) -> Result<bool, SourceError> {
        self.reach(node, "vma.strike_off").await?;
        let state = self.state.lock();
        if state.copies.get(copy).is_some_and(|copy| !copy.status().phase.is_terminal()) {
            let fault = Fault::new("source/snapshot-in-use", "its copy is at work");
            return Err(SourceError::Refused(fault));
        }
        Ok(state.snapshots.contains(copy))
    }
}
