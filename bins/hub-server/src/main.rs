#![doc = include_str!("../README.md")]

mod assembly;
mod certificates;
mod clock;
mod data_dir;
#[cfg(debug_assertions)]
mod failpoints;
mod first_start;
mod issuing;
mod listeners;
mod log;
mod new_token;
mod open_files;
mod settings;
mod signals;

use std::fs::File;

use anyhow::{Context, Result, anyhow};
use clap::Parser;
use hub_api::Api;
use hub_block::failpoint::{self, Point};

use settings::{Flags, Settings};

/// SQLite's thread makes the values of a row and another thread frees them; in a profile of a hub that lists
/// its inventory, glibc's allocator had about a quarter of the samples. What it gains per page is not proven.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<()> {
    let flags = Flags::parse();
    if flags.openapi {
        say(Api::openapi().trim_end());
        return Ok(());
    }
    let settings = Settings::load(&flags)?;
    if flags.check_config {
        say(&settings.redacted()?);
        return Ok(());
    }
    #[cfg(debug_assertions)]
    flags.failpoints.arm()?;
    data_dir::close_to_others();
    open_files::raise_limit()?;
    log::start(&settings.log)?;
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow!("a TLS provider is installed already"))?;
    if let Some(name) = &flags.new_token {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        return runtime.block_on(new_token::make(&settings, name, flags.revoke_others));
    }
    let lock = data_dir::prepare(&settings.server.data_dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(&settings, &flags, lock))
}

async fn run(settings: &Settings, flags: &Flags, lock: File) -> Result<()> {
    // Listened for from the beginning, so that a signal during the start is not lost.
    let mut signals = signals::Signals::listen()?;
    let (hub, nbd) = assembly::assemble(settings).await?;
    let waiting =
        hub.recover().await.context("what an earlier hub left could not be put in order")?;
    failpoint::reach(Point::StartRecovered)?;
    first_start::prepare(&hub, settings, flags.initial_token_file.as_deref()).await?;
    let mut listeners = listeners::start(&hub, nbd, settings)?;
    hub.take_up(waiting).await.context("the jobs that wait could not be put in line")?;
    say(&format!("NBD authority (SHA-256): {}", hub.certificates.fingerprint));
    say(&format!("API listening on http://{}", listeners.api_address));
    say(&format!("NBD listening on {}", hub.nbd_address));
    tracing::info!(nbd.authority = hub.certificates.fingerprint, api.address = %listeners.api_address, nbd.address = %hub.nbd_address,
        build = assembly::BUILD, "the hub answers");
    let ended = tokio::select! {
        () = signals.next() => Ok(()),
        ended = listeners.failure() => Err(ended),
    };
    tokio::select! {
        () = hub.shut_down(listeners, settings.jobs.grace()) => tracing::info!("the hub has stopped"),
        () = signals.next() => tracing::warn!("told to stop twice, so the hub ends at once"),
    }
    drop(lock);
    ended
}

/// Says a line to whoever started the program; the log goes to stderr.
#[expect(clippy::print_stdout, reason = "addresses and a new token are read from stdout")]
fn say(line: &str) {
    println!("{line}");
}
