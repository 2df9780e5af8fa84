//! What a hub that is gone left at work is ended when the next one starts.

use hub_domain::access::VmaNode;
use hub_domain::replication::ReplicationJob;
use hub_ports::StoreError;
use tokio::task::JoinSet;

use crate::engine::Replication;
use crate::record::Ending;
use crate::route::route_of;

impl Replication {
    /// Ends every unfinished job as interrupted, and asks its VMA to stop pushing into targets that are gone.
    ///
    /// Call it before anything new starts; calling it again changes nothing. A VMA that does not answer delays it by
    /// [`Options::cancel_timeout`](crate::Options::cancel_timeout) at most, however many jobs there are.
    pub async fn recover(&self) -> Result<(), StoreError> {
        let unfinished = self.store.view().await?.unfinished_replications(None).await?;
        let mut asked = JoinSet::new();
        for job in unfinished.iter().filter(|job| job.state.started_at().is_some()) {
            match self.node_of(job).await? {
                Some(node) => {
                    let (engine, id) = (self.clone(), job.id);
                    asked.spawn(async move { engine.stop_copy(id, &node).await });
                }
                None => tracing::warn!(job.id = %job.id, "no VMA of an interrupted job is known"),
            }
        }
        while asked.join_next().await.is_some() {}
        for job in unfinished {
            self.end(job.id, job.vm, &[], &Ending::Recovered).await?;
        }
        Ok(())
    }

    async fn node_of(&self, job: &ReplicationJob) -> Result<Option<VmaNode>, StoreError> {
        let mut view = self.store.view().await?;
        let Some(vm) = view.vm(job.vm).await? else {
            return Ok(None);
        };
        Ok(route_of(view.as_mut(), &vm).await.ok().map(|route| route.node))
    }
}
