//! Bit rot: one flipped bit or a cut anywhere in a repository is found by verification, and never restored.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use hub_data_mover::{ImageSeal, SpanDigest};
use hub_domain::restore::{PointVerdict, RestoreFormat};
use hub_ports::{BackupStorage, NoProgress, RestoreOutput};
use tokio_util::sync::CancellationToken;

use super::fixture::{Hub, image_path, pattern, qemu_img, run};
use super::seed::{Seed, rounds};

/// Nine clusters of which some are holes, and an odd end.
const DISK: usize = 9 * 65_536 + 1_536;
const GROWN: usize = DISK + 3 * 65_536;

type Members = serde_json::Map<String, serde_json::Value>;

/// Three points of one disk: a full, an overlay with data and with zeroes, an overlay of a disk that grew.
struct Repository {
    hub: Hub,
    disks: Vec<Vec<u8>>,
}

impl Repository {
    async fn make() -> Result<Self> {
        let hub = Hub::start().await?;
        let mut disk = pattern(DISK, 1);
        disk[2 * 65_536..4 * 65_536].fill(0);
        let mut disks = vec![disk.clone()];
        disk[65_536..70_000].fill(0x5A);
        disk[5 * 65_536..6 * 65_536].fill(0);
        disk[DISK - 700..].fill(0x77);
        disks.push(disk.clone());
        disk.resize(GROWN, 0);
        disk[GROWN - 1000..].fill(0x33);
        disks.push(disk);
        for (number, disk) in (1..).zip(&disks) {
            let parent = (number > 1).then(|| number - 1);
            hub.back_up(number, disk, parent).await?;
        }
        let this = Self { hub, disks };
        for number in 1..=3 {
            let verdict = this.verify(number).await?;
            ensure!(verdict.is_good(), "point {number} before anything was done: {verdict:?}");
        }
        Ok(this)
    }

    fn image(&self, number: u128) -> PathBuf {
        self.hub.file(&image_path(number))
    }

    async fn verify(&self, number: u128) -> Result<PointVerdict> {
        let (location, stop) = (self.hub.location(number), CancellationToken::new());
        Ok(self.hub.storage.verify_point(&location, &NoProgress, &stop).await?)
    }

    /// Changes the identity in a manifest and signs it, as whoever knows the format can.
    fn seal_again(
        &self,
        number: u128,
        change: impl FnOnce(&mut Members) -> Result<()>,
    ) -> Result<()> {
        let path = self.image(number).with_extension("manifest");
        let mut bytes = std::fs::read(&path)?;
        let len = usize::try_from(u32::from_le_bytes(bytes[16..20].try_into()?))?;
        let mut members: Members = serde_json::from_slice(&bytes[96..96 + len])?;
        change(&mut members)?;
        let json = serde_json::to_vec(&members)?;
        bytes[96..16_384].fill(0);
        bytes[96..96 + json.len()].copy_from_slice(&json);
        bytes[16..20].copy_from_slice(&u32::try_from(json.len())?.to_le_bytes());
        let digest = blake3::hash(&[&bytes[..64], &bytes[96..16_384]].concat());
        bytes[64..96].copy_from_slice(digest.as_bytes());
        Ok(std::fs::write(&path, &bytes)?)
    }

    /// Restores a point that is damaged somewhere: nothing comes of it, or exactly the disk.
    async fn restore_is_never_wrong(&self, number: u128) -> Result<bool> {
        let stop = CancellationToken::new();
        let output =
            RestoreOutput { format: RestoreFormat::Raw, file_name: format!("{number}.raw") };
        let location = self.hub.location(number);
        let restored = self.hub.storage.restore_point(&location, &output, &NoProgress, &stop).await;
        let Ok(file) = restored else { return Ok(false) };
        let disk = self.disks.get(usize::try_from(number)? - 1).context("a point")?;
        ensure!(std::fs::read(&file.path)? == *disk, "point {number} was restored wrong");
        std::fs::remove_file(&file.path)?;
        Ok(true)
    }
}

/// A verdict that somebody can act on: the disk, and a place on it or in a file that is named.
fn names_a_place(verdict: &PointVerdict, file: &Path) -> bool {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let damage = verdict.damage.as_deref();
    verdict.mismatches.iter().any(|it| it.what.contains("digest") || it.what.contains("offset"))
        || damage.is_some_and(|it| it.contains(&stem))
}

/// Where in a file bits are flipped: every byte that means something, and samples of the others.
fn places(bytes: &[u8], seed: &mut Seed) -> Vec<usize> {
    let mut places = Vec::new();
    for (number, cluster) in bytes.chunks(4096).enumerate() {
        let start = number * 4096;
        let filled = cluster.iter().filter(|it| **it != 0).count();
        if filled > 2048 {
            // Data and digests: samples.
            places.extend((0..2 * rounds(1)).map(|_| start + seed.below(cluster.len())));
        } else if filled > 0 {
            // A header or a table: each byte that is set and its neighbours, as far as there are few.
            let near = |at: usize| cluster[at.saturating_sub(1)..cluster.len().min(at + 2)].iter();
            let mut near: Vec<_> =
                (0..cluster.len()).filter(|at| near(*at).any(|it| *it != 0)).collect();
            while near.len() > 160 * rounds(1) {
                near.swap_remove(seed.below(near.len()));
            }
            places.extend(near.into_iter().map(|at| start + at));
            places.extend((0..rounds(1)).map(|_| start + seed.below(cluster.len())));
        } else {
            places.extend((0..rounds(1)).map(|_| start + seed.below(cluster.len())));
        }
    }
    places
}

#[expect(clippy::print_stderr, reason = "the scoreboard of the campaign")]
fn score(what: &str, seed: &Seed, injected: usize, restored: usize) {
    eprintln!(
        "{what}: seed {}, {injected} injected, {injected} found, 0 lost; \
         {restored} did not touch what is restored",
        seed.first()
    );
}

/// Flips bits in one file of each point, and returns how many.
async fn flip_all(
    repository: &Repository,
    numbers: std::ops::RangeInclusive<u128>,
    file: impl Fn(&Repository, u128) -> PathBuf,
    what: &str,
) -> Result<()> {
    let mut seed = Seed::new();
    let (mut injected, mut restored) = (0, 0);
    for number in numbers {
        let path = file(repository, number);
        let good = std::fs::read(&path)?;
        let file = OpenOptions::new().write(true).open(&path)?;
        for at in places(&good, &mut seed) {
            let bit = seed.below(8);
            file.write_all_at(&[good[at] ^ (1 << bit)], at as u64)?;
            let verdict = repository.verify(number).await?;
            let told = format!(
                "seed {}: bit {bit} of byte {at} of {} bytes, point {number}",
                seed.first(),
                good.len()
            );
            ensure!(!verdict.is_good(), "{told}: not found");
            ensure!(names_a_place(&verdict, &path), "{told}: no place in {verdict:?}");
            if injected % 8 == 0 {
                let harmless = repository.restore_is_never_wrong(number).await.context(told)?;
                restored += usize::from(harmless);
            }
            file.write_all_at(&good[at..=at], at as u64)?;
            injected += 1;
        }
        ensure!(repository.verify(number).await?.is_good(), "point {number} after all");
    }
    score(what, &seed, injected, restored);
    ensure!(injected > 200, "only {injected} bits were flipped");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_a_flipped_bit_in_any_region_of_an_image_is_found() -> Result<()> {
    let repository = Repository::make().await?;
    flip_all(&repository, 1..=3, Repository::image, "bits of images").await
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_a_flipped_bit_in_any_region_of_a_manifest_is_found() -> Result<()> {
    let repository = Repository::make().await?;
    let manifest =
        |repository: &Repository, number| repository.image(number).with_extension("manifest");
    flip_all(&repository, 1..=3, manifest, "bits of manifests").await
}

/// Every cluster compressed, as another tool packs them; the manifest is sealed again for that file.
#[tokio::test(flavor = "multi_thread")]
async fn p4_a_flipped_bit_in_any_region_of_a_compressed_image_is_found() -> Result<()> {
    if !qemu_img()? {
        return Ok(());
    }
    let repository = Repository::make().await?;
    let (image, plain) = (repository.image(1), repository.hub.file("plain.qcow2"));
    std::fs::rename(&image, &plain)?;
    let (from, to) = (plain.to_str().context("text")?, image.to_str().context("text")?);
    let options = "compression_type=zstd";
    run("qemu-img", &["convert", "-c", "-o", options, "-f", "qcow2", "-O", "qcow2", from, to])?;
    ensure!(!repository.verify(1).await?.is_good(), "another file of the same content passed");
    let (report, frame) = hub_qcow2::check_with_frame(&image)?;
    ensure!(report.compressed_clusters > 0, "{report:?}");
    let seal = ImageSeal::take(frame.file_bytes(), |span, digest: &mut SpanDigest| {
        frame.pieces(span).try_for_each(|piece| {
            digest.piece(&piece);
            frame.read(piece, |bytes| digest.bytes(bytes))
        })
    })?;
    repository.seal_again(1, |json| {
        json.insert("image_seal".to_owned(), serde_json::to_value(&seal)?);
        Ok(())
    })?;
    ensure!(repository.verify(1).await?.is_good() && repository.verify(3).await?.is_good());
    flip_all(&repository, 1..=1, Repository::image, "bits of a compressed image").await
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_a_file_that_was_cut_or_has_grown_is_found() -> Result<()> {
    let repository = Repository::make().await?;
    let seed = Seed::new();
    let (mut injected, mut restored) = (0, 0);
    for number in 1..=3 {
        let manifest = repository.image(number).with_extension("manifest");
        for path in [repository.image(number), manifest] {
            let good = std::fs::read(&path)?;
            let last = good.len().saturating_sub(65_536);
            let whole = (0..good.len()).step_by(65_536);
            let inside = (last..good.len()).step_by(8_192);
            let longer = [1, 512, 65_536].map(|it| good.len() + it);
            for len in whole.chain(inside).chain([good.len() - 1]).chain(longer) {
                let mut other = good.clone();
                other.resize(len, 0);
                std::fs::write(&path, &other)?;
                let verdict = repository.verify(number).await?;
                ensure!(!verdict.is_good(), "{} of {len} bytes passed", path.display());
                ensure!(names_a_place(&verdict, &path), "no place in {verdict:?}");
                let harmless = repository.restore_is_never_wrong(number).await?;
                restored += usize::from(harmless);
                injected += 1;
            }
            std::fs::write(&path, &good)?;
        }
        ensure!(repository.verify(number).await?.is_good(), "point {number} after all");
    }
    score("cuts and growths", &seed, injected, restored);
    Ok(())
}

/// Two guest clusters that have changed places leave every table in order.
#[tokio::test(flavor = "multi_thread")]
async fn p4_two_blocks_that_were_swapped_are_found() -> Result<()> {
    let repository = Repository::make().await?;
    let path = repository.image(1);
    let good = std::fs::read(&path)?;
    let word = |at: usize| -> Result<u64> { Ok(u64::from_be_bytes(good[at..at + 8].try_into()?)) };
    let offset = |entry: u64| usize::try_from(entry & 0x00FF_FFFF_FFFF_FE00);
    let l2 = offset(word(offset(word(40)?)?)?)?;
    let mut bad = good.clone();
    bad[l2..l2 + 8].copy_from_slice(&good[l2 + 8..l2 + 16]);
    bad[l2 + 8..l2 + 16].copy_from_slice(&good[l2..l2 + 8]);
    std::fs::write(&path, &bad)?;
    let verdict = repository.verify(1).await?;
    ensure!(verdict.bad_blocks == 2 && verdict.damage.is_some(), "{verdict:?}");
    ensure!(verdict.mismatches.iter().map(|it| it.offset).eq([0, 65_536]), "{verdict:?}");
    ensure!(!repository.restore_is_never_wrong(1).await?, "it was restored");
    Ok(())
}

/// A point of an older version has no seal of its frame; its tables and its content are still proven.
#[tokio::test(flavor = "multi_thread")]
async fn p4_a_manifest_without_a_seal_is_still_verified() -> Result<()> {
    let repository = Repository::make().await?;
    repository
        .seal_again(1, |json| json.remove("image_seal").context("it was sealed").map(drop))?;
    let verdict = repository.verify(1).await?;
    ensure!(verdict.is_good(), "{verdict:?}");
    let image = repository.image(1);
    let good = std::fs::read(&image)?;
    let l1 = usize::try_from(u64::from_be_bytes(good[40..48].try_into()?))?;
    let mut bad = good;
    bad[l1] ^= 0x80;
    std::fs::write(&image, bad)?;
    ensure!(!repository.verify(1).await?.is_good(), "a damaged L1 table passed");
    Ok(())
}
