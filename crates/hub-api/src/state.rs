//! What the handlers work with, and on which runtime.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hub_backup::Backup;
use hub_discovery::Discovery;
use hub_job_runner::Supervisor;
use hub_ports::{BackupStorage, Clock, IdGen, SourceNode, Store};
use hub_replication::Replication;
use hub_restore::Restore;
use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::auth::KnownTokens;
use crate::problem::Problem;

/// Everything that the API works with.
pub struct Hub {
    /// What it says about itself.
    pub facts: HubFacts,
    /// The catalogue.
    pub store: Arc<dyn Store>,
    /// Reaches the VMAs.
    pub source: Arc<dyn SourceNode>,
    /// The repositories.
    pub storage: Arc<dyn BackupStorage>,
    /// Gives the time.
    pub clock: Arc<dyn Clock>,
    /// Gives ids.
    pub ids: Arc<dyn IdGen>,
    /// Finds VMs and puts them under management.
    pub discovery: Discovery,
    /// Replicates VMs.
    pub replication: Replication,
    /// Backs VMs up.
    pub backup: Backup,
    /// Restores and verifies points.
    pub restore: Restore,
    /// Runs long work.
    pub supervisor: Supervisor,
    /// Ends event streams when it is cancelled; HTTP servers do not end them by themselves.
    pub stop: CancellationToken,
}

/// What a hub says about itself.
#[derive(Clone, Debug)]
pub struct HubFacts {
    /// Version of the program.
    pub version: String,
    /// From which sources it was built.
    pub build: String,
    /// `sqlite`, `mysql` or `postgres`.
    pub database: String,
    /// Where restored files lie.
    pub restore_dir: PathBuf,
    /// For how long a snapshot may be owed before it counts as overdue.
    pub owed_alarm: Duration,
    /// The certificate of the authority behind the NBD port, PEM; readers of exports check the hub against it.
    pub nbd_authority: String,
}

/// What the handlers share.
pub(crate) struct ApiState {
    hub: Arc<Hub>,
    pub(crate) tokens: KnownTokens,
    pub(crate) started: Instant,
    pub(crate) endpoints: usize,
    runtime: Handle,
    begun: TaskTracker,
}

impl ApiState {
    pub(crate) fn new(hub: Hub, endpoints: usize, runtime: Handle) -> Self {
        Self {
            hub: Arc::new(hub),
            tokens: KnownTokens::default(),
            started: Instant::now(),
            endpoints,
            runtime,
            begun: TaskTracker::new(),
        }
    }

    /// The hub, for what needs no work of its own.
    pub(crate) fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Answers a question on the hub's runtime; the work ends when the client hangs up.
    ///
    /// HTTP workers have runtimes of their own, and a connection that is opened there dies with them.
    pub(crate) async fn ask<T, W, F>(&self, work: W) -> Result<T, Problem>
    where
        T: Send + 'static,
        W: FnOnce(Arc<Hub>) -> F,
        F: Future<Output = Result<T, Problem>> + Send + 'static,
    {
        let mut task = JoinSet::new();
        task.spawn_on(work(Arc::clone(&self.hub)).in_current_span(), &self.runtime);
        match task.join_next().await {
            Some(ended) => finished(ended),
            None => Err(Problem::internal("the work of a request was lost")),
        }
    }

    /// Carries out a change on the hub's runtime; it is finished even when the client hangs up.
    pub(crate) async fn carry_out<T, W, F>(&self, work: W) -> Result<T, Problem>
    where
        T: Send + 'static,
        W: FnOnce(Arc<Hub>) -> F,
        F: Future<Output = Result<T, Problem>> + Send + 'static,
    {
        if self.begun.is_closed() {
            return Err(Problem::stopping());
        }
        let work = work(Arc::clone(&self.hub)).in_current_span();
        finished(self.begun.spawn_on(work, &self.runtime).await)
    }

    /// Waits for everything that [`carry_out`](Self::carry_out) has begun.
    pub(crate) async fn settle(&self) {
        self.begun.close();
        self.begun.wait().await;
    }
}

fn finished<T>(ended: Result<Result<T, Problem>, JoinError>) -> Result<T, Problem> {
    ended.unwrap_or_else(|error| {
        Err(if error.is_panic() {
            Problem::internal("a handler panicked")
        } else {
            Problem::stopping()
        })
    })
}
