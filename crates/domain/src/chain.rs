//! Chains: which point stands on which, what the next backup stands on, and what may be deleted.

use std::collections::{BTreeMap, BTreeSet};

use crate::audit::{AuditRuns, Suspicion};
use crate::backup::{BackupJob, BackupType};
use crate::disk::{DiskKey, VmDisk};
use crate::ids::{BackupJobId, RepositoryId, VmContextId};
use crate::preflight::{Concern, Preflight};
use crate::source::CopyMethod;

/// Longest chain that an incremental may extend; a longer one is slow to open and fragile to keep.
pub const MAX_CHAIN_LENGTH: usize = 64;

/// What keeps a chain apart from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainKey {
    /// The VM.
    pub vm: VmContextId,
    /// The disk's ordinal.
    pub ordinal: u32,
    /// The repository.
    pub repository: RepositoryId,
}

/// One row per chain key: its current full, its latest point, and what both and all between take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupChain {
    /// Which chain.
    pub key: ChainKey,
    /// The full that the latest point stands on.
    pub full: BackupJobId,
    /// The newest completed point.
    pub latest: BackupJobId,
    /// Points from the full to the latest.
    pub count: u32,
    /// Bytes they take in the repository.
    pub stored_bytes: u64,
}

/// How one disk will be backed up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskPlan {
    /// What it becomes.
    pub backup_type: BackupType,
    /// The point it stands on; always given for an incremental.
    pub parent: Option<BackupJobId>,
    /// How the blocks are found.
    pub method: CopyMethod,
    /// Why it is a full where an incremental was asked for, or why this method.
    pub reason: Option<String>,
}

impl DiskPlan {
    /// The same, weighed against what speaks against the disk: where changes may go unseen, everything is read; where
    /// there are no marks to go by, it says why.
    #[must_use]
    pub fn weighed(self, preflight: &Preflight, disk: &DiskKey) -> Self {
        let says = |concern: &Concern| format!("{}: {}", concern.code(), concern.detail);
        if matches!(self.method, CopyMethod::ChangedSince { .. }) {
            return match preflight.doubt(disk) {
                Some(doubt) => {
                    Self { method: CopyMethod::ByDigest, reason: Some(says(doubt)), ..self }
                }
                None => self,
            };
        }
        let known = [self.reason.clone(), preflight.full_read(disk).map(says)];
        let known: Vec<String> = known.into_iter().flatten().collect();
        Self { reason: Some(known.join("; ")).filter(|it| !it.is_empty()), ..self }
    }
}

/// Plans the backup of one disk from the points that exist under its chain key.
///
/// An incremental stands only on a completed point of the very same disk row in the very same repository
/// (traps D9, D13, C2, C3); where there is none, the disk is read in full and the plan says why.
pub fn plan_disk_backup(asked: BackupType, disk: &VmDisk, points: &[BackupJob]) -> DiskPlan {
    if asked == BackupType::Full {
        return full(None);
    }
    match extended(disk, points) {
        (length, _) if length >= MAX_CHAIN_LENGTH => {
            because("the chain has reached its greatest length")
        }
        (_, plan) => plan,
    }
}

/// What a copy of a disk that reads the whole of it can audit its source against: the latest point and its mark, where
/// that mark would be believed. It is nothing where that chain is suspect already.
pub fn chain_to_audit<'a>(
    disk: &VmDisk,
    points: &'a [BackupJob],
    preflight: &Preflight,
) -> Option<(&'a BackupJob, String)> {
    let (_, plan) = extended(disk, points);
    let plan = plan.weighed(preflight, &disk.facts.key);
    let latest = points.iter().find(|it| Some(it.id) == plan.parent)?;
    match plan.method {
        CopyMethod::ChangedSince { change_id } => Some((latest, change_id)),
        CopyMethod::Full | CopyMethod::ByDigest => None,
    }
}

/// The plan that goes on with the latest chain, however long that is, and its length if it can be gone on with.
fn extended(disk: &VmDisk, points: &[BackupJob]) -> (usize, DiskPlan) {
    let anew = |reason| (0, because(reason));
    let Some(parent) = latest_point(points) else {
        return anew("no completed backup of this disk in this repository");
    };
    if parent.disk != Some(disk.id) {
        return anew("the latest backup under this ordinal is of another disk");
    }
    if parent.capacity > disk.facts.capacity {
        return anew("the disk is smaller than at its latest backup");
    }
    let Some(chain) = chain_to(points, parent.id) else {
        return anew("the chain of the latest backup is incomplete");
    };
    if let Some(suspicion) = suspicion_of(&chain) {
        let reason = format!(
            "the source left out changes in the chain of the latest backup, as the audit in backup {} found",
            suspicion.found_by
        );
        return (0, full(Some(reason)));
    }
    let caught = |it: &BackupJob| {
        it.suspicion.as_ref().is_some_and(|suspicion| suspicion.found_by == parent.id)
    };
    (chain.len(), incremental(parent, disk, points.iter().any(caught)))
}

/// Where the audit of a disk goes on, in bytes: where the latest point left it, whatever is planned.
pub fn audit_from(points: &[BackupJob]) -> u64 {
    latest_point(points).map_or(0, |latest| latest.audited.next)
}

/// Within how many runs the audit really gets around a disk: as many as asked for, and never more than a chain has
/// incrementals, so that none ends by its length before all of it was looked at.
pub fn audit_runs_in_chain(asked: AuditRuns) -> AuditRuns {
    let incrementals = u32::try_from(MAX_CHAIN_LENGTH - 1).unwrap_or(AuditRuns::MAX);
    AuditRuns::new(incrementals).map_or(asked, |most| asked.min(most))
}

/// Why a chain is suspect, if it is.
pub fn suspicion_of<'a>(chain: &[&'a BackupJob]) -> Option<&'a Suspicion> {
    chain.iter().find_map(|point| point.suspicion.as_ref())
}

/// The points that a backup stands on, as far as they are known, itself included; broken and unfinished ones, too.
pub fn ancestry(points: &[BackupJob], tip: BackupJobId) -> Vec<BackupJobId> {
    let parents: BTreeMap<_, _> = points.iter().map(|job| (job.id, job.parent)).collect();
    let mut found = Vec::new();
    let mut next = Some(tip);
    while let Some(id) = next.filter(|id| parents.contains_key(id) && !found.contains(id)) {
        found.push(id);
        next = parents.get(&id).copied().flatten();
    }
    found
}

fn because(reason: &str) -> DiskPlan {
    full(Some(reason.to_owned()))
}

fn full(reason: Option<String>) -> DiskPlan {
    DiskPlan { backup_type: BackupType::Full, parent: None, method: CopyMethod::Full, reason }
}

/// `caught` says whether the parent's own audit found that the source had left out changes before it.
fn incremental(parent: &BackupJob, disk: &VmDisk, caught: bool) -> DiskPlan {
    let grown = parent.capacity < disk.facts.capacity;
    let (method, reason) = match &parent.change_id {
        _ if caught => (
            CopyMethod::ByDigest,
            Some(
                "the source left out changes before the latest backup, as the audit of that backup found",
            ),
        ),
        Some(_) if grown => {
            (CopyMethod::ByDigest, Some("the disk has grown since its latest backup"))
        }
        Some(id) => (CopyMethod::ChangedSince { change_id: id.clone() }, None),
        None => (CopyMethod::ByDigest, Some("the source gave no change id at the latest backup")),
    };
    DiskPlan {
        backup_type: BackupType::Incremental,
        parent: Some(parent.id),
        method,
        reason: reason.map(ToOwned::to_owned),
    }
}

/// The newest restore point; ids grow with time, and a run's order is not a matter of clocks.
pub fn latest_point(points: &[BackupJob]) -> Option<&BackupJob> {
    points.iter().filter(|job| job.is_restore_point()).max_by_key(|job| (job.created_at, job.id))
}

/// The points from the full to the given one, in that order; `None` when a link is missing or not completed.
pub fn chain_to(points: &[BackupJob], tip: BackupJobId) -> Option<Vec<&BackupJob>> {
    let by_id: BTreeMap<BackupJobId, &BackupJob> =
        points.iter().filter(|job| job.is_restore_point()).map(|job| (job.id, job)).collect();
    let mut seen = BTreeSet::new();
    let mut chain = Vec::new();
    let mut next = Some(tip);
    while let Some(id) = next {
        if !seen.insert(id) {
            return None;
        }
        let point = *by_id.get(&id)?;
        next = point.parent;
        chain.push(point);
    }
    chain.reverse();
    chain.first().is_some_and(|first| first.backup_type == BackupType::Full).then_some(chain)
}

/// The jobs that stand on a point and forbid its deletion: restore points, and jobs still at work (promise P10).
pub fn children_of(jobs: &[BackupJob], point: BackupJobId) -> Vec<BackupJobId> {
    jobs.iter()
        .filter(|job| job.parent == Some(point))
        .filter(|job| job.is_restore_point() || !job.state.status().is_terminal())
        .map(|job| job.id)
        .collect()
}

/// The chain row for the points of one key; `None` when there is no restore point.
pub fn summarise_chain(key: ChainKey, points: &[BackupJob]) -> Option<BackupChain> {
    let latest = latest_point(points)?;
    let chain = chain_to(points, latest.id)?;
    Some(BackupChain {
        key,
        full: chain.first()?.id,
        latest: latest.id,
        count: u32::try_from(chain.len()).ok()?,
        stored_bytes: chain.iter().map(|point| point.stored_bytes).sum(),
    })
}

#[cfg(test)]
mod tests;
