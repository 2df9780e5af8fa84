//! The two ports: the API's and NBD's, each served by a task of its own.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow};
use hub_job_runner::JobKey;
use hub_nbd::Server;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::assembly::HubServer;
use crate::settings::Settings;

/// How often exports whose time is over are ended.
const REAPING: Duration = Duration::from_secs(5);

/// How often jobs are looked for that are stored and that nobody has.
const CLAIMING: Duration = Duration::from_secs(5);

/// How often the end of the NBD port's certificate is looked at; it is made anew months before.
const RENEWING: Duration = Duration::from_secs(24 * 3600);

/// The ports that are served.
pub(crate) struct Listeners {
    pub(crate) api_address: SocketAddr,
    api: JoinSet<std::io::Result<()>>,
    api_stop: CancellationToken,
    nbd: JoinSet<()>,
    nbd_stop: CancellationToken,
}

/// Serves both ports, and starts what has to be done every few seconds.
pub(crate) fn start(hub: &HubServer, nbd: Server, settings: &Settings) -> Result<Listeners> {
    let listen = settings.server.listen;
    let listener =
        TcpListener::bind(listen).with_context(|| format!("cannot listen on {listen}"))?;
    let api_address = listener.local_addr()?;
    let mut listeners = Listeners {
        api_address,
        api: JoinSet::new(),
        api_stop: CancellationToken::new(),
        nbd: JoinSet::new(),
        nbd_stop: CancellationToken::new(),
    };
    listeners.nbd.spawn(nbd.run(listeners.nbd_stop.clone()));
    listeners.api.spawn(hub_api::serve(listener, hub.api.clone(), listeners.api_stop.clone()));
    let restore = hub.restore.clone();
    hub.supervisor.spawn("reap exports", JobKey::new("ticker", "exports"), |stop| async move {
        while stop.run_until_cancelled(tokio::time::sleep(REAPING)).await.is_some() {
            if let Err(error) = restore.reap_exports().await {
                tracing::warn!(%error, "an export whose time is over could not be ended");
            }
        }
    })?;
    let api = hub.api.clone();
    hub.supervisor.spawn("claim jobs", JobKey::new("ticker", "jobs"), |stop| async move {
        while stop.run_until_cancelled(tokio::time::sleep(CLAIMING)).await.is_some() {
            if let Err(error) = api.claim_unclaimed().await {
                tracing::debug!(%error, "jobs that nobody has are looked for again later");
            }
        }
    })?;
    let (certificates, clock) = (hub.certificates.clone(), hub.clock.clone());
    hub.supervisor.spawn(
        "renew certificates",
        JobKey::new("ticker", "certificates"),
        |stop| async move {
            while stop.run_until_cancelled(tokio::time::sleep(RENEWING)).await.is_some() {
                match certificates.renew_if_due(clock.now()) {
                    Ok(true) => tracing::info!("the certificate of the NBD port was made anew"),
                    Ok(false) => (),
                    Err(error) => tracing::error!(
                        "the certificate of the NBD port was not made anew: {error:#}"
                    ),
                }
            }
        },
    )?;
    Ok(listeners)
}

impl Listeners {
    /// Waits until a server ends that nobody told to.
    pub(crate) async fn failure(&mut self) -> Error {
        tokio::select! {
            Some(ended) = self.api.join_next() => match ended {
                Ok(Err(error)) => Error::new(error).context("the API server failed"),
                Ok(Ok(())) => anyhow!("the API server ended by itself"),
                Err(error) => Error::new(error).context("the API server died"),
            },
            Some(_) = self.nbd.join_next() => anyhow!("the NBD server ended by itself"),
            else => std::future::pending().await,
        }
    }

    /// Ends the API; running requests get a few seconds.
    pub(crate) async fn close_api(&mut self) {
        self.api_stop.cancel();
        while self.api.join_next().await.is_some() {}
    }

    /// Ends NBD with all its connections.
    pub(crate) async fn close_nbd(&mut self) {
        self.nbd_stop.cancel();
        while self.nbd.join_next().await.is_some() {}
    }
}
