//! Writes images as a copy does, and tells what that costs in seconds, processor time and memory.
//!
//! - `write_image copy SOURCE TARGET LEVEL IN_FLIGHT`: a raw file into an image, in pieces of 1 MiB;
//!   level 0 compresses nothing.
//! - `write_image scatter TARGET TIB EVERY_MIB`: one cluster in every so many MiB of a huge sparse disk,
//!   in an order that jumps about.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, bail};
use hub_block::{BlockDevice, BlockingDevice, BufferPool};
use hub_qcow2::{CreateOptions, ImageWriter, Zstd};

const PIECE: u64 = 1 << 20;
const CLUSTER: u64 = 1 << 16;

#[expect(clippy::print_stdout, reason = "its answer is what it prints")]
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
    let began = Instant::now();
    let finished = match words[..] {
        ["copy", source, target, level, in_flight] => {
            copy(source.as_ref(), target.as_ref(), level.parse()?, in_flight.parse()?).await?
        }
        ["scatter", target, tib, every] => {
            scatter(target.as_ref(), tib.parse()?, every.parse()?).await?
        }
        _ => bail!("see the first lines of this program for its arguments"),
    };
    println!(
        "{:.2} s, {}, {} MB in the file, {} clusters",
        began.elapsed().as_secs_f64(),
        used()?,
        finished.file_bytes / 1_000_000,
        finished.data_clusters
    );
    Ok(())
}

/// Copies with as many threads as there are to be writes in flight.
async fn copy(
    source: &Path,
    target: &Path,
    level: u8,
    in_flight: usize,
) -> anyhow::Result<hub_qcow2::FinishedImage> {
    let source = Arc::new(File::open(source)?);
    let size = source.metadata()?.len();
    let options = CreateOptions { compression: Zstd::new(level), ..CreateOptions::new(size) };
    let writer = Arc::new(ImageWriter::create_new(target, options, None)?);
    let device = writer.clone().blocking().context("writers may block")?;
    let (next, pool) = (Arc::<AtomicU64>::default(), BufferPool::new(1 << 20, in_flight));
    let mut threads = Vec::new();
    for _ in 0..in_flight {
        let (source, device, next, pool) =
            (source.clone(), device.clone(), next.clone(), pool.clone());
        threads.push(std::thread::spawn(move || pump(&source, &*device, size, &next, &pool)));
    }
    for thread in threads {
        thread.join().map_err(|_| anyhow::anyhow!("a thread is gone"))??;
    }
    Ok(writer.finish().await?)
}

fn pump(
    source: &File,
    device: &dyn BlockingDevice,
    size: u64,
    next: &AtomicU64,
    pool: &BufferPool,
) -> anyhow::Result<()> {
    loop {
        let at = next.fetch_add(PIECE, Ordering::Relaxed);
        if at >= size {
            return Ok(());
        }
        let mut buffer = pool.take(usize::try_from(PIECE.min(size - at))?);
        source.read_exact_at(&mut buffer, at)?;
        device.write_now(at, &buffer).context("nobody else writes here")??;
    }
}

async fn scatter(
    target: &Path,
    tib: u64,
    every_mib: u64,
) -> anyhow::Result<hub_qcow2::FinishedImage> {
    let size = tib << 40;
    let count = size / (every_mib << 20);
    let writer = Arc::new(ImageWriter::create_new(target, CreateOptions::new(size), None)?);
    let mut buffer = BufferPool::new(1 << 16, 1).take(1 << 16);
    buffer.fill(7);
    let bytes = buffer.freeze();
    // A prime step visits every place once unless the count is a multiple of it.
    for number in 0..count {
        let place = number * 7919 % count;
        writer.write_at(place * (every_mib << 20) / CLUSTER * CLUSTER, bytes.clone()).await?;
    }
    Ok(writer.finish().await?)
}

/// Processor time in clock ticks of 10 ms, and the most memory that was ever resident.
fn used() -> anyhow::Result<String> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().context("a line")?.split_whitespace().collect();
    let ticks = |at: usize| -> anyhow::Result<f64> {
        Ok(fields.get(at).context("a field")?.parse::<f64>()? / 100.0)
    };
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).context("a peak")?;
    Ok(format!("user {:.2} s, sys {:.2} s, {}", ticks(11)?, ticks(12)?, peak.replace('\t', " ")))
}
