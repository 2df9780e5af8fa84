//! The wiring: the only place that knows every concrete type.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hub_api::{Api, Hub, HubFacts};
use hub_backup::Backup;
use hub_backup_storage::{HubStorage, HubStorageOptions};
use hub_block::failpoint::{self, Point};
use hub_discovery::Discovery;
use hub_domain::ids::{BackupRunId, ReplicationJobId};
use hub_domain::source::NbdTls;
use hub_job_runner::{JobKey, Supervisor};
use hub_nbd::{Exports, Server, ServerOptions};
use hub_ports::{
    BackupStorage, Clock, IdGen, OwedCleanups, OwedOptions, RateReadings, ReplicaStorage,
    SourceNode, SourceWaits, Store, StoreError, told,
};
use hub_replication::Replication;
use hub_restore::{ExportRegistry, Restore};
use hub_store::{SeaStore, Secrets, StoreOptions};
use hub_vma_client::{VmaClient, VmaClientOptions};
use tokio_util::sync::CancellationToken;

use crate::certificates::NbdCertificates;
use crate::clock::{SystemClock, UuidV7};
use crate::data_dir::SecretKey;
use crate::listeners::Listeners;
use crate::settings::Settings;

/// From which commit the program was built.
pub(crate) const BUILD: &str = env!("HUB_BUILD");

/// How long the NBD server and the catalogue may take to close.
const CLOSING: Duration = Duration::from_secs(5);

/// A hub that is wired up and does not listen yet.
pub(crate) struct HubServer {
    pub(crate) store: SeaStore,
    pub(crate) storage: Arc<HubStorage>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdGen>,
    pub(crate) replication: Replication,
    pub(crate) backup: Backup,
    pub(crate) restore: Restore,
    pub(crate) owed: OwedCleanups,
    pub(crate) supervisor: Supervisor,
    pub(crate) api: Api,
    pub(crate) nbd_address: SocketAddr,
    pub(crate) certificates: Arc<NbdCertificates>,
    /// Cancelled first of all when the hub stops: event streams end with it.
    pub(crate) stop: CancellationToken,
}

/// Jobs that an earlier hub left, and that go on.
pub(crate) struct Waiting {
    backups: BTreeSet<BackupRunId>,
    replications: BTreeSet<ReplicationJobId>,
}

/// Opens the catalogue, binds the NBD port, and gives every part what it works with.
pub(crate) async fn assemble(settings: &Settings) -> Result<(HubServer, Server)> {
    let store = open_catalogue(settings).await?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let data_dir = &settings.server.data_dir;
    let certificates = NbdCertificates::open(data_dir, &settings.nbd.hosts(), clock.now())?;
    let certificates = Arc::new(certificates);
    let exports = Exports::new();
    let nbd = Server::bind(settings.nbd.listen, exports.clone(), ServerOptions::default())
        .await
        .with_context(|| format!("cannot listen on {} for NBD", settings.nbd.listen))?
        .secured(settings.nbd.security(&certificates.tls));
    let nbd_address = nbd.local_addr();
    let restore_dir = settings.restore_dir();
    let options = HubStorageOptions {
        nbd_advertise_host: settings.nbd.advertised(),
        nbd_port: settings.nbd.advertise_port.unwrap_or(nbd_address.port()),
        nbd_tls: settings.nbd.orders_tls().then(|| NbdTls {
            server_name: certificates.server_name.clone(),
            authority: certificates.fingerprint.clone(),
        }),
        replica_dir: settings.replica_dir(),
        restore_dir: restore_dir.clone(),
        checkpoint_every: settings.jobs.checkpoint_every(),
    };
    let disk = Arc::new(HubStorage::new(options, exports));
    let catalogue: Arc<dyn Store> = Arc::new(store.clone());
    let source: Arc<dyn SourceNode> = Arc::new(
        VmaClient::new(VmaClientOptions::default())?.introducing(certificates.authority.clone()),
    );
    let storage: Arc<dyn BackupStorage> = disk.clone();
    let replicas: Arc<dyn ReplicaStorage> = disk.clone();
    let ids: Arc<dyn IdGen> = Arc::new(UuidV7);
    let jobs = hub_job_runner::Options {
        concurrent_jobs: settings.jobs.concurrent,
        concurrent_copies: settings.copies.max()?,
    };
    let (supervisor, stop) = (Supervisor::new(jobs), CancellationToken::new());
    let discovery = Discovery {
        store: catalogue.clone(),
        source: source.clone(),
        clock: clock.clone(),
        ids: ids.clone(),
        options: Default::default(),
    };
    // The end of an id is random, so two starts differ.
    let rates = RateReadings::new(ids.new_id().as_u64_pair().1);
    let replication = Replication {
        store: catalogue.clone(),
        source: source.clone(),
        storage: replicas,
        clock: clock.clone(),
        ids: ids.clone(),
        rates: rates.clone(),
        waits: SourceWaits::default(),
        options: hub_replication::Options {
            copy_attempts: settings.jobs.copy_attempts.max(1),
            ..Default::default()
        },
    };
    let backup = Backup {
        store: catalogue.clone(),
        source: source.clone(),
        storage: storage.clone(),
        clock: clock.clone(),
        ids: ids.clone(),
        rates: rates.clone(),
        waits: SourceWaits::default(),
        options: hub_backup::Options {
            copy_attempts: settings.jobs.copy_attempts.max(1),
            audit_runs: settings.backup.audit_runs()?,
            ..Default::default()
        },
    };
    let restore = Restore {
        store: catalogue.clone(),
        storage: storage.clone(),
        clock: clock.clone(),
        ids: ids.clone(),
        exports: ExportRegistry::default(),
        options: Default::default(),
    };
    let owed = OwedCleanups {
        store: catalogue.clone(),
        source: source.clone(),
        clock: clock.clone(),
        options: OwedOptions { alarm_after: settings.jobs.owed_alarm(), ..Default::default() },
    };
    let api = Api::new(Hub {
        facts: HubFacts {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            build: BUILD.to_owned(),
            database: store.kind().to_owned(),
            restore_dir,
            owed_alarm: settings.jobs.owed_alarm(),
            nbd_authority: certificates.authority.clone(),
        },
        store: catalogue,
        source,
        storage,
        clock: clock.clone(),
        ids: ids.clone(),
        discovery,
        replication: replication.clone(),
        backup: backup.clone(),
        restore: restore.clone(),
        supervisor: supervisor.clone(),
        stop: stop.clone(),
    });
    let hub = HubServer {
        store,
        storage: disk,
        clock,
        ids,
        replication,
        backup,
        restore,
        owed,
        supervisor,
        api,
        nbd_address,
        certificates,
        stop,
    };
    Ok((hub, nbd))
}

impl HubServer {
    /// Puts in order what a predecessor left at work, before anything new begins; what may go on is
    /// [taken up](Self::take_up) later.
    pub(crate) async fn recover(&self) -> Result<Waiting, StoreError> {
        let backups = self.backup.recover().await?;
        let replications = self.replication.recover().await?;
        self.restore.recover().await?;
        if let Err(error) = self.storage.sweep_replicas().await {
            tracing::error!(error = %told(&error), "what unfinished replications left was not removed");
        }
        let found = [
            backups.interrupted,
            backups.requeued,
            backups.deleted,
            replications.interrupted,
            replications.requeued,
        ];
        if found.into_iter().any(|count| count > 0) {
            tracing::warn!(
                backups.interrupted,
                backups.requeued,
                backups.deleted,
                replications.interrupted,
                replications.requeued,
                "an earlier hub was stopped at work; its jobs go on or are ended"
            );
        }
        Ok(Waiting { backups: backups.waiting, replications: replications.waiting })
    }

    /// Runs what waits, once the VMAs can reach the exports, and asks for the snapshots that are owed from now on.
    pub(crate) async fn take_up(&self, waiting: Waiting) -> Result<(), StoreError> {
        let owed = self.owed.clone();
        let key = JobKey::new("owed-cleanups", "rounds");
        let begun = self.supervisor.spawn("owed clean-ups", key, move |stop| async move {
            owed.run(stop).await;
        });
        if let Err(error) = begun {
            tracing::warn!(%error, "nobody asks for the snapshots that are owed");
        }
        self.api.take_up(waiting.backups, waiting.replications).await
    }

    /// Stops in the order that loses nothing: no new work, jobs ended and stored, ports closed, catalogue closed.
    ///
    /// The API answers until the jobs have ended: connections to the catalogue may belong to its workers.
    pub(crate) async fn shut_down(&self, mut listeners: Listeners, grace: Duration) {
        tracing::info!("the hub stops");
        self.stop.cancel();
        if tokio::time::timeout(grace, self.api.settle()).await.is_err() {
            tracing::warn!("requests were still at work at the end of the grace");
        }
        if let Err(error) = self.supervisor.shutdown(grace).await {
            tracing::error!(%error, "jobs are left to the next start, which ends them");
        }
        listeners.close_api().await;
        if let Err(error) = self.restore.close_exports().await {
            tracing::warn!(%error, "an export could not be closed");
        }
        if tokio::time::timeout(CLOSING, listeners.close_nbd()).await.is_err() {
            tracing::warn!("NBD connections were cut");
        }
        if tokio::time::timeout(CLOSING, self.store.close()).await.is_err() {
            tracing::warn!("the catalogue was not closed in time");
        }
    }
}

/// Brings the schema up to date and opens the catalogue, after making sure that its secrets can be read.
async fn open_catalogue(settings: &Settings) -> Result<SeaStore> {
    let url = settings.database_url()?;
    hub_migration::up(&url).await.context("the catalogue's schema cannot be brought up to date")?;
    failpoint::reach(Point::StartSchema)?;
    let data_dir = &settings.server.data_dir;
    let key = SecretKey::read_or_make(data_dir)?;
    let options = StoreOptions::new(url, key.bytes).connections(settings.database.connections);
    let store = SeaStore::open(options).await?;
    let Secrets { opened, refused } = store.secrets().await?;
    // A wrong key opens nothing; a row that was changed by hand must not keep the hub from starting.
    if opened == 0 && refused > 0 {
        let found = if key.is_new { "is missing" } else { "is another one" };
        let key = data_dir.join("secret.key");
        bail!(
            "the catalogue holds secrets that were sealed with a key, and {} {found}; put the right one there",
            key.display()
        );
    }
    if key.is_new {
        key.keep(data_dir)?;
    }
    Ok(store)
}
