//! Measurements against peers in the same run; `cargo xtask bench` builds this in release mode and runs it.

mod catalogue;
mod copy;
mod cpu;
mod figures;
mod inventory;
mod ours;
mod peer;
mod qemu_nbd;
mod workshop;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Measures the hub beside its peers.
#[derive(Parser)]
#[command(name = "bench")]
struct Arguments {
    #[command(subcommand)]
    case: Case,
}

#[derive(Subcommand)]
enum Case {
    /// Adds, refreshes and lists many VMs, beside the same rows inserted by the databases' own clients.
    Catalogue(CatalogueArguments),
    /// Copies disks through VMA and hub, beside the tools of qemu and libnbd on the same source.
    Copy(copy::CopyArguments),
}

/// How large, and where the figures go.
#[derive(clap::Args)]
pub(crate) struct CatalogueArguments {
    /// VMs with three disks each.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) vms: usize,
    /// Also writes the figures as JSON.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    match Arguments::parse().case {
        Case::Catalogue(arguments) => catalogue::run(&arguments).await,
        Case::Copy(arguments) => copy::run(&arguments).await,
    }
}
