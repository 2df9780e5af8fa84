//! Lets copies begin in the order of their coming, within the limits of the hub, of VMAs, of sources and of repositories.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hub_domain::access::{Credential, VmaNode};
use hub_domain::copy_line::{CopyLimits, CopyNeeds, Limited, Turn, Wait, turns};
use hub_domain::ids::{CredentialId, RepositoryId, VmContextId, VmaNodeId};
use hub_domain::limits::CopyCount;
use hub_domain::reader_choice::SourceName;
use hub_domain::repository::Repository;
use hub_ports::store::readable;
use hub_ports::{Catalogue, StoreError};
use parking_lot::Mutex;
use tokio::sync::{MutexGuard, oneshot};
use tokio::time::Instant;

use crate::JobKey;

/// A VMA that takes no more is asked again after this time.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// The line of copies; cloning gives another handle to the same.
#[derive(Clone)]
pub struct CopySlots {
    state: Arc<Mutex<State>>,
    settings: Arc<tokio::sync::Mutex<()>>,
}

struct State {
    limits: CopyLimits,
    names: BTreeMap<Limited, String>,
    /// When a VMA that took no more was asked last.
    asked_at: BTreeMap<VmaNodeId, Instant>,
    at_work: BTreeMap<u64, CopyNeeds>,
    line: Vec<Waiter>,
    next: u64,
}

struct Waiter {
    number: u64,
    key: JobKey,
    needs: CopyNeeds,
    begin: oneshot::Sender<()>,
}

/// What a copy in line waits for, for the eyes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// What the planner says.
    pub wait: Wait,
    /// A sentence: `2 of 2 copies of VMA site-a are at work; 3rd in line`.
    pub reason: String,
}

/// A place in line that becomes a slot; dropping it leaves the line, or gives the slot back.
pub(crate) struct Place {
    slots: CopySlots,
    number: u64,
    begin: oneshot::Receiver<()>,
}

impl Place {
    /// Waits until the copy may begin; it may until this is dropped.
    pub(crate) async fn turn(&mut self) {
        // The sender goes with the line only, which lives as long as this.
        let _ = (&mut self.begin).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.slots.state.lock();
        state.at_work.remove(&self.number);
        state.line.retain(|waiter| waiter.number != self.number);
        state.let_in();
    }
}

impl CopySlots {
    /// A hub that copies so many VMs at a time.
    pub fn new(hub: CopyCount) -> Self {
        let limits = CopyLimits {
            hub,
            vmas: BTreeMap::new(),
            sources: BTreeMap::new(),
            repositories: BTreeMap::new(),
            taken: BTreeMap::new(),
        };
        let state = State {
            limits,
            names: BTreeMap::new(),
            asked_at: BTreeMap::new(),
            at_work: BTreeMap::new(),
            line: Vec::new(),
            next: 0,
        };
        Self { state: Arc::new(Mutex::new(state)), settings: Arc::default() }
    }

    /// The right to change limits, from before they are read in the catalogue until they have been taken in here: of two
    /// changes none undoes the other, and no reader brings back what was there before.
    pub async fn settings(&self) -> MutexGuard<'_, ()> {
        self.settings.lock().await
    }

    /// Takes in the limit of a VMA; copies at work go on, and whoever has room now begins.
    pub fn set_vma(&self, node: &VmaNode) {
        let mut state = self.state.lock();
        state.names.insert(Limited::Vma(node.id), node.name.clone());
        match node.limits.copies {
            Some(limit) => state.limits.vmas.insert(node.id, limit),
            None => state.limits.vmas.remove(&node.id),
        };
        state.let_in();
    }

    /// Takes in the limit of the vCenter or host that a login is for, the lowest of all logins for it; the one of them that
    /// stands for it, which is none when there is no such login.
    pub fn set_source(&self, all: &[Credential], login: CredentialId) -> Option<CredentialId> {
        let login = all.iter().find(|it| it.id == login)?;
        let place = SourceName::of_login(login);
        let same: Vec<&Credential> =
            all.iter().filter(|it| place.is(&SourceName::of_login(it)) == Some(true)).collect();
        let first = same.iter().map(|it| it.id).min()?;
        let mut state = self.state.lock();
        let name = same.iter().find(|it| it.id == first).map(|it| it.vcenter_host.clone());
        state.names.insert(Limited::Source(first), name.unwrap_or_default());
        match same.iter().filter_map(|it| it.copies).min() {
            Some(limit) => state.limits.sources.insert(first, limit),
            None => state.limits.sources.remove(&first),
        };
        state.let_in();
        Some(first)
    }

    /// Takes in the limit of a repository; copies at work go on, and whoever has room now begins.
    pub fn set_repository(&self, repository: &Repository) {
        let mut state = self.state.lock();
        state.names.insert(Limited::Repository(repository.id), repository.name.clone());
        match repository.settings.copies {
            Some(limit) => state.limits.repositories.insert(repository.id, limit),
            None => state.limits.repositories.remove(&repository.id),
        };
        state.let_in();
    }

    /// Takes in that a VMA has refused a copy that is at work here, because it takes no more: those behind it wait until
    /// one from there has ended, or until the VMA is [asked again](Self::ask_again).
    pub fn refused(&self, needs: CopyNeeds) {
        let Some(vma) = needs.vma else { return };
        let mut state = self.state.lock();
        let from_it = state.at_work.values().filter(|copy| copy.vma == Some(vma)).count();
        let others = u32::try_from(from_it.saturating_sub(1)).unwrap_or(u32::MAX);
        state.limits.taken.insert(vma, others);
        state.asked_at.insert(vma, Instant::now());
    }

    /// Lets one more copy try at each VMA that has taken no more for a while: it may be set otherwise by now, or what
    /// filled it was not this hub's. Call it again and again.
    pub fn ask_again(&self) {
        let mut state = self.state.lock();
        let State { limits, asked_at, .. } = &mut *state;
        for (vma, at) in asked_at.iter_mut().filter(|(_, at)| at.elapsed() >= ASK_AGAIN_AFTER) {
            *at = Instant::now();
            if let Some(taken) = limits.taken.get_mut(vma) {
                *taken = taken.saturating_add(1);
            }
        }
        state.let_in();
    }

    /// What a copy of a VM through a VMA needs, with the limits as the catalogue has them; waits while somebody changes
    /// [`settings`](Self::settings).
    pub async fn needs_of(
        &self,
        catalogue: &mut dyn Catalogue,
        vm: VmContextId,
        vma: Option<VmaNodeId>,
        repository: Option<RepositoryId>,
    ) -> Result<CopyNeeds, StoreError> {
        let _unchanged = self.settings().await;
        let mut source = None;
        if let Some(vm) = catalogue.vm(vm).await?
            && let Some(login) = vm.credential
        {
            source = self.set_source(&readable(catalogue.credentials().await?), login);
        }
        let vma = match vma {
            Some(id) => catalogue.vma_node(id).await?,
            None => None,
        };
        if let Some(vma) = &vma {
            self.set_vma(vma);
        }
        if let Some(id) = repository
            && let Some(repository) = catalogue.repository(id).await?
        {
            self.set_repository(&repository);
        }
        Ok(CopyNeeds { vma: vma.map(|vma| vma.id), source, repository })
    }

    /// What a job waits for; nothing when it is not in line.
    pub fn waiting(&self, key: &JobKey) -> Option<Waiting> {
        self.all_waiting().remove(key)
    }

    /// What everybody in line waits for.
    pub fn all_waiting(&self) -> BTreeMap<JobKey, Waiting> {
        let state = self.state.lock();
        let mut waiting = BTreeMap::new();
        for (waiter, turn) in state.line.iter().zip(state.turns()) {
            if let Turn::Waits(wait) = turn {
                let reason = if state.is_said_by_vma(&wait) {
                    refusal(&wait, state.names.get(&wait.at))
                } else {
                    reason(&wait, state.names.get(&wait.at))
                };
                waiting.entry(waiter.key.clone()).or_insert(Waiting { wait, reason });
            }
        }
        waiting
    }

    /// Joins the line at its end, at once.
    pub(crate) fn join(&self, key: JobKey, needs: CopyNeeds) -> Place {
        let (sender, begin) = oneshot::channel();
        let mut state = self.state.lock();
        let number = state.next;
        state.next += 1;
        state.line.push(Waiter { number, key, needs, begin: sender });
        state.let_in();
        Place { slots: self.clone(), number, begin }
    }
}

impl State {
    fn turns(&self) -> Vec<Turn> {
        let at_work: Vec<CopyNeeds> = self.at_work.values().copied().collect();
        let line: Vec<CopyNeeds> = self.line.iter().map(|waiter| waiter.needs).collect();
        turns(&at_work, &line, &self.limits)
    }

    /// Whether it waits for what a VMA takes by its own word.
    fn is_said_by_vma(&self, wait: &Wait) -> bool {
        matches!(wait.at, Limited::Vma(id) if self.limits.taken.get(&id) == Some(&wait.limit))
    }

    /// Lets everybody begin whose turn it is.
    fn let_in(&mut self) {
        let turns = self.turns();
        let mut left = Vec::with_capacity(self.line.len());
        for (waiter, turn) in std::mem::take(&mut self.line).into_iter().zip(turns) {
            if turn == Turn::Now {
                self.at_work.insert(waiter.number, waiter.needs);
                // A place that is being dropped at this moment gives the slot back next.
                let _ = waiter.begin.send(());
            } else {
                left.push(waiter);
            }
        }
        self.line = left;
    }
}

fn reason(wait: &Wait, name: Option<&String>) -> String {
    let name = name.map(String::as_str).unwrap_or_default();
    let whose = match wait.at {
        Limited::Vma(_) => format!("of VMA {name}"),
        Limited::Source(_) => format!("from {name}"),
        Limited::Repository(_) => format!("to repository {name}"),
        Limited::Hub => "of the hub".to_owned(),
    };
    let Wait { at_work, limit, kept, place, .. } = wait;
    let kept = match kept {
        0 => String::new(),
        kept => format!(", {kept} kept for earlier jobs"),
    };
    format!("{at_work} of {limit} copies {whose} are at work{kept}; {} in line", ordinal(*place))
}

fn refusal(wait: &Wait, name: Option<&String>) -> String {
    let name = name.map(String::as_str).unwrap_or_default();
    let (at_work, place) = (wait.at_work, ordinal(wait.place));
    format!(
        "VMA {name} takes no more jobs than it has, {at_work} of them from this hub; {place} in line"
    )
}

fn ordinal(place: u32) -> String {
    let ending = match (place % 10, place % 100) {
        (1, tens) if tens != 11 => "st",
        (2, tens) if tens != 12 => "nd",
        (3, tens) if tens != 13 => "rd",
        _ => "th",
    };
    format!("{place}{ending}")
}

#[cfg(test)]
mod tests;
