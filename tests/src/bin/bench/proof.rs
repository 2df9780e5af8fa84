//! Proof: verifying and restoring a point, beside reading and digesting the same file and nothing else.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use hub_tests::api::Fields as _;
use hub_tests::datastore::{Content, DiskSpec, Subformat};
use hub_tests::judge::Image;
use hub_tests::tool;
use rustix::fs::{Advice, fadvise};
use serde_json::json;

use crate::copy::plan::{PIECE, spread};
use crate::figures::{self, Figure, median};
use crate::ours::Ours;
use crate::workshop::{self, Terms, say};

const MIB: u64 = 1 << 20;

/// The least speed, as a share of reading and BLAKE3 alone.
const SHARE: f64 = 0.8;

/// What a restore does beside reading and digesting.
const RESTORE_LIMIT: &str = "a restore also writes what it reads, and waits until that is durable";

/// How large the disk is, and how often it is proven.
#[derive(clap::Args)]
pub(crate) struct ProofArguments {
    #[command(flatten)]
    terms: Terms,
    /// Rounds that the medians are taken from; in each, everybody reads once.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

/// Copies the disk of case (a), then verifies and restores it, each time from a cold page cache.
pub(crate) async fn run(arguments: &ProofArguments) -> Result<()> {
    let capacity = 8192 * MIB / arguments.terms.shrink();
    let content = Content::Noise { seed: 1 << 32, areas: spread(capacity, MIB, 2 * MIB) };
    let disk = DiskSpec { capacity, subformat: Subformat::MonolithicSparse, content };
    let folder = workshop::folder(&arguments.terms)?;
    say("making the disk, and a point of it …");
    let ours = Ours::start(folder.path(), &[disk]).await?;
    let copied = ours.back_up("full").await?;
    let point = copied.points.first().context("a run has a point")?;
    let image = point.image.as_path();

    let [mut alone, mut verified, mut restored, mut peer] = [const { Vec::new() }; 4];
    for round in 0..arguments.rounds {
        say(&format!("round {} …", round + 1));
        forget(image)?;
        alone.push(read_and_digest(image)?);
        forget(image)?;
        verified.push(ours.verify(&copied).await?);
        forget(image)?;
        let body = json!({"backup_id": point.id, "format": "raw", "file_name": "bench.raw"});
        let (job, took) = ours.timed("/restores", &body).await?;
        restored.push(took);
        let path = job.text("/path")?;
        if round == 0 {
            ours.vm.disk(0)?.compare(Image::new(path.as_ref(), "raw"))?;
        }
        fs::remove_file(&path)?;
        forget(image)?;
        peer.push(convert(image, &folder.path().join("peer.raw"))?);
    }
    ours.stop().await?;

    let case = "half full";
    let [alone, verified, restored, peer] = [alone, verified, restored, peer].map(median);
    let seconds = |it: f64| format!("{it:.2} s");
    let figures = [
        Figure::plain(case, "reading and BLAKE3 alone", seconds(alone)),
        Figure::plain(case, "verifying", seconds(verified)),
        Figure::at_least(case, "verifying, share of that speed", alone / verified, SHARE, ""),
        Figure::plain(case, "restoring to a raw file", seconds(restored)),
        Figure::at_least(case, "restoring, share of that speed", alone / restored, SHARE, "")
            .limited_by(RESTORE_LIMIT),
        Figure::plain(case, "`qemu-img convert` tuned, nothing proven", seconds(peer)),
        Figure::plain(case, "restoring ÷ convert", format!("{:.2}", restored / peer)),
    ];
    let (size, rounds) = (arguments.terms.size(), arguments.rounds);
    let title = format!("proof, {size}, cold page cache, medians of {rounds} interleaved rounds");
    figures::show(&title, &figures, arguments.terms.json.as_deref())
}

/// Reads a file as a whole and digests it block by block, on all processors.
fn read_and_digest(path: &Path) -> Result<Duration> {
    let started = Instant::now();
    let file = File::open(path)?;
    fadvise(&file, 0, None, Advice::Sequential)?;
    let len = file.metadata()?.len();
    let next = AtomicU64::new(0);
    let work = || -> Result<u8> {
        let (mut buffer, mut seen) = (vec![0; usize::try_from(MIB)?], 0);
        loop {
            let at = next.fetch_add(MIB, Ordering::Relaxed);
            if at >= len {
                return Ok(seen);
            }
            let part = &mut buffer[..usize::try_from(MIB.min(len - at))?];
            file.read_exact_at(part, at)?;
            for block in part.chunks(usize::try_from(PIECE)?) {
                seen ^= blake3::hash(block).as_bytes()[0];
            }
        }
    };
    let threads = std::thread::available_parallelism()?.get();
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let mut ended = all.into_iter().map(|it| it.join());
        // What was seen is used, so that no compiler leaves it out.
        ended.try_for_each(|it| {
            it.map_err(|_| anyhow!("a thread died"))?.map(std::hint::black_box).map(drop)
        })
    })?;
    Ok(started.elapsed())
}

/// The best of qemu: out of order, 16 requests, past the page cache.
fn convert(image: &Path, target: &Path) -> Result<Duration> {
    let (from, to) = (image.display().to_string(), target.display().to_string());
    let started = Instant::now();
    let tuned = ["convert", "-W", "-m", "16", "-t", "none", "-f", "qcow2", "-O", "raw"];
    tool::run("qemu-img", &[tuned.as_slice(), &[&from, &to]].concat())?;
    File::open(target)?.sync_all()?;
    let took = started.elapsed();
    fs::remove_file(target)?;
    Ok(took)
}

/// Lets the page cache forget a file.
fn forget(path: &Path) -> Result<()> {
    let file = File::open(path)?;
    file.sync_all()?;
    Ok(fadvise(&file, 0, None, Advice::DontNeed)?)
}
