//! Who is asked for a snapshot: the VMA that was ordered to copy, and others at its source where that one cannot be asked.

use std::collections::BTreeSet;

use hub_domain::access::{Credential, VmaNode};
use hub_domain::fault::Fault;
use hub_domain::ids::{VmContextId, VmaNodeId};
use hub_domain::job::JobStatus;
use hub_domain::owed::{CleanupOutcome, OwedBy, OwedCleanup};
use hub_domain::reader_choice::login_at;

use super::OwedCleanups;
use crate::store::login_through;
use crate::{Classify, CleanupOrder, SourceError, StoreError};

/// What a VMA has answered.
type Asked = Result<CleanupOutcome, SourceError>;

/// The ways to a snapshot.
struct Ways {
    first: Way,
    /// Through VMAs that could stand in for a silent one.
    others: Vec<Way>,
}

struct Way {
    node: VmaNode,
    credential: Option<Credential>,
}

impl OwedCleanups {
    /// Asks the VMA that took the snapshot, or who is there now that it is gone.
    pub(super) async fn ask(&self, owed: &OwedCleanup) -> Result<Asked, StoreError> {
        match self.ways(owed).await? {
            Ok(ways) => Ok(self.ask_through(owed, &ways.first).await),
            Err(fault) => Ok(Ok(CleanupOutcome::Failed(fault))),
        }
    }

    /// The same, and where that one does not answer, or reaches another vCenter by now, the next that reads the same
    /// source; nothing where nobody new was asked. Whoever does not answer joins the silent.
    ///
    /// A stand-in is asked for a job that has ended, and while no other copies the VM. That it finds nothing settles
    /// nothing: the silent one may have the order, and take the snapshot yet.
    pub(super) async fn ask_whoever_answers(
        &self,
        owed: &OwedCleanup,
        silent: &mut BTreeSet<VmaNodeId>,
    ) -> Result<Option<Asked>, StoreError> {
        let ways = match self.ways(owed).await? {
            Ok(ways) => ways,
            Err(fault) => return Ok(Some(Ok(CleanupOutcome::Failed(fault)))),
        };
        let mut silence = None;
        if !silent.contains(&ways.first.node.id) {
            let asked = self.ask_through(owed, &ways.first).await;
            if asked.as_ref().is_err_and(SourceError::is_transient) {
                silent.insert(ways.first.node.id);
            } else if !is_elsewhere(&asked) {
                return Ok(Some(asked));
            }
            silence = Some(asked);
        }
        if ways.others.is_empty() || !self.is_free(owed).await? {
            return Ok(silence);
        }
        for way in &ways.others {
            if silent.contains(&way.node.id) {
                continue;
            }
            match self.ask_through(owed, way).await {
                Ok(CleanupOutcome::Removed) => {
                    tracing::info!(
                        snapshot = %owed.copy, vm.name = %owed.vm_name, vma.name = %way.node.name,
                        "a snapshot of a VMA that does not answer was removed through another"
                    );
                    return Ok(Some(Ok(CleanupOutcome::Removed)));
                }
                Ok(CleanupOutcome::None) => return Ok(silence),
                Err(error) if error.is_transient() => {
                    silent.insert(way.node.id);
                }
                asked if is_elsewhere(&asked) => (),
                failed => return Ok(Some(failed)),
            }
        }
        Ok(silence)
    }

    /// Removes through a VMA what others owe for a VM that nobody copies.
    pub(super) async fn settle_of_others(
        &self,
        node: &VmaNode,
        vm: VmContextId,
    ) -> Result<(), StoreError> {
        let all = self.store.view().await?.owed_cleanups(self.options.most).await?;
        for owed in all.into_iter().filter(|it| it.vm == vm && it.vma_node != node.id) {
            let Ok(Ways { first, others }) = self.ways(&owed).await? else { continue };
            let way = [first].into_iter().chain(others).find(|way| way.node.id == node.id);
            let Some(way) = way else { continue };
            if !self.is_free(&owed).await? {
                continue;
            }
            let asked = self.ask_through(&owed, &way).await;
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

    async fn ways(&self, owed: &OwedCleanup) -> Result<Result<Ways, Fault>, StoreError> {
        let mut view = self.store.view().await?;
        let nodes = view.vma_nodes().await?;
        let mut readers = readers_of_owed(owed, &nodes).into_iter();
        let Some(first) = readers.next() else {
            let detail = format!(
                "no registered VMA reads {}; register one there, or remove the snapshot by hand",
                owed.source
            );
            return Ok(Err(Fault::new("vm/no-vma", detail)));
        };
        let Some(login) = owed.credential else {
            let plain = |node: &VmaNode| Way { node: node.clone(), credential: None };
            return Ok(Ok(Ways { first: plain(first), others: readers.map(plain).collect() }));
        };
        let Some(login) = view.credential(login).await? else {
            let detail = "the login was removed; remove the snapshot by hand";
            return Ok(Err(Fault::new("credential/not-found", detail)));
        };
        let vm = view.vm(owed.vm).await?;
        let others = readers.filter_map(|node| {
            let credential = Some(login_at(&login, node, &nodes, vm.as_ref())?);
            Some(Way { node: node.clone(), credential })
        });
        let others = others.collect();
        let credential = login_through(view.as_mut(), login, first, vm.as_ref()).await?;
        let first = Way { node: first.clone(), credential: Some(credential) };
        Ok(Ok(Ways { first, others }))
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
        for other in all.iter().filter(|it| it.vm == owed.vm) {
            if self.is_at_work(other.job).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn statuses(&self, job: OwedBy) -> Result<Vec<JobStatus>, StoreError> {
        let mut view = self.store.view().await?;
        Ok(match job {
            OwedBy::Backup(run) => {
                let jobs = view.backups_of_run(run).await?;
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
