//! Jobs that are stored as queued and that nobody has: the answer to their commit was lost, so who stored them gave up,
//! or their VMA took no more when their turn had come.

use std::collections::BTreeMap;

use hub_domain::job::JobState;
use hub_job_runner::JobKey;
use hub_ports::StoreError;
use hub_ports::store::{readable, unless_unreadable};

use crate::backups::runs;
use crate::jobs::{replications, restores, verifications};
use crate::state::Hub;

/// What is said where a row that cannot be read stands in the way of one job.
pub(crate) const UNTOLD: &str = "a job is not taken up while a row of the catalogue cannot be read";

/// Hands every such job to the supervisor, as its request would have done; one that somebody has stays as it is.
pub(crate) async fn claim(hub: &Hub) -> Result<(), StoreError> {
    hub.supervisor.copies().ask_again();
    // What ends meanwhile is in the first list, and what is handed over meanwhile in the second.
    let mut known = hub.supervisor.tasks();
    let mut view = hub.store.view().await?;
    let backups = readable(view.unfinished_backups(None).await?);
    let replications = readable(view.unfinished_replications(None).await?);
    let restores = readable(view.unfinished_restores().await?);
    let verifications = readable(view.unfinished_verifications().await?);
    drop(view);
    known.extend(hub.supervisor.tasks());
    let is_unclaimed = |state: &JobState, key: &JobKey| {
        let it_is = *state == JobState::Queued && !known.contains(key);
        if it_is {
            tracing::info!(job.key = %key, "a stored job that nobody has is taken up");
        }
        it_is
    };
    let runs: BTreeMap<_, _> = backups.into_iter().map(|job| (job.run, job.state)).collect();
    for (run, state) in runs {
        if is_unclaimed(&state, &JobKey::new(runs::KIND, run)) {
            unless_unreadable(runs::take_up(hub, run).await, UNTOLD)?;
        }
    }
    for job in replications {
        if is_unclaimed(&job.state, &JobKey::new(replications::KIND, job.id)) {
            unless_unreadable(replications::take_up(hub, job.id).await, UNTOLD)?;
        }
    }
    for job in restores {
        if is_unclaimed(&job.state, &JobKey::new(restores::KIND, job.id)) {
            restores::take_up(hub, job.id);
        }
    }
    for job in verifications {
        if is_unclaimed(&job.state, &JobKey::new(verifications::KIND, job.id)) {
            verifications::take_up(hub, job.id);
        }
    }
    Ok(())
}
