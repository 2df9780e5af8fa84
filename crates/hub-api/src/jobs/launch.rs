//! Hands a stored job to the supervisor, which runs it whatever becomes of the client.

use std::fmt::Display;
use std::future::Future;

use futures::FutureExt;
use futures::future::BoxFuture;
use hub_backup::{Backup, RunBackupError};
use hub_discovery::Discovery;
use hub_domain::copy_line::CopyNeeds;
use hub_domain::ids::{BackupRunId, ReplicationJobId, RepositoryId, VmContextId, VmaNodeId};
use hub_domain::job::JobStatus;
use hub_domain::time::Timestamp;
use hub_domain::vm::VmAddress;
use hub_job_runner::{CopySlots, JobKey, NotSpawned, Supervisor};
use hub_ports::store::find_vm;
use hub_ports::{StoreError, retry_patiently, told};
use hub_replication::{Replication, RunReplicationError};
use tokio_util::sync::CancellationToken;

use super::replications;
use crate::backups::runs;
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
    answered(supervisor.spawn_job(kind, key.clone(), log_failure(key, work)))
}

/// A stored copy, whose turn comes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum StoredCopy {
    /// A backup run.
    Backup(BackupRunId),
    /// A replication.
    Replication(ReplicationJobId),
}

/// Why a copy was not run to its end.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error(transparent)]
    Backup(#[from] RunBackupError),
    #[error(transparent)]
    Replication(#[from] RunReplicationError),
}

/// What carries a copy out when its turn has come.
struct Turn {
    copy: StoredCopy,
    vm: VmContextId,
    needs: CopyNeeds,
    /// When the request had its source asked, and got an answer.
    asked_at: Option<Timestamp>,
    backup: Backup,
    replication: Replication,
    discovery: Discovery,
    copies: CopySlots,
}

impl StoredCopy {
    fn key(self) -> JobKey {
        match self {
            Self::Backup(id) => JobKey::new(runs::KIND, id),
            Self::Replication(id) => JobKey::new(replications::KIND, id),
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Backup(_) => runs::KIND,
            Self::Replication(_) => replications::KIND,
        }
    }
}

impl Turn {
    /// Begins with what the source says of the VM by now, unless its request has just heard it.
    async fn take(self, cancel: CancellationToken) -> Result<JobStatus, RunError> {
        let refreshed = self.discovery.refresh_before_copy(self.vm, self.asked_at);
        let _ = cancel.run_until_cancelled(refreshed).await;
        // It may have waited in line for long, and the source may have turned out to be another one.
        match cancel.run_until_cancelled(self.reader()).await {
            Some(Ok(now)) if now.is_some() && now != self.needs.vma => {
                // The place is one of another VMA's: the stored job joins the line anew, as every one that nobody has.
                tracing::info!(job.key = %self.copy.key(), "a copy goes through another VMA by now, and joins its line");
                return Ok(JobStatus::Queued);
            }
            None | Some(Ok(_)) => (),
            Some(Err(error)) => {
                tracing::info!(error = %told(&error), "the VMA of a copy could not be looked up");
            }
        }
        let ended = match self.copy {
            StoredCopy::Backup(id) => self.backup.run(id, cancel.clone()).await?,
            StoredCopy::Replication(id) => self.replication.run(id, cancel.clone()).await?,
        };
        if ended == JobStatus::Queued && !cancel.is_cancelled() {
            self.copies.refused(self.needs);
        }
        Ok(ended)
    }

    async fn reader(&self) -> Result<Option<VmaNodeId>, StoreError> {
        match self.copy {
            StoredCopy::Backup(id) => self.backup.reader_of(id).await,
            StoredCopy::Replication(id) => self.replication.reader_of(id).await,
        }
    }
}

/// The same for a copy, which waits in line for its VMA, its repository and the hub, and begins with what its source says
/// of the VM by then.
///
/// One that its VMA refuses for the moment is queued again and joins the line anew within seconds, as every stored job
/// that nobody has; so does one whose VMA has fallen silent while it waited.
pub(crate) fn launch_copy(
    hub: &Hub,
    copy: StoredCopy,
    vm: VmContextId,
    needs: CopyNeeds,
    asked_at: Option<Timestamp>,
) -> Result<(), Problem> {
    let turn = Turn {
        copy,
        vm,
        needs,
        asked_at,
        backup: hub.backup.clone(),
        replication: hub.replication.clone(),
        discovery: hub.discovery.clone(),
        copies: hub.supervisor.copies().clone(),
    };
    let (kind, key) = (copy.kind(), copy.key());
    let in_turn = move |cancel| turn.take(cancel);
    answered(hub.supervisor.spawn_copy(kind, key.clone(), needs, log_failure(key, in_turn)))
}

/// Asks a VM's source before jobs are stored, whose disks do not change any more: one that the VM has got since the last
/// discovery belongs to them, and one that took the place of another does not go on with its chain.
///
/// Returns when it was asked, if it answered.
pub(crate) async fn ask_source(hub: &Hub, vm: &VmAddress) -> Result<Option<Timestamp>, Problem> {
    let vm = find_vm(hub.store.view().await?.as_mut(), vm).await?.id;
    Ok(hub.discovery.refresh_before_copy(vm, None).await)
}

/// What a copy of a VM has to wait for.
///
/// Its job is stored already, and nobody else would run it before the next start of the hub: a catalogue that is away is
/// waited for.
pub(crate) async fn copy_needs(
    hub: &Hub,
    copy: StoredCopy,
    vm: VmContextId,
    to: Option<RepositoryId>,
) -> Result<CopyNeeds, Problem> {
    let asked = retry_patiently(hub.backup.options.store_patience, || needs_now(hub, copy, vm, to));
    Ok(hub.stop.run_until_cancelled(asked).await.ok_or_else(Problem::stopping)??)
}

/// The same, once.
pub(crate) async fn needs_now(
    hub: &Hub,
    copy: StoredCopy,
    vm: VmContextId,
    to: Option<RepositoryId>,
) -> Result<CopyNeeds, StoreError> {
    let vma = match copy {
        StoredCopy::Backup(id) => hub.backup.reader_of(id).await?,
        StoredCopy::Replication(id) => hub.replication.reader_of(id).await?,
    };
    hub.supervisor.copies().needs_of(hub.store.view().await?.as_mut(), vm, vma, to).await
}

/// The work, telling the log when it could not store how it ended.
fn log_failure<W, F, T, E>(
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
