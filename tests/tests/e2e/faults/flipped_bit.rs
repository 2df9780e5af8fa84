//! Promise P4: one flipped bit in the repository is found by verify and never served as success.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use hub_tests::api::Fields as _;
use hub_tests::datastore::{VmSpec, noise};
use hub_tests::judge::export_digest;
use hub_tests::lab::Lab;
use hub_tests::tool;
use serde_json::{Value, json};

use super::play;
use super::protected::{MIB, Protected, files_below, small_disk};

/// Bytes per digest.
const BLOCK: u64 = 65_536;

/// How hub and harness tell of damage.
const EXPECTED: &[&str] =
    &["not what its manifest says", "repository/damaged", "damaged", "digest"];

/// A bit that is wrong until this is dropped.
struct Flipped {
    file: File,
    at: u64,
}

impl Flipped {
    fn new(path: &Path, at: u64) -> Result<Self> {
        let file = File::options().read(true).write(true).open(path)?;
        let flipped = Self { file, at };
        flipped.flip()?;
        Ok(flipped)
    }

    fn flip(&self) -> Result<()> {
        let mut byte = [0];
        self.file.read_exact_at(&mut byte, self.at)?;
        Ok(self.file.write_all_at(&[byte[0] ^ 0b0001_0000], self.at)?)
    }
}

impl Drop for Flipped {
    fn drop(&mut self) {
        // A test that cannot flip it back fails at the next look.
        drop(self.flip());
    }
}

/// Where an image keeps a byte of its disk, as `qemu-img` sees it.
fn place_of(image: &Path, offset: u64) -> Result<u64> {
    let image = image.display().to_string();
    let map = tool::run("qemu-img", &["map", "-f", "qcow2", "--output=json", &image])?;
    let map: Value = serde_json::from_str(&map)?;
    let runs = map.as_array().context("a map is a list")?;
    let run = runs.iter().find(|run| {
        let (start, len) = (run.number("/start").ok(), run.number("/length").ok());
        start.zip(len).is_some_and(|(start, len)| (start..start + len).contains(&offset))
    });
    let run = run.context("every byte has a place")?;
    Ok(run.number("/offset")? + offset - run.number("/start")?)
}

async fn verify(lab: &Lab, backup: &Value) -> Result<Value> {
    let path = format!("/backups/{}/verify", backup.text("/backup_id")?);
    lab.api.run(&path, &json!({"scope": "chain"})).await
}

/// Restores that must fail, and leave no file.
async fn restore_fails(lab: &Lab, backup: &Value) -> Result<()> {
    for format in ["raw", "qcow2", "vmdk"] {
        let body = json!({"backup_id": backup.text("/backup_id")?, "format": format});
        let job = lab.api.start("/restores", &body).await?;
        let job = lab.api.ended(&job, |_| ()).await?;
        ensure!(job.text("/status")? == "failed", "{job:#}");
        ensure!(job.text("/error/code")? == "repository/damaged", "{job:#}");
        ensure!(job.is_null_at("/path"), "nothing is offered as restored: {job:#}");
        let name = job.text("/file_name")?;
        let stem = name.split('.').next().unwrap_or_default();
        let left = files_below(lab.hub.data_dir())?;
        let repository = lab.hub.data_dir().join("repository");
        let restored = |path: &&PathBuf| {
            !path.starts_with(&repository) && path.display().to_string().contains(stem)
        };
        ensure!(!left.iter().any(|path| restored(&path)), "no file of it stays: {left:#?}");
    }
    Ok(())
}

#[tokio::test]
async fn p4_a_flipped_bit_of_data_is_blamed_precisely_and_served_to_nobody() {
    let part = async |lab: &mut Lab| {
        let spec = VmSpec::new("rotten", vec![small_disk(1), small_disk(2)]);
        let it = Protected::new(lab, &spec).await?;
        let full = it.back_up(lab, "full").await?;
        it.vm.disk(1)?.write(4 * MIB, &noise(3, 65_536))?;
        let tips = it.back_up(lab, "incremental").await?;
        let (first, tip) = (full.get(1).context("disk 1")?, tips.get(1).context("disk 1")?);
        let image = it.image(first)?;
        let bad = 5 * BLOCK + 12_345;
        let flipped = Flipped::new(&image, place_of(&image, bad)?)?;

        let verified = verify(lab, tip).await?;
        ensure!(!verified.flag("/good")?, "{verified:#}");
        let blamed = verified.text("/first_bad/backup_id")?;
        ensure!(blamed == first.text("/backup_id")?, "the first bad point: {verified:#}");
        ensure!(verified.number("/first_bad/disk_id")? == 1, "the disk: {verified:#}");
        let offset = verified.number("/first_bad/offset")?;
        ensure!((5 * BLOCK..=bad).contains(&offset), "where on the disk: {verified:#}");
        ensure!(verified.number("/points/0/bad_blocks")? == 1, "no other block: {verified:#}");
        it.verify(lab, tips.first().context("disk 0")?).await?;

        restore_fails(lab, first).await?;
        restore_fails(lab, tip).await?;
        let body = json!({"backup_id": tip.text("/backup_id")?});
        let export = lab.api.post("/exports", &body).await?.ok()?;
        let uri = export.text("/nbd_uri")?;
        ensure!(export_digest(&uri).is_err(), "a copy of the export fails");
        let read = |block: u64| {
            let read = format!("read {} {BLOCK}", block * BLOCK);
            tool::run("qemu-io", &["-r", "-f", "raw", "-c", &read, &uri])
        };
        ensure!(read(5).is_err(), "the bad block is refused");
        ensure!(read(6)?.contains("65536/65536"), "and no other one");

        drop(flipped);
        it.verify(lab, tip).await?;
        Ok(())
    };
    play(EXPECTED, part).await.unwrap();
}

#[tokio::test]
async fn p4_a_flipped_bit_anywhere_in_image_or_manifest_is_found() {
    let part = async |lab: &mut Lab| {
        let it = Protected::new(lab, &VmSpec::new("anywhere", vec![small_disk(1)])).await?;
        let backups = it.back_up(lab, "full").await?;
        let backup = backups.first().context("one disk")?;
        let image = it.image(backup)?;
        for file in [image.clone(), image.with_extension("manifest")] {
            let len = file.metadata()?.len();
            // Both ends, and places between that meet header, tables, data and padding.
            let between = (1..12).map(|part| len / 12 * part + part);
            for at in [0, 9, 27, 45, 100, len - 1].into_iter().chain(between) {
                let flipped = Flipped::new(&file, at)?;
                let verified = verify(lab, backup).await?;
                let good = verified.flag("/good")?;
                ensure!(!good, "bit of byte {at} of {}: {verified:#}", file.display());
                let blamed = verified.text("/first_bad/backup_id")?;
                ensure!(blamed == backup.text("/backup_id")?, "{verified:#}");
                drop(flipped);
            }
        }
        it.verify(lab, backup).await
    };
    play(EXPECTED, part).await.unwrap();
}
