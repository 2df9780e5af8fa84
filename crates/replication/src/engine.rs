//! The replication engine and what it is made of.

use std::sync::Arc;
use std::time::Duration;

use hub_domain::access::{Credential, VmaNode};
use hub_domain::fault::Fault;
use hub_domain::reader_choice::NoReader;
use hub_domain::vm::VmContext;
use hub_ports::store::{login_through, reader};
use hub_ports::{
    Catalogue, Clock, IdGen, RateReadings, ReplicaStorage, SourceNode, SourceWaits, Store,
    StoreError, WatchOptions, retry_patiently,
};

/// Replicates, cancels, deletes and recovers; cloning gives another handle to the same.
#[derive(Clone)]
pub struct Replication {
    /// The catalogue.
    pub store: Arc<dyn Store>,
    /// Reaches the VMAs.
    pub source: Arc<dyn SourceNode>,
    /// Keeps the replicas.
    pub storage: Arc<dyn ReplicaStorage>,
    /// Gives the time.
    pub clock: Arc<dyn Clock>,
    /// Gives ids to jobs.
    pub ids: Arc<dyn IdGen>,
    /// Reads the limits of VMAs; all engines of a hub have the same.
    pub rates: RateReadings,
    /// What its jobs wait for at their sources.
    pub waits: SourceWaits,
    /// How patient it is.
    pub options: Options,
}

/// How patient a replication is.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How the copy is watched.
    pub watch: WatchOptions,
    /// Time between two writes of a job's progress.
    pub progress_interval: Duration,
    /// How often a copy is ordered, the first time included, when machines or connections are lost on the way.
    pub copy_attempts: u32,
    /// Time between a loss and the next order, times the number of attempts so far.
    pub attempt_pause: Duration,
    /// How long the catalogue may be away before a run gives up writing down how it went.
    pub store_patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            watch: WatchOptions::default(),
            progress_interval: Duration::from_secs(1),
            copy_attempts: 3,
            attempt_pause: Duration::from_secs(2),
            store_patience: Duration::from_secs(600),
        }
    }
}

impl Replication {
    /// Runs something on the catalogue through conflicts and while the database is away.
    pub(crate) async fn patiently<T, F, Fut>(&self, unit: F) -> Result<T, StoreError>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, StoreError>>,
    {
        retry_patiently(self.options.store_patience, unit).await
    }
}

/// How a VM is reached.
pub(crate) struct Reach {
    pub(crate) node: VmaNode,
    pub(crate) credential: Option<Credential>,
}

impl Reach {
    /// The way through a VMA, or that the login of the VM is missing.
    pub(crate) async fn through(
        node: VmaNode,
        catalogue: &mut dyn Catalogue,
        vm: &VmContext,
    ) -> Result<Result<Self, Fault>, StoreError> {
        let credential = match vm.credential {
            None => None,
            Some(id) => match catalogue.credential(id).await? {
                None => {
                    let detail = "the login of the VM's source was removed; add the VM again";
                    return Ok(Err(Fault::new("credential/not-found", detail)));
                }
                Some(login) => Some(login_through(catalogue, login, &node, Some(vm)).await?),
            },
        };
        Ok(Ok(Self { node, credential }))
    }
}

/// How a VM is reached by what the catalogue says, or what of it is missing; nobody is asked.
pub(crate) async fn reach(
    catalogue: &mut dyn Catalogue,
    vm: &VmContext,
) -> Result<Result<Reach, Fault>, StoreError> {
    match reader(catalogue, vm).await? {
        Ok(node) => Reach::through(node, catalogue, vm).await,
        Err(none) => Ok(Err(no_vma(&none))),
    }
}

/// The fault of a VM that no VMA reads.
pub(crate) fn no_vma(none: &NoReader) -> Fault {
    Fault::new("vm/no-vma", none.to_string())
}
