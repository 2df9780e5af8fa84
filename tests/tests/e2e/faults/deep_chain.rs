//! Long chains: every depth is sound when it is made, and can be restored when it is old.

use anyhow::{Result, ensure};
use hub_tests::api::Fields as _;
use hub_tests::datastore::{VmSpec, noise};
use hub_tests::judge::{Image, export_digest, file_digest};
use hub_tests::lab::Lab;
use serde_json::{Value, json};

use super::play;
use super::protected::{MIB, Protected, small_disk};

/// Points of the chain; chains broke at the eleventh where names were sorted as texts.
const POINTS: u64 = 13;

/// Trap U22.
#[tokio::test]
async fn trap_u22_every_point_of_a_chain_of_13_equals_the_source_as_it_was() {
    let part = async |lab: &mut Lab| {
        let it = Protected::new(lab, &VmSpec::new("deep", vec![small_disk(1)])).await?;
        let mut points: Vec<(Value, blake3::Hash)> = Vec::new();
        for generation in 0..POINTS {
            // A block of its own, one that every generation overwrites, and at times zeroes over earlier data.
            it.vm.disk(0)?.write(generation * 65_536, &noise(generation, 65_536))?;
            it.vm.disk(0)?.write(4 * MIB, &noise(100 + generation, 65_536))?;
            if generation % 4 == 3 {
                it.vm.disk(0)?.write((generation - 3) * 65_536, &[0; 65_536])?;
            }
            let kind = if generation == 0 { "full" } else { "incremental" };
            let source = Image::new(&it.vm.disk(0)?.top(), "vmdk").digest()?;
            for backup in it.back_up(lab, kind).await? {
                ensure!(backup.text("/backup_type")? == kind, "{backup:#}");
                points.push((backup, source));
            }
        }
        let path = format!("/backup/chain?vm_context_id={}&disk_id=0", it.context_id);
        let chain = lab.api.get(&path).await?.ok()?;
        let ids = |points: &[Value]| -> Result<Vec<String>> {
            points.iter().map(|point| point.text("/backup_id")).collect()
        };
        let made: Vec<Value> = points.iter().map(|(backup, _)| backup.clone()).collect();
        ensure!(ids(&chain.list("/chains/0/points")?)? == ids(&made)?, "in order: {chain:#}");

        for (backup, source) in &points {
            let id = backup.text("/backup_id")?;
            let path = it.image(backup)?;
            Image::new(&path, "qcow2").check()?;
            ensure!(Image::new(&path, "qcow2").digest()? == *source, "by qemu: {backup:#}");
            let body = json!({"backup_id": id, "format": "raw"});
            let restore = lab.api.run("/restores", &body).await?;
            let restored = file_digest(restore.text("/path")?.as_ref())?;
            ensure!(restored == *source, "restored: {backup:#}");
            let export = lab.api.post("/exports", &json!({"backup_id": id})).await?.ok()?;
            ensure!(export_digest(&export.text("/nbd_uri")?)? == *source, "exported: {backup:#}");
        }
        if let Some((tip, _)) = points.last() {
            it.verify(lab, tip).await?;
        }
        Ok(())
    };
    play(&[], part).await.unwrap();
}
