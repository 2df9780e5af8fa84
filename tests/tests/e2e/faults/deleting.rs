//! Promise P10: deleting never removes a block that a kept point needs.

use anyhow::{Context as _, Result, ensure};
use hub_tests::api::Fields as _;
use hub_tests::datastore::{VmSpec, noise};
use hub_tests::judge::Image;
use hub_tests::lab::Lab;
use serde_json::Value;

use super::play;
use super::protected::{MIB, Protected, small_disk};

/// The ids of the points of the VM's only chain, from the full upwards; none without a chain.
async fn chain(lab: &Lab, it: &Protected) -> Result<Vec<String>> {
    let path = format!("/backup/chain?vm_context_id={}&disk_id=0", it.context_id);
    let answer = lab.api.get(&path).await?.ok()?;
    let chains = answer.list("/chains")?;
    let Some(chain) = chains.first() else { return Ok(Vec::new()) };
    ensure!(chains.len() == 1, "one repository, one chain: {answer:#}");
    let points = chain.list("/points")?;
    let ids: Vec<String> = points.iter().map(|it| it.text("/backup_id")).collect::<Result<_>>()?;
    ensure!(chain.number("/count")? == u64::try_from(ids.len())?, "{chain:#}");
    ensure!(Some(chain.text("/full_backup_id")?) == ids.first().cloned(), "{chain:#}");
    ensure!(Some(chain.text("/latest_backup_id")?) == ids.last().cloned(), "{chain:#}");
    let stored = points.iter().map(|it| it.number("/stored_bytes")).sum::<Result<u64>>()?;
    ensure!(chain.number("/stored_bytes")? == stored, "{chain:#}");
    Ok(ids)
}

#[tokio::test]
async fn p10_a_point_goes_only_when_nothing_stands_on_it_and_its_files_go_with_it() {
    let part = async |lab: &mut Lab| {
        let it = Protected::new(lab, &VmSpec::new("shrinking", vec![small_disk(1)])).await?;
        let mut points: Vec<Value> = Vec::new();
        for (generation, kind) in (0..).zip(["full", "incremental", "incremental"]) {
            it.vm.disk(0)?.write(2 * MIB, &noise(generation, 65_536))?;
            points.extend(it.back_up(lab, kind).await?);
        }
        let ids: Vec<String> =
            points.iter().map(|it| it.text("/backup_id")).collect::<Result<_>>()?;
        ensure!(chain(lab, &it).await? == ids, "three points in their order");

        let before = it.files()?;
        for (parent, child) in ids.iter().zip(ids.iter().skip(1)) {
            for path in [format!("/backup/{parent}"), format!("/backups/{parent}")] {
                let problem = lab.api.delete(&path).await?.refused(409, "backup/has-children")?;
                let children = problem.list("/children")?;
                ensure!(children == [Value::from(child.as_str())], "it names them: {problem:#}");
            }
        }
        it.unchanged_since(&before)?;
        ensure!(chain(lab, &it).await? == ids, "a refused deletion changes nothing");

        while let Some(leaf) = points.pop() {
            let image = it.image(&leaf)?;
            let gone = [image.clone(), image.with_extension("manifest")];
            let id = leaf.text("/backup_id")?;
            let answer = lab.api.delete(&format!("/backups/{id}")).await?;
            ensure!(answer.status == 204, "{answer:?}");
            let mut expected = before.clone();
            expected.retain(|path, _| {
                let kept = |point: &Value| it.image(point).is_ok_and(|it| same_point(&it, path));
                points.iter().any(kept)
            });
            ensure!(gone.iter().all(|path| !path.exists()), "image and manifest are gone");
            it.unchanged_since(&expected)?;
            lab.api.get(&format!("/backups/{id}")).await?.refused(404, "backup/not-found")?;
            let left: Vec<String> =
                points.iter().map(|it| it.text("/backup_id")).collect::<Result<_>>()?;
            ensure!(chain(lab, &it).await? == left, "the chain says so at once");
            if let Some(tip) = points.last() {
                Image::new(&it.image(tip)?, "qcow2").check()?;
                it.verify(lab, tip).await?;
            }
            lab.api.delete(&format!("/backups/{id}")).await?.refused(404, "backup/not-found")?;
        }
        // An incremental with nothing to stand on is a full, and says why (trap D45).
        let backups = it.back_up(lab, "incremental").await?;
        let point = backups.first().context("one disk")?;
        ensure!(point.text("/backup_type")? == "full", "{point:#}");
        ensure!(!point.text("/method_reason")?.is_empty(), "{point:#}");
        Ok(())
    };
    play(&[], part).await.unwrap();
}

/// Whether a file is the image at `image` or its manifest.
fn same_point(image: &std::path::Path, file: &std::path::Path) -> bool {
    file.with_extension("") == image.with_extension("")
}

#[tokio::test]
async fn a_backup_at_work_and_a_managed_vm_with_one_are_not_deleted() {
    let part = async |lab: &mut Lab| {
        let spec = VmSpec::new("at-work", vec![super::protected::large_disk(1)]);
        let it = Protected::new(lab, &spec).await?;
        let run = it.freeze_mid_copy(lab, "full").await?;
        let shown = lab.api.get(&run).await?.ok()?;
        let id = shown.text("/backups/0/backup_id")?;
        lab.api.delete(&format!("/backups/{id}")).await?.refused(409, "backup/active")?;
        let path = format!("/vm-contexts/{}", it.context_id);
        lab.api.delete(&path).await?.refused(409, "vm/active")?;
        lab.vma.program.signal("CONT")?;
        let ended = lab.api.ended(&run, |_| ()).await?;
        ensure!(ended.text("/status")? == "succeeded", "{ended:#}");

        // Points outlive the VM context.
        let answer = lab.api.delete(&path).await?;
        ensure!(answer.status == 204, "{answer:?}");
        let point = lab.api.get(&format!("/backups/{id}")).await?.ok()?;
        it.verify(lab, &point).await?;
        it.judge(&point, Image::new(&it.vm.disk(0)?.top(), "vmdk"))
    };
    play(&[], part).await.unwrap();
}
