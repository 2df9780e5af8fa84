//! Hands a stored job to the supervisor, which runs it whatever becomes of the client.

use std::fmt::Display;
use std::future::Future;

use hub_job_runner::{JobKey, NotSpawned, Supervisor};
use tokio_util::sync::CancellationToken;

use crate::problem::Problem;

/// Runs a stored job in the background; one that is at work already stays as it is.
///
/// Every answer to a start comes here, new job or not: an earlier request may have ended between storing and launching.
pub(crate) fn launch<W, F, T, E>(
    supervisor: &Supervisor,
    kind: &'static str,
    id: impl Display,
    work: W,
) -> Result<(), Problem>
where
    W: FnOnce(CancellationToken) -> F + Send + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: std::error::Error + Send + 'static,
{
    let key = JobKey::new(kind, id);
    let named = key.clone();
    let spawned = supervisor.spawn_job(kind, key, |cancel| async move {
        if let Err(error) = work(cancel).await {
            let error: &(dyn std::error::Error + 'static) = &error;
            tracing::error!(
                job.key = %named, error,
                "a job could not store how it ended; the next start of the hub does"
            );
        }
    });
    match spawned {
        Ok(()) | Err(NotSpawned::Known) => Ok(()),
        Err(NotSpawned::Stopping) => Err(Problem::stopping()),
    }
}
