//! Who of those in line may copy next: one line, and limits of the hub, of VMAs, of sources and of repositories.
//!
//! A copy takes everything that it needs at once or nothing. The line is walked from its head: a copy claims a place at
//! its VMA where there is one left, then at its source, at its repository and at the hub; the first that has none left is what it
//! waits for. Places that were claimed on the way are kept for it, so that those behind it cannot take them for ever
//! in turns; what it did not get to claim stays free for those behind it, so that one slow VMA does not hold up
//! everybody else.

use std::collections::BTreeMap;

use crate::ids::{CredentialId, RepositoryId, VmaNodeId};
use crate::limits::CopyCount;

/// What a copy takes a place of, beside one of the hub's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopyNeeds {
    /// The VMA that reads, where it is known.
    pub vma: Option<VmaNodeId>,
    /// The vCenter or host that is read, where it wants a login: the first of the logins for it stands for it.
    pub source: Option<CredentialId>,
    /// The repository that is written, where it is one.
    pub repository: Option<RepositoryId>,
}

/// How many copies may be at work at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyLimits {
    /// On the whole hub.
    pub hub: CopyCount,
    /// From a VMA; one that is not here has no limit.
    pub vmas: BTreeMap<VmaNodeId, CopyCount>,
    /// From a vCenter or host, by whatever VMAs; one that is not here has no limit.
    pub sources: BTreeMap<CredentialId, CopyCount>,
    /// To a repository; one that is not here has no limit.
    pub repositories: BTreeMap<RepositoryId, CopyCount>,
    /// From a VMA that has said itself that it takes no more than these; it may be none.
    pub taken: BTreeMap<VmaNodeId, u32>,
}

/// Whose limit it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limited {
    /// A VMA's.
    Vma(VmaNodeId),
    /// A vCenter's or a host's.
    Source(CredentialId),
    /// A repository's.
    Repository(RepositoryId),
    /// The hub's.
    Hub,
}

/// What a copy in line waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Whose limit is reached.
    pub at: Limited,
    /// The limit.
    pub limit: u32,
    /// How many are at work there; more than the limit, when it was lowered meanwhile.
    pub at_work: u32,
    /// Places kept for those before it that wait for something else.
    pub kept: u32,
    /// Its place among those that wait for the same: 1 is next.
    pub place: u32,
}

/// What a copy in line does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It begins.
    Now,
    /// It waits.
    Waits(Wait),
}

/// Decides for everybody in line, in the order of their coming; the answers stand in the same order.
pub fn turns(at_work: &[CopyNeeds], line: &[CopyNeeds], limits: &CopyLimits) -> Vec<Turn> {
    let mut places: BTreeMap<Limited, Places> = BTreeMap::new();
    for copy in at_work {
        for limited in needed(*copy) {
            places.entry(limited).or_default().at_work += 1;
        }
    }
    line.iter().map(|copy| turn(*copy, limits, &mut places)).collect()
}

/// How the places of one limit are used.
#[derive(Clone, Copy, Debug, Default)]
struct Places {
    at_work: u32,
    kept: u32,
    waiting: u32,
}

fn turn(copy: CopyNeeds, limits: &CopyLimits, places: &mut BTreeMap<Limited, Places>) -> Turn {
    for at in needed(copy) {
        let Some(limit) = limit(limits, at) else { continue };
        let used = places.entry(at).or_default();
        if used.at_work.saturating_add(used.kept) >= limit {
            used.waiting += 1;
            let (at_work, kept, place) = (used.at_work, used.kept, used.waiting);
            return Turn::Waits(Wait { at, limit, at_work, kept, place });
        }
        used.kept += 1;
    }
    Turn::Now
}

/// The hub comes last: a place there is claimed by those only who can begin at once.
fn needed(copy: CopyNeeds) -> impl Iterator<Item = Limited> {
    let vma = copy.vma.map(Limited::Vma);
    let source = copy.source.map(Limited::Source);
    let repository = copy.repository.map(Limited::Repository);
    vma.into_iter().chain(source).chain(repository).chain([Limited::Hub])
}

fn limit(limits: &CopyLimits, of: Limited) -> Option<u32> {
    match of {
        Limited::Vma(id) => {
            let (set, taken) = (limits.vmas.get(&id), limits.taken.get(&id));
            set.map(|limit| limit.get()).into_iter().chain(taken.copied()).min()
        }
        Limited::Source(id) => limits.sources.get(&id).map(|limit| limit.get()),
        Limited::Repository(id) => limits.repositories.get(&id).map(|limit| limit.get()),
        Limited::Hub => Some(limits.hub.get()),
    }
}

#[cfg(test)]
mod tests;
