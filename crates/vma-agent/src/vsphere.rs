//! A vCenter or an ESXi host: VMs from its inventory, disks from one snapshot per job.

mod asked;
mod change_mark;
mod datastore_disk;
mod durable_file;
mod fault;
mod held;
mod host_budget;
mod identity;
mod known_defect;
mod ledger;
mod listed;
mod listing;
mod login_turns;
mod outlook;
mod plan;
mod reader;
mod removal;
mod session;
mod snapshot;
mod sweep;
mod tasks;
#[cfg(test)]
mod tests;
mod track_record;
mod tracking;
mod turns;
mod vddk;
mod waits;

pub use ledger::LedgerError;
pub use vddk::VddkOptions;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hub_vma_api::{
    CleanupReport, CleanupRequest, Credentials, CredentialsTest, DiscoverRequest, Inventory,
    OwedSnapshot, SourceAbout,
};
use hub_vsphere::{Client, ClientOptions, Endpoint, Login, MoRef, Trust};

use crate::source::{OpenRequest, Snapshot, Source, SourceError};
use fault::of_call;
use host_budget::HostBudget;
use ledger::{Ledger, Owed};
use reader::DiskReader;
use session::Logins;
use tasks::Tasks;
use track_record::TrackRecords;
use turns::VmTurns;
use waits::Waits;

/// How a vSphere source is set up.
#[derive(Clone, Debug)]
pub struct VsphereOptions {
    /// The vCenter or host, and the only one that a password is sent to.
    pub endpoint: Endpoint,
    /// How it proves who it is.
    pub trust: Trust,
    /// The account for requests that bring none.
    pub login: Option<Login>,
    /// Where snapshots are written down before they are taken.
    pub state_dir: PathBuf,
    /// Whether change tracking is switched on where it is off and there is no snapshot.
    pub enable_change_tracking: bool,
    /// Whether guests are brought to rest for a snapshot, where they can be.
    pub quiesce: bool,
    /// Reads of datastore files at a time, over all jobs.
    pub reads_at_once: usize,
    /// Disks that are read from one host at a time, over all jobs.
    pub readers_per_host: usize,
    /// Snapshots that are removed at one host at a time, over all jobs and clean-ups.
    pub removals_per_host: usize,
    /// How long whoever tests a login waits: shorter than a hub waits for this VMA, so that the one to blame is named.
    pub test_within: Duration,
    /// How often a session is used that a job would not use for long; shorter than a server keeps one.
    pub keep_alive: Duration,
    /// VDDK, where it is set up; disks are read through it then, and over HTTPS else.
    pub vddk: Option<VddkOptions>,
    /// Deadlines.
    pub client: ClientOptions,
}

/// A source that reads VMs of a vCenter or an ESXi host.
pub struct VsphereSource {
    shared: Arc<Shared>,
}

/// What jobs and clean-ups have in common.
struct Shared {
    options: VsphereOptions,
    ledger: Ledger,
    tracks: TrackRecords,
    reader: Arc<dyn DiskReader>,
    budget: HostBudget,
    removals: HostBudget,
    turns: VmTurns,
    waits: Waits,
    tasks: Arc<Tasks>,
    logins: Arc<Logins>,
    /// One clean-up of the leftovers of a VM at a time.
    clearing: VmTurns,
}

impl VsphereSource {
    /// A source on the current runtime; leftovers of earlier runs are removed as soon as somebody can log in.
    pub fn new(options: VsphereOptions) -> Result<Self, LedgerError> {
        let ledger = Ledger::open(&options.state_dir)?;
        let tracks = TrackRecords::open(&options.state_dir)?;
        let tasks = Arc::new(Tasks::here());
        let logins = Arc::<Logins>::default();
        let (vddk, reads) = (options.vddk.as_ref(), options.reads_at_once);
        let reader = reader::choose(vddk, reads, &tasks, &logins);
        let waits = Waits::default();
        let budget = HostBudget::of_readers(options.readers_per_host, waits.clone());
        let removals = HostBudget::of_removals(options.removals_per_host, waits.clone());
        let turns = VmTurns::default();
        let clearing = VmTurns::default();
        let shared = Arc::new(Shared {
            options,
            ledger,
            tracks,
            reader,
            budget,
            removals,
            turns,
            waits,
            tasks,
            logins,
            clearing,
        });
        if shared.options.login.is_some() && !shared.ledger.left_over().is_empty() {
            let own = shared.clone();
            shared.tasks.spawn(async move { own.sweep_at_start().await });
        }
        Ok(Self { shared })
    }
}

impl Shared {
    /// The vCenter or host takes longer than somebody waits.
    fn too_slow(&self) -> SourceError {
        SourceError::EndpointUnreachable(format!(
            "{} did not say within {} s whether it lets the account in; it is reached and does not answer, or not in time: look at its services, then try again",
            self.options.endpoint.authority(),
            self.options.test_within.as_secs()
        ))
    }

    /// A password is for the endpoint that this VMA knows how to recognise, and for no other.
    fn check_endpoint(&self, asked: &str) -> Result<(), SourceError> {
        let known = self.options.endpoint.authority();
        let asked = Endpoint::parse(asked).map(|it| it.authority()).unwrap_or_default();
        let without_port = known.rsplit_once(':').map_or(known.as_str(), |(host, _)| host);
        if asked.eq_ignore_ascii_case(&known) || asked.eq_ignore_ascii_case(without_port) {
            return Ok(());
        }
        Err(SourceError::OtherEndpoint { known, asked })
    }

    /// The VM of a request: by its instance UUID, or by its reference where it has none.
    async fn find(&self, client: &Client, id: &str) -> Result<hub_vsphere::Vm, SourceError> {
        let not_found = || SourceError::VmNotFound(id.chars().take(200).collect());
        let mut found = client.vms_of_instance(id).await.map_err(|error| of_call(&error))?;
        if let [first, second, ..] = found.as_slice() {
            let (first, second) = (first.to_string(), second.to_string());
            return Err(SourceError::VmAmbiguous { id: id.to_owned(), first, second });
        }
        let moref = found.pop().unwrap_or_else(|| MoRef::vm(id));
        let vm = client.vm(&moref).await.map_err(|error| of_call(&error))?;
        let vm = vm.ok_or_else(not_found)?;
        let vm = vm.map_err(|it| SourceError::BadVm {
            vm: it.name.unwrap_or(it.moref.value),
            reason: it.reason,
        })?;
        if listing::id(&vm) == id { Ok(vm) } else { Err(not_found()) }
    }
}

#[async_trait]
impl Source for VsphereSource {
    fn kind(&self) -> &'static str {
        "vsphere"
    }

    fn host(&self) -> Option<String> {
        Some(self.shared.options.endpoint.authority())
    }

    async fn inventory(&self, request: &DiscoverRequest) -> Result<Inventory, SourceError> {
        let client = self.shared.log_in(request.credentials.as_ref()).await?;
        self.shared.sweep_beside(&client);
        let listed = match &request.filter {
            Some(filter)
                if filter.names.is_empty() && (1..=asked::FEW).contains(&filter.ids.len()) =>
            {
                let datacenter = request.datacenter.as_deref().unwrap_or_default();
                self.shared.list_asked(&client, datacenter, &filter.ids).await
            }
            _ => {
                listed::list(&self.shared, &client, request).await.map_err(|error| of_call(&error))
            }
        };
        session::leave(client).await;
        listed
    }

    async fn check(&self, request: &OpenRequest) -> Result<(), SourceError> {
        self.shared.ledger.note_clean(&request.job_id);
        let waiting = self.shared.waits.say(&request.job_id, snapshot::LOGGING_IN);
        let client = self.shared.log_in(request.credentials.as_ref()).await?;
        drop(waiting);
        let _waiting = self.shared.waits.say(&request.job_id, snapshot::LOOKING_UP);
        let planned = match self.shared.check_vcenter(&client, request) {
            Ok(()) => self.shared.plan(&client, request).await,
            Err(error) => Err(error),
        };
        session::leave(client).await;
        planned.map(drop)
    }

    async fn open(&self, request: &OpenRequest) -> Result<Box<dyn Snapshot>, SourceError> {
        self.shared.ledger.note_clean(&request.job_id);
        let OpenRequest { job_id, vm_id, .. } = request;
        let turn = self.shared.turns.turn(vm_id, job_id, &self.shared.waits).await?;
        let waiting = self.shared.waits.say(job_id, snapshot::LOGGING_IN);
        let client = self.shared.log_in(request.credentials.as_ref()).await?;
        drop(waiting);
        let opened = match self.shared.check_vcenter(&client, request) {
            Ok(()) => snapshot::open(&self.shared, &client, request, turn).await,
            Err(error) => Err(error),
        };
        match opened {
            Ok(opened) => Ok(Box::new(opened)),
            Err(error) => {
                session::leave(client).await;
                Err(error)
            }
        }
    }

    fn takes_snapshots(&self) -> bool {
        true
    }

    fn owes(&self, job_id: &str) -> bool {
        self.shared.ledger.owes(job_id)
    }

    fn owed(&self) -> Vec<OwedSnapshot> {
        let told = |(owed, at_work): (Owed, bool)| OwedSnapshot {
            job_id: owed.job_id,
            source: owed.source,
            vm_id: owed.vm_id,
            name: owed.name,
            at_work,
        };
        self.shared.ledger.all().into_iter().map(told).collect()
    }

    async fn strike_off(&self, job_id: &str) -> Result<bool, SourceError> {
        self.shared.strike_off(job_id).await
    }

    fn waits_for(&self, job_id: &str) -> Option<String> {
        self.shared.waits.of(job_id)
    }

    async fn test(&self, credentials: &Credentials) -> Result<CredentialsTest, SourceError> {
        let patience = self.shared.options.test_within;
        let answer = tokio::time::timeout(patience, self.shared.log_in_anew(credentials)).await;
        let client = answer.unwrap_or_else(|_| Err(self.shared.too_slow()))?;
        let about = client.about().clone();
        session::leave(client).await;
        let about = SourceAbout {
            product: about.product,
            version: about.version,
            build: about.build,
            api_type: about.api_type,
            instance_uuid: about.instance_uuid,
        };
        Ok(CredentialsTest { wanted: true, about: Some(about) })
    }

    async fn clean_up(&self, request: &CleanupRequest) -> Result<CleanupReport, SourceError> {
        let client = self.shared.log_in(request.credentials.as_ref()).await?;
        self.shared.clean_up(client, request).await
    }
}
