#![doc = include_str!("../README.md")]

#[cfg(debug_assertions)]
mod failpoints;
mod open_files;
mod settings;
mod source_settings;
mod token;

use std::io::IsTerminal;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use hub_nbd::RedialOptions;
use hub_vma_agent::folder::{FolderOptions, FolderSource};
use hub_vma_agent::http::{Api, serve};
use hub_vma_agent::jobs::{Jobs, JobsOptions};
use hub_vma_agent::vsphere::VsphereSource;
use hub_vma_agent::{HubPin, source::Source};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use settings::{Flags, LogFormat, LogSettings, Settings};
use source_settings::SourceKind;

/// How long jobs may take to end after a signal.
const GRACE: Duration = Duration::from_secs(10);

fn main() -> Result<()> {
    let flags = Flags::parse();
    let settings = Settings::load(&flags)?;
    if flags.check_config {
        say(&settings.redacted()?);
        return Ok(());
    }
    #[cfg(debug_assertions)]
    flags.failpoints.arm()?;
    if flags.forget_hub {
        let forgotten = hub_vma_agent::forget_hub(&settings.agent.state_dir)?;
        say(if forgotten { "the hub is forgotten" } else { "there is no hub to forget" });
        return Ok(());
    }
    open_files::raise_limit()?;
    start_log(&settings.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(settings))
}

async fn run(settings: Settings) -> Result<()> {
    let token = token::read_or_make(&settings.auth, &settings.agent.state_dir)?;
    if token.is_new {
        say(&format!("VMA token: {}", token.exposed()));
    }
    let stop = CancellationToken::new();
    let (jobs, api) = assemble(&settings, &token, &stop)?;
    let listener = TcpListener::bind(settings.http.listen)
        .with_context(|| format!("cannot listen on {}", settings.http.listen))?;
    let address = listener.local_addr()?;
    say(&format!("listening on http://{address}"));
    tracing::info!(%address, name = settings.agent.name, "the VMA answers");

    let signals = stop_on_signal(stop.clone())?;
    let served = tokio::select! {
        served = serve(listener, api, stop.clone()) => served,
        () = signals => Ok(()),
    };
    jobs.shut_down(GRACE).await;
    tracing::info!("the VMA has stopped");
    served.context("the server failed")
}

/// The only place that knows every concrete type.
fn assemble(
    settings: &Settings,
    token: &token::Token,
    stop: &CancellationToken,
) -> Result<(Arc<Jobs>, Arc<Api>)> {
    let run_dir = settings.agent.run_dir.clone().unwrap_or_else(std::env::temp_dir);
    let source: Arc<dyn Source> = match settings.source.kind {
        SourceKind::Folder => Arc::new(FolderSource::new(FolderOptions {
            name: settings.agent.name.clone(),
            datastores: settings.source.datastores.clone(),
        })?),
        SourceKind::Vsphere => {
            let options = settings.source.vsphere(&settings.agent.state_dir)?;
            Arc::new(VsphereSource::new(options)?)
        }
    };
    let hub = HubPin::open(&settings.agent.state_dir, settings.nbd.plain)
        .context("the hub that this VMA belongs to cannot be told; see --forget-hub")?;
    let options = JobsOptions {
        hub: Arc::new(hub),
        disks_at_once: settings.jobs.disks_at_once,
        max_running: settings.jobs.max_running,
        redial: RedialOptions {
            patience: Duration::from_secs(settings.jobs.redial_seconds),
            ..RedialOptions::default()
        },
        max_bytes_per_second: settings.limits.max_bytes_per_second,
        temp_dir: run_dir,
        ..JobsOptions::default()
    };
    let jobs = Arc::new(Jobs::new(source, options, stop.child_token()));
    let version = env!("CARGO_PKG_VERSION");
    let api = Api::new(&settings.agent.name, version, token.secret(), jobs.clone());
    Ok((jobs, Arc::new(api)))
}

/// Cancels `stop` at the first signal, then waits for ever, so that the server ends by itself.
fn stop_on_signal(stop: CancellationToken) -> Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => (),
            _ = interrupt.recv() => (),
        }
        tracing::info!("told to stop");
        stop.cancel();
        std::future::pending().await
    })
}

fn start_log(settings: &LogSettings) -> Result<()> {
    let filter = EnvFilter::try_new(&settings.filter)
        .with_context(|| format!("`{}` is not a log filter", settings.filter))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match settings.format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("the log cannot be started: {error}"))
}

/// Says a line to whoever started the program; the log goes to stderr.
#[expect(clippy::print_stdout, reason = "the address and a new token are read from stdout")]
fn say(line: &str) {
    println!("{line}");
}
