//! Exports: how long a reader waits for the first byte of a point that stands on many others.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hub_block::BlockDevice as _;
use hub_nbd::{ClientOptions, Endpoint, NbdClient};
use hub_tests::api::Fields as _;
use hub_tests::datastore::{Content, DiskSpec, Subformat};
use serde_json::json;

use crate::copy::plan::{PIECE, spread};
use crate::figures::{self, Figure, median};
use crate::ours::{Ours, Point};
use crate::qemu_nbd::QemuNbd;
use crate::workshop::{self, Terms, say};

const MIB: u64 = 1 << 20;

/// Points of the chain: the longest that the product makes.
const POINTS: u64 = 64;

/// How often each waits.
const ROUNDS: usize = 11;

/// The longest wait for the first byte, in milliseconds.
const BOUND: f64 = 100.0;

/// Bytes of the first read.
const READ: u32 = 4096;

/// How large the disk is.
#[derive(clap::Args)]
pub(crate) struct ExportArguments {
    #[command(flatten)]
    terms: Terms,
}

/// Makes a chain and reads from its tip, as the hub exports it and as `qemu-nbd` does.
pub(crate) async fn run(arguments: &ExportArguments) -> Result<()> {
    let capacity = 1024 * MIB / arguments.terms.shrink();
    let content = Content::Noise { seed: 5 << 32, areas: spread(capacity, MIB, 2 * MIB) };
    let disk = DiskSpec { capacity, subformat: Subformat::MonolithicSparse, content };
    let folder = workshop::folder(&arguments.terms)?;
    say("making a chain …");
    let ours = Ours::start(folder.path(), &[disk]).await?;
    let mut tip = ours.back_up("full").await?;
    for number in 1..POINTS {
        ours.change(&[number * capacity / POINTS / PIECE * PIECE], PIECE, number)?;
        tip = ours.back_up("incremental").await?;
    }
    let point = tip.points.first().context("a run has a point")?;
    let (mut own, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let (ours_read, took) = first_byte(&ours, point).await?;
        own.push(took);
        let (peer_read, took) = first_byte_of_peer(folder.path(), round, &point.image).await?;
        theirs.push(took);
        ensure!(ours_read == peer_read, "the export is not the point");
    }
    ours.stop().await?;
    let case = "chain of 64";
    let (own, theirs) = (median(own) * 1000.0, median(theirs) * 1000.0);
    let figures = [
        Figure::plain(
            case,
            "`qemu-nbd`, from its start to the first byte",
            format!("{theirs:.1} ms"),
        ),
        Figure::at_most(case, "ours, from the request to the first byte", own, BOUND, "ms"),
        Figure::plain(case, "ours ÷ `qemu-nbd`", format!("{:.2}", own / theirs)),
    ];
    let title = format!("exports, {}, medians of {ROUNDS}", arguments.terms.size());
    figures::show(&title, &figures, arguments.terms.json.as_deref())
}

/// From the request for an export to the first bytes of it.
async fn first_byte(ours: &Ours, point: &Point) -> Result<(Vec<u8>, Duration)> {
    let started = Instant::now();
    let export = ours.api.post("/exports", &json!({"backup_id": point.id})).await?.ok()?;
    let uri = export.text("/nbd_uri")?;
    let (address, name) = uri
        .strip_prefix("nbd://")
        .and_then(|it| it.split_once('/'))
        .with_context(|| format!("no address in {uri}"))?;
    let (host, port) = address.rsplit_once(':').context("an address has a port")?;
    let endpoint = Endpoint::Tcp { host: host.to_owned(), port: port.parse()? };
    let bytes = read_first(&endpoint, name).await?;
    let took = started.elapsed();
    let path = format!("/exports/{}", export.text("/export_id")?);
    ours.api.delete(&path).await?.ok()?;
    Ok((bytes, took))
}

/// The same by `qemu-nbd`, which has to start for it.
async fn first_byte_of_peer(
    place: &Path,
    round: usize,
    image: &Path,
) -> Result<(Vec<u8>, Duration)> {
    let started = Instant::now();
    let name = format!("chain-{round}");
    let server = QemuNbd::start(place, &name, &["--read-only", "--format=qcow2"], image).await?;
    let bytes = read_first(&Endpoint::Unix(server.socket.clone()), "").await?;
    Ok((bytes, started.elapsed()))
}

async fn read_first(endpoint: &Endpoint, export: &str) -> Result<Vec<u8>> {
    let options = ClientOptions { connections: 1, ..ClientOptions::default() };
    let client = NbdClient::connect(endpoint, export, options).await?;
    let bytes = client.read_at(0, READ).await?.to_vec();
    client.close().await;
    Ok(bytes)
}
