//! What a hub does first: ends the jobs that its predecessor left.

use hub_domain::fault::Fault;
use hub_domain::job::JobEvent;
use hub_domain::replication::ReplicationJob;
use hub_ports::{StoreError, stop_copy};
use tokio::task::JoinSet;

use crate::Replication;
use crate::engine::reach;

impl Replication {
    /// Ends every unfinished job as `interrupted`; returns how many. Calling it again finds nothing (trap D38).
    ///
    /// The targets died with the hub that had opened them; the replicas stay and count as incomplete.
    pub async fn recover(&self) -> Result<usize, StoreError> {
        let unfinished = self.store.view().await?.unfinished_replications(None).await?;
        self.stop_copies(&unfinished).await?;
        let mut ended = 0;
        for job in unfinished {
            let interrupted = self.patiently(|| async {
                let mut work = self.store.begin().await?;
                let Some(mut job) = work.replication(job.id).await? else {
                    return Ok(false);
                };
                let event = JobEvent::Interrupted(Fault::hub_restarted());
                let changed = self.apply_end(work.as_mut(), &mut job, None, event).await?;
                work.commit().await?;
                Ok(changed)
            });
            ended += usize::from(interrupted.await?);
        }
        Ok(ended)
    }

    /// Asks the VMAs to stop pushing into targets that are gone; all at once, so that one that is away delays the
    /// start of a hub by its deadline only, however many jobs there are.
    async fn stop_copies(&self, jobs: &[ReplicationJob]) -> Result<(), StoreError> {
        let mut asked = JoinSet::new();
        for job in jobs.iter().filter(|job| job.state.started_at().is_some()) {
            let mut view = self.store.view().await?;
            let Some(vm) = view.vm(job.vm).await? else { continue };
            let Ok(reach) = reach(view.as_mut(), &vm).await? else { continue };
            let (source, id) = (self.source.clone(), job.id.to_string());
            let watch = self.options.watch;
            asked.spawn(async move { stop_copy(source.as_ref(), &reach.node, &id, watch).await });
        }
        while asked.join_next().await.is_some() {}
        Ok(())
    }
}
