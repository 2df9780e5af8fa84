//! Measurements against peers in the same run; `cargo xtask bench` builds this in release mode and runs it.

mod catalogue;
mod copy;
mod cpu;
mod distance;
mod export;
mod figures;
mod inventory;
mod memory;
mod ours;
mod peer;
mod proof;
mod qemu_nbd;
mod vsphere;
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
    /// Copies a disk over a line of 1 Gbit/s with 20 ms to the other end and back.
    Distance(distance::DistanceArguments),
    /// Waits for the first byte of an export of a long chain.
    Export(export::ExportArguments),
    /// Copies disks of all sizes, the largest of 8 TiB, and looks at the memory that it takes.
    Memory(memory::MemoryArguments),
    /// Verifies and restores, beside reading and digesting the same files.
    Proof(proof::ProofArguments),
    /// Discovers a simulated vCenter of many VMs, beside `pyvmomi` reading the same properties.
    Vsphere(vsphere::VsphereArguments),
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
        Case::Distance(arguments) => distance::run(&arguments).await,
        Case::Export(arguments) => export::run(&arguments).await,
        Case::Memory(arguments) => memory::run(&arguments).await,
        Case::Proof(arguments) => proof::run(&arguments).await,
        Case::Vsphere(arguments) => vsphere::run(&arguments).await,
    }
}
