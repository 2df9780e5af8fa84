//! Hands a stored job to the supervisor, which runs it whatever becomes of the client.

use std::fmt::Display;
use std::future::Future;

use futures::FutureExt;
use futures::future::BoxFuture;
use hub_domain::copy_line::CopyNeeds;
use hub_domain::ids::{RepositoryId, VmContextId};
use hub_domain::job::JobStatus;
use hub_domain::vm::VmAddress;
use hub_job_runner::{JobKey, NotSpawned, Supervisor};
use hub_ports::retry_patiently;
use hub_ports::store::find_vm;
use tokio_util::sync::CancellationToken;

use crate::problem::Problem;
use crate::state::Hub;

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
    answered(supervisor.spawn_job(kind, key.clone(), told(key, work)))
}

/// The same for a copy, which waits in line for its VMA, its repository and the hub, and begins with what its source says
/// of the VM by then.
///
/// One that its VMA refuses for the moment is queued again and joins the line anew within seconds, as every stored job
/// that nobody has.
pub(crate) fn launch_copy<W, F, E>(
    hub: &Hub,
    kind: &'static str,
    id: impl Display,
    vm: VmContextId,
    needs: CopyNeeds,
    work: W,
) -> Result<(), Problem>
where
    W: FnOnce(CancellationToken) -> F + Send + 'static,
    F: Future<Output = Result<JobStatus, E>> + Send + 'static,
    E: std::error::Error + Send + 'static,
{
    let (key, copies) = (JobKey::new(kind, id), hub.supervisor.copies().clone());
    let discovery = hub.discovery.clone();
    let in_turn = move |cancel: CancellationToken| async move {
        // It may have waited in line for long.
        let refreshed = discovery.refresh_before_copy(vm);
        let _ = cancel.run_until_cancelled(refreshed).await;
        let ended = work(cancel.clone()).await;
        if matches!(ended, Ok(JobStatus::Queued)) && !cancel.is_cancelled() {
            copies.refused(needs);
        }
        ended
    };
    answered(hub.supervisor.spawn_copy(kind, key.clone(), needs, told(key, in_turn)))
}

/// Asks a VM's source before jobs are stored, whose disks do not change any more: one that the VM has got since the last
/// discovery belongs to them, and one that took the place of another does not go on with its chain.
pub(crate) async fn ask_source(hub: &Hub, vm: &VmAddress) -> Result<(), Problem> {
    let vm = find_vm(hub.store.view().await?.as_mut(), vm).await?.id;
    hub.discovery.refresh_before_copy(vm).await;
    Ok(())
}

/// What a copy of a VM has to wait for.
///
/// Its job is stored already, and nobody else would run it before the next start of the hub: a catalogue that is away is
/// waited for.
pub(crate) async fn copy_needs(
    hub: &Hub,
    vm: VmContextId,
    to: Option<RepositoryId>,
) -> Result<CopyNeeds, Problem> {
    let copies = hub.supervisor.copies();
    let asked = retry_patiently(hub.backup.options.store_patience, || async {
        copies.needs_of(hub.store.view().await?.as_mut(), vm, to).await
    });
    Ok(hub.stop.run_until_cancelled(asked).await.ok_or_else(Problem::stopping)??)
}

/// The work, telling the log when it could not store how it ended.
fn told<W, F, T, E>(
    key: JobKey,
    work: W,
) -> impl FnOnce(CancellationToken) -> BoxFuture<'static, ()> + Send + 'static
where
    W: FnOnce(CancellationToken) -> F + Send + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: std::error::Error + Send + 'static,
{
    move |cancel| {
        async move {
            if let Err(error) = work(cancel).await {
                let error: &(dyn std::error::Error + 'static) = &error;
                tracing::error!(
                    job.key = %key, error,
                    "a job could not store how it ended; the next start of the hub does"
                );
            }
        }
        .boxed()
    }
}

fn answered(spawned: Result<(), NotSpawned>) -> Result<(), Problem> {
    match spawned {
        Ok(()) | Err(NotSpawned::Known) => Ok(()),
        Err(NotSpawned::Stopping) => Err(Problem::stopping()),
    }
}
