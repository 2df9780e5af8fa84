//! What a hub does first: ends the jobs that its predecessor left.

use hub_domain::fault::Fault;
use hub_domain::job::JobEvent;
use hub_ports::StoreError;

use crate::Replication;

impl Replication {
    /// Ends every unfinished job as `interrupted`; returns how many. Calling it again finds nothing (trap D38).
    ///
    /// The targets died with the hub that had opened them; the replicas stay and count as incomplete.
    pub async fn recover(&self) -> Result<usize, StoreError> {
        let unfinished = self.store.view().await?.unfinished_replications(None).await?;
        let mut ended = 0;
        for job in unfinished {
            let interrupted = self.patiently(|| async {
                let mut work = self.store.begin().await?;
                let Some(mut job) = work.replication(job.id).await? else {
                    return Ok(false);
                };
                let detail = "the hub went away while the job was at work; start it again";
                let event = JobEvent::Interrupted(Fault::new("job/hub-restarted", detail));
                let changed = self.apply_end(work.as_mut(), &mut job, None, event).await?;
                work.commit().await?;
                Ok(changed)
            });
            ended += usize::from(interrupted.await?);
        }
        Ok(ended)
    }
}
