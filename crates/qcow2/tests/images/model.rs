//! The model: a disk as a plain vector of bytes, and random work done to both.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use hub_block::{BlockDevice, ExtentKind};
use hub_qcow2::{Backing, CreateOptions, ImageReader, ImageWriter, InsideDirectory};
use proptest::prelude::*;

/// One write of a batch.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) kind: Kind,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// What is written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Bytes that are hardly ever zero.
    Data(u8),
    /// Bytes that cannot be made smaller.
    Noise(u64),
    /// Bytes with stretches of zeroes of this length between them.
    Mixed(usize),
    /// Zeroes, sent as bytes.
    ZeroBytes,
    /// Zeroes, asked for.
    Zeroes,
    /// Nothing.
    Skip,
}

/// Pieces that do not overlap, done at the same time.
pub(crate) type Batch = Vec<Work>;

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        3 => any::<u8>().prop_map(Kind::Data),
        1 => any::<u64>().prop_map(Kind::Noise),
        1 => (1_usize..5000).prop_map(Kind::Mixed),
        1 => Just(Kind::ZeroBytes),
        2 => Just(Kind::Zeroes),
        2 => Just(Kind::Skip),
    ]
}

/// Batches over a disk; half of the cuts lie on cluster boundaries.
pub(crate) fn batches(size: usize, cluster: usize) -> impl Strategy<Value = Vec<Batch>> {
    let cut = (0..=size, any::<bool>())
        .prop_map(move |(at, aligned)| if aligned { at / cluster * cluster } else { at });
    let batch = proptest::collection::vec((cut, kind()), 2..9).prop_map(|mut cuts| {
        cuts.sort_by_key(|(at, _)| *at);
        let ends = cuts.iter().skip(1).map(|(at, _)| *at).collect::<Vec<_>>();
        let pieces = cuts.into_iter().zip(ends);
        pieces.map(|((start, kind), end)| Work { kind, start, end }).collect::<Batch>()
    });
    proptest::collection::vec(batch, 1..6)
}

/// Bytes that cannot be made smaller, the same for the same seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect()
}

impl Work {
    fn bytes(&self) -> Vec<u8> {
        if let Kind::Noise(seed) = self.kind {
            return noise(seed, self.end - self.start);
        }
        let pattern = |at: usize, seed: u8| (at % 251).to_le_bytes()[0].wrapping_add(seed) | 1;
        (self.start..self.end)
            .map(|at| match self.kind {
                Kind::Data(seed) => pattern(at, seed),
                Kind::Mixed(run) if at / run % 2 == 0 => pattern(at, 7),
                Kind::Mixed(_) | Kind::ZeroBytes | Kind::Zeroes | Kind::Skip | Kind::Noise(_) => 0,
            })
            .collect()
    }

    /// Does it to a device.
    pub(crate) async fn perform(self, device: Arc<dyn BlockDevice>) -> anyhow::Result<()> {
        let (offset, len) = (self.start as u64, (self.end - self.start) as u64);
        match self.kind {
            Kind::Skip => Ok(()),
            Kind::Zeroes => Ok(device.write_zeroes(offset, len).await?),
            Kind::Data(_) | Kind::Noise(_) | Kind::Mixed(_) | Kind::ZeroBytes => {
                Ok(device.write_at(offset, Bytes::from(self.bytes())).await?)
            }
        }
    }
}

/// Does batches to a device and to the model.
pub(crate) async fn perform_all(
    device: &Arc<dyn BlockDevice>,
    model: &mut [u8],
    batches: &[Batch],
) -> anyhow::Result<()> {
    for batch in batches {
        let mut tasks = tokio::task::JoinSet::new();
        for work in batch {
            if !matches!(work.kind, Kind::Skip) {
                model[work.start..work.end].copy_from_slice(&work.bytes());
            }
            tasks.spawn(work.clone().perform(device.clone()));
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
    }
    Ok(())
}

/// Fails unless the device holds the model, in one read and in odd pieces, and its extents tell the truth.
pub(crate) async fn require_equal(device: &dyn BlockDevice, model: &[u8]) -> anyhow::Result<()> {
    anyhow::ensure!(device.size() == model.len() as u64, "the size is {}", device.size());
    let all = device.read_at(0, u32::try_from(model.len())?).await?;
    let differs = all.iter().zip(model).position(|(left, right)| left != right);
    anyhow::ensure!(differs.is_none(), "the first other byte is at {differs:?}");
    for start in (0..model.len()).step_by(7_777) {
        let end = model.len().min(start + 1_300);
        let part = device.read_at(start as u64, u32::try_from(end - start)?).await?;
        anyhow::ensure!(part == model[start..end], "other bytes in a read at {start}");
    }
    let mut at = 0;
    for extent in device.extents(0, model.len() as u64).await? {
        anyhow::ensure!(extent.offset == at && extent.len > 0, "a gap before {extent:?}");
        at = extent.end();
        let bytes = &model[usize::try_from(extent.offset)?..usize::try_from(at)?];
        let zero = extent.kind == ExtentKind::Zero;
        anyhow::ensure!(!zero || bytes.iter().all(|it| *it == 0), "{extent:?} is not zero");
    }
    anyhow::ensure!(at == model.len() as u64, "extents end at {at}");
    Ok(())
}

/// Options without a backing file.
pub(crate) fn standalone(virtual_size: u64, cluster_bits: u32) -> CreateOptions {
    CreateOptions { cluster_bits, ..CreateOptions::new(virtual_size) }
}

/// Options over a backing file beside the image.
pub(crate) fn overlay(
    virtual_size: u64,
    cluster_bits: u32,
    name: &str,
    below: u64,
) -> CreateOptions {
    let backing = Some(Backing { name: name.to_owned(), virtual_size: below });
    CreateOptions { cluster_bits, backing, ..CreateOptions::new(virtual_size) }
}

/// Opens a chain whose files lie in one directory.
pub(crate) fn open(folder: &Path, name: &str) -> anyhow::Result<ImageReader> {
    Ok(ImageReader::open_chain(&InsideDirectory::new(folder), &folder.join(name))?)
}

/// A standalone image with these bytes.
pub(crate) async fn make_image(path: &Path, cluster_bits: u32, bytes: &[u8]) -> anyhow::Result<()> {
    let writer = ImageWriter::create_new(path, standalone(bytes.len() as u64, cluster_bits), None)?;
    writer.write_at(0, Bytes::copy_from_slice(bytes)).await?;
    writer.finish().await?;
    Ok(())
}

/// Runs a case of a property on several threads.
pub(crate) fn run_case(
    case: impl Future<Output = anyhow::Result<()>>,
) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build();
    let done = runtime.map_err(anyhow::Error::from).and_then(|it| it.block_on(case));
    done.map_err(|error| TestCaseError::fail(format!("{error:#}")))
}
