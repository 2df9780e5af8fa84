//! A repository that compresses: smaller images that stock tools read, in chains that mix both kinds.

use anyhow::{Result, ensure};
use hub_tests::api::Fields as _;
use hub_tests::datastore::{Content, DiskSpec, Subformat, VmSpec};
use hub_tests::judge::{Image, file_digest};
use hub_tests::lab::Lab;
use serde_json::{Value, json};

use super::play;
use super::protected::{MIB, Protected};

/// Lines that shrink well and are nowhere the same.
fn lines(generation: u32, bytes: usize) -> Vec<u8> {
    let line =
        |number: u32| format!("generation {generation}, line {number} of a long and dull text\n");
    (0..).flat_map(|number| line(number).into_bytes()).take(bytes).collect()
}

/// Asks the repository for another setting.
async fn compress(lab: &Lab, it: &Protected, settings: Value) -> Result<()> {
    let path = format!("/repositories/{}", it.repository);
    lab.api.patch(&path, &settings).await?.ok().map(drop)
}

/// Clusters that `qemu-img check` counts as compressed, after `qemu-img info` has named the method.
fn compressed_clusters(it: &Protected, backup: &Value) -> Result<u64> {
    let path = it.image(backup)?;
    let info = Image::new(&path, "qcow2").info()?;
    let (kind, method) = (backup.text("/compression")?, "/format-specific/data/compression-type");
    let named = info.text(method)?;
    ensure!((kind == "zstd") == (named == "zstd"), "{kind} is called {named}: {info:#}");
    let arguments = ["check", "-f", "qcow2", "--output=json", &path.display().to_string()];
    let report: Value = serde_json::from_str(&hub_tests::tool::run("qemu-img", &arguments)?)?;
    Ok(report.get("compressed-clusters").and_then(Value::as_u64).unwrap_or(0))
}

/// Fails unless a point, verified and restored by the hub, is the source as it is now.
async fn is_restorable(lab: &Lab, it: &Protected, backup: &Value) -> Result<()> {
    it.verify(lab, backup).await?;
    let source = Image::new(&it.vm.disk(0)?.top(), "vmdk").digest()?;
    ensure!(Image::new(&it.image(backup)?, "qcow2").digest()? == source, "by qemu: {backup:#}");
    let body = json!({"backup_id": backup.text("/backup_id")?, "format": "raw"});
    let restore = lab.api.run("/restores", &body).await?;
    ensure!(file_digest(restore.text("/path")?.as_ref())? == source, "restored: {backup:#}");
    Ok(())
}

#[tokio::test]
async fn p11_a_compressed_chain_is_smaller_and_restores_with_stock_tools() {
    let part = async |lab: &mut Lab| {
        let areas = std::iter::once(40 * MIB..41 * MIB).collect();
        let content = Content::Noise { seed: 7, areas };
        let disk = DiskSpec { capacity: 64 * MIB, subformat: Subformat::MonolithicSparse, content };
        let it = Protected::new(lab, &VmSpec::new("dull", vec![disk])).await?;
        it.vm.disk(0)?.write(0, &lines(0, 8 << 20))?;
        compress(lab, &it, json!({"compression": "zstd", "compression_level": 1})).await?;
        let full = it.back_up(lab, "full").await?.pop().unwrap_or_default();
        ensure!(full.text("/compression")? == "zstd", "{full:#}");
        ensure!(compressed_clusters(&it, &full)? == 128, "8 MiB of lines shrink, noise does not");
        ensure!(full.number("/bytes/sent")? == 9 * MIB, "sent as it is: {full:#}");
        ensure!(full.number("/stored_bytes")? < 4 * MIB, "{full:#}");
        is_restorable(lab, &it, &full).await?;

        it.vm.disk(0)?.write(2 * MIB, &lines(1, 1 << 20))?;
        compress(lab, &it, json!({"compression_level": 19})).await?;
        let second = it.back_up(lab, "incremental").await?.pop().unwrap_or_default();
        ensure!(second.text("/backup_type")? == "incremental", "{second:#}");
        ensure!(compressed_clusters(&it, &second)? == 16, "1 MiB was changed");
        is_restorable(lab, &it, &second).await?;

        compress(lab, &it, json!({"compression": "none"})).await?;
        it.vm.disk(0)?.write(3 * MIB, &lines(2, 1 << 20))?;
        let third = it.back_up(lab, "incremental").await?.pop().unwrap_or_default();
        ensure!(third.text("/compression")? == "none", "{third:#}");
        ensure!(compressed_clusters(&it, &third)? == 0, "only what stands below it is compressed");
        is_restorable(lab, &it, &third).await?;
        let listed = lab.api.all("/backups").await?;
        let kinds: Vec<_> =
            listed.iter().map(|it| it.text("/compression")).collect::<Result<_>>()?;
        ensure!(kinds == ["zstd", "zstd", "none"], "each point says its own: {kinds:?}");
        Ok(())
    };
    play(&[], part).await.unwrap();
}
