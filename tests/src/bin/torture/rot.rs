//! One flipped bit in every kind of region of a repository's files, and files that end too early.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use hub_tests::api::Fields as _;

use crate::campaign::Campaign;
use crate::choices::Choices;
use crate::damage::{Chain, overwrite};
use crate::world::World;

/// The row of flipped bits.
pub(crate) const FLIPPED: &str = "one bit flipped in the repository";
/// The row of short files.
pub(crate) const TRUNCATED: &str = "file truncated at a multiple of 64 KiB";

/// The row of blocks in each other's place.
pub(crate) const SWAPPED: &str = "two blocks swapped";

/// Bytes of a cluster and of a digest's block.
const CLUSTER: usize = 64 * 1024;

/// Bytes of a file that belong together.
#[derive(Clone, Debug)]
pub(crate) struct Region {
    chain: usize,
    file: PathBuf,
    /// What they are.
    name: String,
    at: usize,
    len: usize,
}

impl Region {
    /// Its name in what is printed.
    pub(crate) fn name(&self) -> String {
        format!("{} at {} of {}", self.name, self.at, self.file.display())
    }
}

/// The regions of all files of the chains: of each kind of region one or more.
pub(crate) fn regions(campaign: &Campaign, chains: &[Chain]) -> Result<Vec<Region>> {
    let mut all = Vec::new();
    for (chain, it) in chains.iter().enumerate() {
        for image in [&it.base_image, &it.tip_image] {
            let bytes = fs::read(image)?;
            let image_regions = regions_of_image(&bytes).context("an image that was judged")?;
            let manifest = image.with_extension("manifest");
            let manifest_regions = regions_of_manifest(&fs::read(&manifest)?);
            let of = |file: &Path, (name, at, len): (&str, usize, usize)| Region {
                chain,
                file: file.to_owned(),
                name: name.to_owned(),
                at,
                len,
            };
            all.extend(image_regions.into_iter().map(|it| of(image, it)));
            all.extend(manifest_regions.into_iter().map(|it| of(&manifest, it)));
        }
    }
    Ok(campaign.sampled("regions", all))
}

/// Names, offsets and lengths by the qcow2 specification; fields that every reader uses.
///
/// Images of this part are not compressed.
fn regions_of_image(bytes: &[u8]) -> Option<Vec<(&'static str, usize, usize)>> {
    let mut all = vec![
        ("magic", 0, 4),
        ("version", 4, 4),
        ("cluster bits", 20, 4),
        ("virtual size", 24, 8),
        ("encryption", 32, 4),
        ("L1 size", 36, 4),
        ("L1 offset", 40, 8),
        ("refcount table offset", 48, 8),
        ("refcount table clusters", 56, 4),
        ("snapshots", 60, 4),
        ("refcount order", 96, 4),
        ("header length", 100, 4),
    ];
    let backing = number(bytes, 8)?;
    if backing > 0 {
        all.push(("offset of the backing name", 8, 8));
        all.push(("length of the backing name", 16, 4));
        all.push(("backing name", backing, usize::try_from(word(bytes, 16)?).ok()?));
    }
    let (size, l1, refcounts) = (number(bytes, 24)?, number(bytes, 40)?, number(bytes, 48)?);
    all.push(("L1 entry", l1, 8));
    let l2 = entry_offset(bytes, l1)?;
    // An image without data has no table of the second level.
    let entries = if l2 > 0 { CLUSTER / 8 } else { 0 };
    for entry in 0..entries {
        let at = l2 + entry * 8;
        let host = entry_offset(bytes, at)?;
        if host > 0 {
            // The last cluster may be longer than what is left of the disk.
            let data = size.saturating_sub(entry * CLUSTER).min(CLUSTER);
            all.push(("L2 entry", at, 8));
            all.push(("data", host, data));
            if data < CLUSTER {
                all.push(("padding behind the disk", host + data, CLUSTER - data));
            }
        }
    }
    all.push(("refcount table entry", refcounts, 8));
    let block = number(bytes, refcounts)?;
    let clusters = bytes.len() / CLUSTER;
    all.push(("refcount", block + 2 * (clusters / 2), 2));
    Some(all)
}

fn regions_of_manifest(bytes: &[u8]) -> Vec<(&'static str, usize, usize)> {
    let header = 16_384;
    let mut all = vec![
        ("manifest magic", 0, 8),
        ("manifest version", 8, 4),
        ("manifest header length", 12, 4),
        ("manifest identity length", 16, 4),
        ("manifest block size", 20, 4),
        ("manifest capacity", 24, 8),
        ("manifest root", 32, 32),
        ("manifest header digest", 64, 32),
        ("manifest identity", 96, 200),
        ("manifest padding", header - 64, 64),
    ];
    let digests = (header..bytes.len()).step_by(32 * 7);
    all.extend(digests.map(|at| ("manifest digest", at, 32)));
    all
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let word: [u8; 8] = bytes.get(at..at + 8)?.try_into().ok()?;
    usize::try_from(u64::from_be_bytes(word)).ok()
}

/// The host offset in a table entry; 0 where there is none.
fn entry_offset(bytes: &[u8], at: usize) -> Option<usize> {
    number(bytes, at).map(|entry| entry & 0x00ff_ffff_ffff_fe00)
}

/// Flips one bit of a region, asks for everything that could serve it, and flips it back.
pub(crate) async fn flip(
    campaign: &Campaign,
    world: &mut World,
    chains: &[Chain],
    region: &Region,
    step: u64,
) -> Result<()> {
    let mut choices = Choices::of_step(campaign.seed(), "flips", step);
    let chain = chains.get(region.chain).context("a region of a chain")?;
    let sound = fs::read(&region.file)?;
    let mut bytes = sound.clone();
    let bit = choices.below(8 * u64::try_from(region.len)?);
    let at = region.at + usize::try_from(bit / 8)?;
    *bytes.get_mut(at).context("a region lies in its file")? ^= 1 << (bit % 8);
    overwrite(&region.file, &bytes)?;
    let found = world.is_found(chain).await;
    overwrite(&region.file, &sound)?;
    let finding = found.with_context(|| format!("bit {} of byte {at}", bit % 8))?;
    if region.name == "data" {
        let blamed =
            finding.verdict.pointer("/first_bad/offset").and_then(serde_json::Value::as_u64);
        ensure!(blamed.is_some(), "damaged data has an offset: {:#}", finding.verdict);
    }
    Ok(())
}

/// Every length that is a multiple of 64 KiB and shorter than the file.
pub(crate) fn lengths(
    campaign: &Campaign,
    chains: &[Chain],
) -> Result<Vec<(usize, PathBuf, usize)>> {
    let mut all = Vec::new();
    for (number, chain) in chains.iter().enumerate() {
        for image in [&chain.base_image, &chain.tip_image] {
            for file in [image.clone(), image.with_extension("manifest")] {
                let len = usize::try_from(fs::metadata(&file)?.len())?;
                all.extend((0..len).step_by(CLUSTER).map(|end| (number, file.clone(), end)));
            }
        }
    }
    Ok(campaign.sampled("lengths", all))
}

/// Cuts a file short, asks for everything that could serve it, and makes it whole again.
pub(crate) async fn truncate(
    world: &mut World,
    chains: &[Chain],
    (chain, file, end): (usize, &Path, usize),
) -> Result<()> {
    let chain = chains.get(chain).context("a file of a chain")?;
    let sound = fs::read(file)?;
    overwrite(file, sound.get(..end).context("shorter than the file")?)?;
    let found = world.is_found(chain).await;
    overwrite(file, &sound)?;
    found.map(drop)
}

/// Whether two clusters of data can change places.
pub(crate) fn has_two_clusters(chain: &Chain) -> Result<bool> {
    let regions = regions_of_image(&fs::read(&chain.base_image)?).context("a judged image")?;
    Ok(regions.iter().filter(|(name, ..)| *name == "data").count() > 1)
}

/// Two clusters of data change places: each is whole, and neither is where it belongs.
pub(crate) async fn swap_blocks(world: &mut World, chain: &Chain) -> Result<()> {
    let sound = fs::read(&chain.base_image)?;
    let regions = regions_of_image(&sound).context("an image that was judged")?;
    let data: Vec<_> = regions.iter().filter(|(name, ..)| *name == "data").collect();
    let (Some((_, one, _)), Some((_, other, _))) = (data.first(), data.last()) else {
        bail!("an image of two clusters has data");
    };
    let mut bytes = sound.clone();
    for at in 0..CLUSTER {
        bytes.swap(one + at, other + at);
    }
    overwrite(&chain.base_image, &bytes)?;
    let found = world.is_found(chain).await;
    overwrite(&chain.base_image, &sound)?;
    let finding = found?;
    let bad: u64 = finding
        .verdict
        .list("/points")?
        .iter()
        .filter_map(|point| point.number("/bad_blocks").ok())
        .sum();
    ensure!(bad >= 2, "both places are blamed: {:#}", finding.verdict);
    Ok(())
}
