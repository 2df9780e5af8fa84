//! The data oracle: every block is a function of (disk, block, generation), so that a wrong one is named.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

use crate::choices::Choices;

/// Bytes that belong to one generation: smaller than a cluster, so that clusters and digests mix generations.
pub(crate) const BLOCK: u64 = 16 * 1024;

/// What a disk holds: one generation per block, 0 for zeroes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    disk: u64,
    generations: Vec<u32>,
}

impl Content {
    /// A disk of zeroes; the number tells it from every other disk of the campaign.
    pub(crate) fn zeroes(disk: u64, capacity: u64) -> Result<Self> {
        let blocks = usize::try_from(capacity.div_ceil(BLOCK))?;
        Ok(Self { disk, generations: vec![0; blocks] })
    }

    /// Moves some blocks on to a later generation and answers their new bytes, as a guest that writes.
    pub(crate) fn write(&mut self, generation: u32, choices: &mut Choices) -> Vec<(u64, Vec<u8>)> {
        let count = u64::try_from(self.generations.len()).unwrap_or(1);
        let mut writes = Vec::new();
        for _ in 0..1 + choices.below(8) {
            let first = choices.below(count);
            let run = 1 + choices.below(6);
            // A guest trims now and then: a block that becomes zero hides what the parent has there.
            let generation = if choices.one_in(6) { 0 } else { generation };
            for block in first..(first + run).min(count) {
                if let Some(known) = self.generations.get_mut(usize::try_from(block).unwrap_or(0)) {
                    *known = generation;
                    writes.push((block * BLOCK, bytes_of(self.disk, block, generation)));
                }
            }
        }
        writes
    }

    /// Fails unless a raw file holds exactly this; the error names the first wrong block and what it is.
    pub(crate) fn check(&self, raw: &Path) -> Result<()> {
        let file = File::open(raw).with_context(|| raw.display().to_string())?;
        let len = file.metadata()?.len();
        let blocks = u64::try_from(self.generations.len())?;
        ensure!(len == blocks * BLOCK, "{} has {len} bytes, not {}", raw.display(), blocks * BLOCK);
        let mut found = vec![0; usize::try_from(BLOCK)?];
        for (block, generation) in (0..).zip(&self.generations) {
            file.read_exact_at(&mut found, block * BLOCK)?;
            if found != bytes_of(self.disk, block, *generation) {
                bail!(
                    "block {block} of {}: {}",
                    raw.display(),
                    self.blame(block, *generation, &found)
                );
            }
        }
        Ok(())
    }

    fn blame(&self, block: u64, expected: u32, found: &[u8]) -> String {
        let newest = self.generations.iter().copied().max().unwrap_or(0) + 64;
        let stale = (0..=newest).find(|it| bytes_of(self.disk, block, *it) == found);
        match stale {
            Some(other) => format!("holds generation {other} instead of {expected}"),
            None => format!("holds no generation of this block; expected {expected}"),
        }
    }
}

/// The bytes of one block.
fn bytes_of(disk: u64, block: u64, generation: u32) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(BLOCK).unwrap_or(0)];
    if generation > 0 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&disk.to_le_bytes()).update(&block.to_le_bytes());
        let mut stream = hasher.update(&generation.to_le_bytes()).finalize_xof();
        // Half of the blocks can be compressed: a piece that comes again and again.
        let piece =
            if (block + u64::from(generation)).is_multiple_of(2) { 512 } else { bytes.len() };
        let (first, rest) = bytes.split_at_mut(piece);
        stream.fill(first);
        rest.chunks_exact_mut(piece).for_each(|next| next.copy_from_slice(first));
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_block_is_named_with_its_generation() {
        let folder = tempfile::tempdir().unwrap();
        let raw = folder.path().join("disk.raw");
        let file = File::create_new(&raw).unwrap();
        file.set_len(4 * BLOCK).unwrap();
        let mut content = Content::zeroes(1, 4 * BLOCK).unwrap();
        content.check(&raw).unwrap();
        content.generations[2] = 5;
        file.write_all_at(&bytes_of(1, 2, 4), 2 * BLOCK).unwrap();
        let said = content.check(&raw).unwrap_err().to_string();
        assert!(said.contains("block 2") && said.contains("generation 4 instead of 5"), "{said}");
        file.write_all_at(&bytes_of(1, 2, 5), 2 * BLOCK).unwrap();
        content.check(&raw).unwrap();
        file.write_all_at(&[1], BLOCK).unwrap();
        let said = content.check(&raw).unwrap_err().to_string();
        assert!(said.contains("no generation"), "{said}");
    }
}
