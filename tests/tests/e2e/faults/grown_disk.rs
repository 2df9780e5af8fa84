//! Disks that change their size between two backups.

use std::fs::{self, File};

use anyhow::{Context as _, Result, ensure};
use hub_tests::api::Fields as _;
use hub_tests::datastore::{Subformat, VmSpec, noise};
use hub_tests::judge::Image;
use hub_tests::lab::Lab;
use serde_json::{Value, json};

use super::play;
use super::protected::{MIB, Protected, disk, failed_with};

/// Gives a flat disk another size, as the hypervisor does: the extent, and the descriptor's line about it.
fn resize(it: &Protected, from: u64, to: u64) -> Result<()> {
    let descriptor = it.vm.disk(0)?.top();
    let text = fs::read_to_string(&descriptor)?;
    let line = |bytes: u64| format!("RW {} FLAT", bytes / 512);
    ensure!(text.contains(&line(from)), "the descriptor says the size: {text}");
    fs::write(&descriptor, text.replace(&line(from), &line(to)))?;
    let stem = descriptor.file_stem().and_then(|it| it.to_str()).context("a name")?;
    let extent = descriptor.with_file_name(format!("{stem}-flat.vmdk"));
    Ok(File::options().write(true).open(extent)?.set_len(to)?)
}

async fn refresh(lab: &Lab, it: &Protected) -> Result<Value> {
    let path = format!("/vm-contexts/{}/refresh", it.context_id);
    lab.api.post(&path, &json!({})).await?.ok()?;
    let mut disks = lab.disks(&it.context_id).await?;
    ensure!(disks.len() == 1, "the same row: {disks:#?}");
    disks.pop().context("one disk")
}

/// Traps C22, U2 and U19: the overlay has the disk's size and not the parent's.
#[tokio::test]
async fn trap_c22_a_grown_disk_gets_a_larger_overlay_and_a_shrunk_one_a_new_full() {
    let part = async |lab: &mut Lab| {
        let (small, large) = (8 * MIB, 24 * MIB + 512);
        let areas = vec![0..2 * MIB, 7 * MIB..8 * MIB];
        let disk = disk(small, Subformat::MonolithicFlat, 1, areas);
        let it = Protected::new(lab, &VmSpec::new("growing", vec![disk])).await?;
        it.back_up(lab, "full").await?;
        let row = refresh(lab, &it).await?;

        resize(&it, small, large)?;
        // Until the catalogue knows the new size, nothing is written to a target of the old one (trap D7).
        let run = it.start(lab, "incremental").await?;
        failed_with(&lab.api.ended(&run, |_| ()).await?, "source/capacity-mismatch")?;
        let grown = refresh(lab, &it).await?;
        ensure!(grown.number("/id")? == row.number("/id")?, "the same row: {grown:#}");
        ensure!(grown.number("/capacity_bytes")? == large, "the new size: {grown:#}");

        let flat = it.vm.disk(0)?.top().with_file_name("growing-flat.vmdk");
        let file = File::options().write(true).open(&flat)?;
        std::os::unix::fs::FileExt::write_all_at(&file, &noise(3, 65_536), 20 * MIB)?;
        drop(file);
        let backups = it.back_up(lab, "incremental").await?;
        let point = backups.first().context("one disk")?;
        ensure!(point.text("/backup_type")? == "incremental", "{point:#}");
        ensure!(point.text("/method")? == "by_digest", "never by a mark: {point:#}");
        ensure!(point.text("/method_reason")?.contains("grown"), "{point:#}");
        it.verify(lab, point).await?;
        let body = json!({"backup_id": point.text("/backup_id")?, "format": "vmdk"});
        let path = lab.api.run("/restores", &body).await?.text("/path")?;
        Image::new(path.as_ref(), "vmdk").compare(Image::new(&flat, "raw"))?;

        resize(&it, large, small)?;
        refresh(lab, &it).await?;
        let backups = it.back_up(lab, "incremental").await?;
        let point = backups.first().context("one disk")?;
        ensure!(point.text("/backup_type")? == "full", "{point:#}");
        ensure!(point.text("/method_reason")?.contains("smaller"), "{point:#}");
        Ok(())
    };
    play(&["capacity-mismatch", "the source refused"], part).await.unwrap();
}
