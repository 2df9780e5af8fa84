//! Who is asked for a snapshot: the VMA that was ordered to copy, and others at its source where that one cannot be asked.

use hub_domain::access::{Credential, VmaNode};
use hub_domain::fault::Fault;
use hub_domain::ids::{VmContextId, VmaNodeId};
use hub_domain::job::JobStatus;
use hub_domain::owed::{CleanupOutcome, OwedBy, OwedCleanup};
use hub_domain::reader_choice::login_at;

use super::OwedCleanups;
use super::rounds::{Basis, Silence};
use crate::store::{all_readable, known, login_through, readable, unless_unreadable};
use crate::{Classify, CleanupOrder, SourceError, StoreError};

/// What a VMA has answered.
pub(super) type Asked = Result<CleanupOutcome, SourceError>;

/// Refusals that say nothing of the snapshot: the VMA is there, and cannot look.
const CANNOT_LOOK: &[&str] = &["source/endpoint-unreachable", "vma/stopping"];

/// What was heard of a snapshot in a round.
pub(super) struct Heard {
    /// The answer; nothing where nobody new was asked.
    pub(super) asked: Option<Asked>,
    /// Whether somebody has looked, or would not.
    pub(super) is_answered: bool,
}

/// The ways to a snapshot.
pub(super) struct Ways {
    first: Way,
    /// Through VMAs that could stand in for a silent one.
    others: Vec<Way>,
}

struct Way {
    node: VmaNode,
    credential: Option<Credential>,
}

impl Ways {
    /// The VMA that is asked first.
    pub(super) fn first(&self) -> VmaNodeId {
        self.first.node.id
    }
}

impl OwedCleanups {
    /// Asks the VMA that took the snapshot, or who is there now that it is gone.
    pub(super) async fn ask(&self, owed: &OwedCleanup) -> Result<Asked, StoreError> {
        match self.ways(owed).await?.0 {
            Ok(ways) => Ok(self.ask_through(owed, &ways.first).await),
            Err(fault) => Ok(Ok(CleanupOutcome::Failed(fault))),
        }
    }

    /// The same in a round, and where that one does not answer, or reaches another vCenter by now, the next that reads the
    /// same source. Whoever does not answer, or does not reach the source, joins the silent. What is not due is asked for
    /// only where that finds out whether its VMA is back.
    ///
    /// A stand-in is asked for a job that has ended, and while no other copies the VM. That it finds nothing settles
    /// nothing: the silent one may have the order, and take the snapshot yet.
    pub(super) async fn ask_whoever_answers(
        &self,
        owed: &OwedCleanup,
        ways: Result<Ways, Fault>,
        is_due: bool,
        silence: &mut Silence,
    ) -> Result<Heard, StoreError> {
        let answered = |asked: Asked| Ok(Heard { asked: Some(asked), is_answered: true });
        let ways = match ways {
            Ok(ways) => ways,
            Err(fault) if is_due => return answered(Ok(CleanupOutcome::Failed(fault))),
            Err(_) => return Ok(Heard { asked: None, is_answered: false }),
        };
        let (first, mut heard) = (ways.first(), Heard { asked: None, is_answered: false });
        if !silence.has(first) && (is_due || silence.is_in_doubt(first)) {
            let asked = self.ask_through(owed, &ways.first).await;
            if is_silence(&asked) {
                silence.join(first);
                heard.asked = Some(asked);
            } else {
                silence.leave(first);
                if !is_elsewhere(&asked) {
                    return answered(asked);
                }
                heard = Heard { asked: Some(asked), is_answered: true };
            }
        }
        if !is_due || ways.others.is_empty() || !self.is_free(owed).await? {
            return Ok(heard);
        }
        for way in &ways.others {
            if silence.has(way.node.id) {
                continue;
            }
            let asked = self.ask_through(owed, way).await;
            match asked {
                Ok(CleanupOutcome::Removed) => {
                    tracing::info!(
                        snapshot = %owed.copy, vm.name = %owed.vm_name, vma.name = %way.node.name,
                        "a snapshot of a VMA that does not answer was removed through another"
                    );
                    return answered(Ok(CleanupOutcome::Removed));
                }
                Ok(CleanupOutcome::None) => return Ok(Heard { is_answered: true, ..heard }),
                asked if is_silence(&asked) => silence.join(way.node.id),
                asked if is_elsewhere(&asked) => {}
                failed => return answered(failed),
            }
        }
        Ok(heard)
    }

    /// Removes through a VMA what others owe for a VM that nobody copies.
    pub(super) async fn settle_of_others(
        &self,
        node: &VmaNode,
        vm: VmContextId,
    ) -> Result<(), StoreError> {
        let all = self.store.view().await?.owed_cleanups(self.options.most).await?;
        let of_others = |it: &OwedCleanup| it.vm == vm && it.vma_node != node.id;
        for owed in readable(all).into_iter().filter(of_others) {
            let ways = unless_unreadable(self.ways(&owed).await, super::UNTOLD)?;
            let Some((Ok(Ways { first, others }), _)) = ways else { continue };
            let way = [first].into_iter().chain(others).find(|way| way.node.id == node.id);
            let Some(way) = way else { continue };
            if !self.is_free(&owed).await? {
                continue;
            }
            let asked = self.ask_through(&owed, &way).await;
            if is_silence(&asked) {
                return Ok(());
            }
            if matches!(asked, Ok(CleanupOutcome::Removed)) {
                self.take_down(owed, asked).await?;
            }
        }
        Ok(())
    }

    async fn ask_through(&self, owed: &OwedCleanup, way: &Way) -> Asked {
        let order = CleanupOrder {
            copy: owed.copy.clone(),
            vm: owed.vmware_vm_id.clone(),
            source: owed.source.clone(),
            credential: way.credential.clone(),
        };
        self.source.clean_up(&way.node, &order).await
    }

    /// Who can be asked, and what that rests on.
    pub(super) async fn ways(
        &self,
        owed: &OwedCleanup,
    ) -> Result<(Result<Ways, Fault>, Basis), StoreError> {
        let mut view = self.store.view().await?;
        let nodes = known(view.vma_nodes().await?, [Some(owed.vma_node), None])?;
        let vm = view.vm(owed.vm).await?;
        let readers = readers_of_owed(owed, &nodes);
        let mut basis = Basis {
            ordered_at: owed.ordered_at,
            vmas: readers.iter().map(|node| (node.id, node.url.clone())).collect(),
            login: None,
            vm: vm.as_ref().and_then(|it| it.facts_at),
        };
        let mut readers = readers.into_iter();
        let Some(first) = readers.next() else {
            let detail = format!(
                "no registered VMA reads {}; register one there, or remove the snapshot by hand",
                owed.source
            );
            return Ok((Err(Fault::new("vm/no-vma", detail)), basis));
        };
        let Some(login) = owed.credential else {
            let plain = |node: &VmaNode| Way { node: node.clone(), credential: None };
            let ways = Ways { first: plain(first), others: readers.map(plain).collect() };
            return Ok((Ok(ways), basis));
        };
        let Some(login) = view.credential(login).await? else {
            let detail = "the login was removed; remove the snapshot by hand";
            return Ok((Err(Fault::new("credential/not-found", detail)), basis));
        };
        basis.login = Some(login.updated_at);
        let others = readers.filter_map(|node| {
            let credential = Some(login_at(&login, node, &nodes, vm.as_ref())?);
            Some(Way { node: node.clone(), credential })
        });
        let others = others.collect();
        let credential = login_through(view.as_mut(), login, first, vm.as_ref()).await?;
        let first = Way { node: first.clone(), credential: Some(credential) };
        Ok((Ok(Ways { first, others }), basis))
    }

    /// Whether the job may still need its snapshot.
    pub(super) async fn is_at_work(&self, job: OwedBy) -> Result<bool, StoreError> {
        let works =
            |status: &JobStatus| matches!(status, JobStatus::Running | JobStatus::Cancelling);
        Ok(self.statuses(job).await?.iter().any(works))
    }

    /// Whether the job has ended, with no attempt to come, and no other copies its VM.
    async fn is_free(&self, owed: &OwedCleanup) -> Result<bool, StoreError> {
        if self.statuses(owed.job).await?.iter().any(|status| !status.is_terminal()) {
            return Ok(false);
        }
        let all = self.store.view().await?.owed_cleanups(self.options.most).await?;
        for other in all {
            let works = match other {
                Ok(other) => other.vm == owed.vm && self.is_at_work(other.job).await?,
                // Whose copy it is of cannot be told.
                Err(other) => other.may_be_of(&owed.vm),
            };
            if works {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn statuses(&self, job: OwedBy) -> Result<Vec<JobStatus>, StoreError> {
        let mut view = self.store.view().await?;
        Ok(match job {
            OwedBy::Backup(run) => {
                let jobs = all_readable(view.backups_of_run(run).await?)?;
                jobs.iter().map(|job| job.state.status()).collect()
            }
            OwedBy::Replication(id) => {
                view.replication(id).await?.iter().map(|job| job.state.status()).collect()
            }
        })
    }
}

/// Whether a VMA has looked nowhere, because its endpoint leads to another vCenter by now.
fn is_elsewhere(asked: &Asked) -> bool {
    matches!(asked, Ok(CleanupOutcome::Failed(fault)) if fault.code == Fault::OTHER_VCENTER)
}

/// Whether a VMA does not answer, or answers that it cannot look: whatever else hangs on it would be told the same.
fn is_silence(asked: &Asked) -> bool {
    let cannot_look = |fault: &Fault| CANNOT_LOOK.contains(&fault.code.as_str());
    match asked {
        Ok(CleanupOutcome::Failed(fault)) | Err(SourceError::Refused(fault)) => cannot_look(fault),
        Ok(CleanupOutcome::Removed | CleanupOutcome::None) => false,
        Err(error) => error.is_transient(),
    }
}

/// The VMA that took the snapshot, unless it is gone or known to read something else by now; then others there, by name.
fn readers_of_owed<'a>(owed: &OwedCleanup, nodes: &'a [VmaNode]) -> Vec<&'a VmaNode> {
    let reads = |node: &VmaNode| node.source.is_called(&owed.source);
    let own = nodes.iter().find(|node| node.id == owed.vma_node && reads(node) != Some(false));
    let is_other = |node: &&VmaNode| own.is_none_or(|own| own.id != node.id);
    let mut others: Vec<&VmaNode> = nodes
        .iter()
        .filter(|node| is_other(node) && node.takes_snapshots() && reads(node) == Some(true))
        .collect();
    others.sort_by(|one, other| one.name.cmp(&other.name));
    own.into_iter().chain(others).collect()
}
