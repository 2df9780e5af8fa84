//! Leftovers: snapshots that an earlier run took and could not remove.

use std::sync::Arc;
use std::time::Duration;

use hub_vma_api::{CleanupOutcome, CleanupReport, CleanupRequest, Fault};
use hub_vsphere::Client;
use tokio::sync::oneshot;

use super::held::Settled;
use super::identity::other_source;
use super::ledger::{Owed, snapshot_name};
use super::{Shared, session};
use crate::source::SourceError;

/// How long it waits before it tries again, at first.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest that it waits.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

impl Shared {
    /// Tries until nothing is left, with the configured account.
    pub(super) async fn sweep_at_start(self: Arc<Self>) {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.log_in(None).await {
                Ok(client) => {
                    self.sweep(&client, |_| true).await;
                    session::leave(client).await;
                }
                Err(error) => {
                    tracing::warn!(error = %error, "snapshots of earlier runs wait to be removed");
                }
            }
            if self.ledger.left_over().is_empty() {
                return;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Removes leftovers beside what the session was opened for.
    pub(super) fn sweep_beside(self: &Arc<Self>, client: &Arc<Client>) {
        if self.ledger.left_over().is_empty() {
            return;
        }
        let (own, client) = (self.clone(), client.clone());
        self.tasks.spawn(async move {
            own.sweep(&client, |_| true).await;
            session::leave(client).await;
        });
    }

    /// Settles a debt, and where that fails tries on and on beside everything else: nobody else may ever come by.
    pub(super) async fn settle_or_chase(self: &Arc<Self>, client: &Arc<Client>, owed: &Owed) {
        if self.settle_or_owe(client, owed).await.is_ok() {
            return;
        }
        let (own, client, owed) = (self.clone(), client.clone(), owed.clone());
        self.tasks.spawn(async move {
            own.chase(&client, &owed).await;
            session::leave(client).await;
        });
    }

    async fn chase(self: Arc<Self>, client: &Client, owed: &Owed) {
        let mut pause = FIRST_PAUSE;
        loop {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            // Whoever sweeps waits for a removal that is under way, in place of asking for it once more.
            let turn = self.clearing.turn(&owed.vm_id, &owed.job_id, &self.waits).await;
            if turn.is_err() || !self.ledger.is_left_over(&owed.job_id) {
                return;
            }
            match self.settle_or_owe(client, owed).await {
                // This account is of no use any more; another one may come with a later request.
                Ok(()) | Err(SourceError::LoginRefused(_)) => return,
                Err(_) => {}
            }
        }
    }

    /// Removes the leftovers that are wanted; what cannot be removed stays owed, and so does whatever is left when the
    /// server does not answer any more.
    pub(super) async fn sweep(self: &Arc<Self>, client: &Client, wanted: impl Fn(&Owed) -> bool) {
        for owed in self.ledger.left_over().iter().filter(|it| wanted(it)) {
            // A removal that takes hours must not keep a job from a VM that nothing is left of, or that another is left of.
            let turn = self.clearing.turn(&owed.vm_id, &owed.job_id, &self.waits).await;
            if turn.is_err() || !self.ledger.is_left_over(&owed.job_id) {
                continue;
            }
            tracing::info!(
                job.id = owed.job_id,
                vm.id = owed.vm_id,
                "a leftover snapshot is removed"
            );
            // What fails was told, and stays owed.
            match self.settle_or_owe(client, owed).await {
                // The others are at the same place, and each would wait as long for it.
                Err(SourceError::EndpointUnreachable(_)) if client.keep_alive().await.is_err() => {
                    return;
                }
                Ok(()) | Err(_) => {}
            }
        }
    }

    /// Removes what a job that is over has left, whether this VMA remembers it or not.
    ///
    /// A removal goes on when whoever asked for it has given up, as it does at the host, so that it keeps its place there;
    /// who asks again waits for it.
    pub(super) async fn clean_up(
        self: &Arc<Self>,
        client: Arc<Client>,
        request: &CleanupRequest,
    ) -> Result<CleanupReport, SourceError> {
        let CleanupRequest { job_id, vm_id, .. } = request;
        let turn = self.clearing.turn(vm_id, job_id, &self.waits).await?;
        let (send, ended) = oneshot::channel();
        let (own, request) = (self.clone(), request.clone());
        self.tasks.spawn(async move {
            let report = match own.settle_job(&client, &request).await {
                Ok(Settled::Removed) => done(CleanupOutcome::Removed),
                Ok(Settled::Nothing) => done(CleanupOutcome::None),
                Err(error) => {
                    let fault = Fault { code: error.code().to_owned(), detail: error.to_string() };
                    CleanupReport { outcome: CleanupOutcome::Failed, error: Some(fault) }
                }
            };
            drop(turn);
            session::leave(client).await;
            drop(send.send(report));
        });
        ended.await.map_err(|_| SourceError::Internal("a clean-up was not ended".to_owned()))
    }

    async fn settle_job(
        self: &Arc<Self>,
        client: &Client,
        request: &CleanupRequest,
    ) -> Result<Settled, SourceError> {
        let CleanupRequest { job_id, vm_id, .. } = request;
        if self.ledger.is_held(job_id) {
            return Err(SourceError::SnapshotInUse(job_id.clone()));
        }
        if let Some(there) = request.source.as_deref().filter(|it| !self.is_source(client, it)) {
            if self.ledger.is_clean(job_id) {
                // It was refused, or has removed what it took: that is known without a look.
                return Ok(Settled::Nothing);
            }
            // The VM is not known here, and its snapshot would be taken for gone.
            return Err(other_source(&snapshot_name(job_id), there, &self.source(client)));
        }
        let remembered = self.ledger.left_over().into_iter().find(|it| it.job_id == *job_id);
        let owed = remembered.unwrap_or_else(|| Owed {
            job_id: job_id.clone(),
            source: self.source(client),
            vm_id: vm_id.clone(),
            vm: vm_id.clone(),
            name: snapshot_name(job_id),
        });
        self.settle(client, &owed).await
    }
}

const fn done(outcome: CleanupOutcome) -> CleanupReport {
    CleanupReport { outcome, error: None }
}
