//! What a hub does first: takes up the jobs that its predecessor left, or ends them.

use std::collections::BTreeSet;

use hub_domain::access::VmaNode;
use hub_domain::ids::ReplicationJobId;
use hub_domain::job::{JobEvent, JobStatus};
use hub_domain::replication::ReplicationJob;
use hub_ports::store::{readable, reader, unless_unreadable};
use hub_ports::{Catalogue, StoreError, stop_copy};
use tokio::task::JoinSet;

use crate::Replication;
use crate::copying::copy_name;

/// What a recovery found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Jobs that are queued, for the caller to [`run`](Replication::run).
    pub waiting: BTreeSet<ReplicationJobId>,
    /// Of these, jobs that were at work.
    pub requeued: usize,
    /// Jobs that were ended as interrupted.
    pub interrupted: usize,
}

impl Replication {
    /// Queues every unfinished job again that may go on and ends the others as `interrupted`; calling it again finds the
    /// same jobs waiting and changes nothing (trap D38).
    ///
    /// The targets died with the hub that had opened them; the replicas stay and count as incomplete.
    pub async fn recover(&self) -> Result<Recovered, StoreError> {
        // A row that cannot be read stays as it is: no hub may be kept from starting by it.
        let unfinished = readable(self.store.view().await?.unfinished_replications(None).await?);
        self.stop_copies(&unfinished).await?;
        let mut recovered = Recovered::default();
        for job in unfinished {
            let fate = self.patiently(|| self.take_over(job.id)).await;
            if let Some(fate) = unless_unreadable(fate, UNTOLD)? {
                fate.count(job.id, &mut recovered);
            }
        }
        Ok(recovered)
    }

    /// Decides about one job that a predecessor left.
    async fn take_over(&self, id: ReplicationJobId) -> Result<Fate, StoreError> {
        let mut work = self.store.begin().await?;
        let Some(mut job) = work.replication(id).await? else {
            return Ok(Fate::Unchanged);
        };
        let status = job.state.status();
        if status.is_terminal() {
            return Ok(Fate::Unchanged);
        }
        // A replica is no restore point: a complete disk is brought to the new instant as well.
        let next = job.attempt.after_restart(status, false, self.options.copy_attempts);
        let (event, fate) = match next {
            Ok(_) if status == JobStatus::Queued => return Ok(Fate::Waits),
            Ok(attempt) => {
                job.attempt = attempt;
                (JobEvent::Requeued, Fate::Requeued)
            }
            Err(fault) => (JobEvent::Interrupted(fault), Fate::Interrupted),
        };
        let changed = self.apply_end(work.as_mut(), &mut job, None, event).await?;
        work.commit().await?;
        Ok(if changed { fate } else { Fate::Unchanged })
    }

    /// Asks the VMAs to stop pushing into targets that are gone; all at once, so that one that is away delays the
    /// start of a hub by its deadline only, however many jobs there are.
    async fn stop_copies(&self, jobs: &[ReplicationJob]) -> Result<(), StoreError> {
        let mut asked = JoinSet::new();
        for job in jobs.iter().filter(|job| job.state.started_at().is_some()) {
            let mut view = self.store.view().await?;
            let node = unless_unreadable(node_of(view.as_mut(), job).await, UNTOLD)?.flatten();
            let Some(node) = node else { continue };
            let (source, id) = (self.source.clone(), copy_name(job));
            let watch = self.options.watch;
            asked.spawn(async move { stop_copy(source.as_ref(), &node, &id, watch).await });
        }
        while asked.join_next().await.is_some() {}
        Ok(())
    }
}

/// What is said where a row that cannot be read stands in the way of one job's recovery.
const UNTOLD: &str = "a replication is left as it was while a row of the catalogue cannot be read";

/// The VMA that was ordered to copy; a job of an earlier release does not say which it was.
async fn node_of(
    catalogue: &mut dyn Catalogue,
    job: &ReplicationJob,
) -> Result<Option<VmaNode>, StoreError> {
    let Some(vm) = catalogue.vm(job.vm).await? else { return Ok(None) };
    match &job.remarks.copied_by {
        Some(by) => catalogue.vma_node(by.vma).await,
        None => Ok(reader(catalogue, &vm).await?.ok()),
    }
}

/// What became of a job.
enum Fate {
    Unchanged,
    Waits,
    Requeued,
    Interrupted,
}

impl Fate {
    fn count(self, id: ReplicationJobId, recovered: &mut Recovered) {
        match self {
            Self::Unchanged => (),
            Self::Interrupted => recovered.interrupted += 1,
            Self::Waits => drop(recovered.waiting.insert(id)),
            Self::Requeued => {
                recovered.requeued += 1;
                recovered.waiting.insert(id);
            }
        }
    }
}
