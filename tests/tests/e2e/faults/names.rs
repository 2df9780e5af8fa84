//! VMs with names that break paths, lists and columns, and VMs that cannot be protected.

use std::fs;

use anyhow::{Context as _, ensure};
use hub_tests::api::{Fields as _, encoded};
use hub_tests::datastore::VmSpec;
use hub_tests::judge::Image;
use hub_tests::lab::Lab;
use serde_json::json;

use super::play;
use super::protected::{Protected, files_below, small_disk};

#[tokio::test]
async fn trap_c23_a_vm_of_any_name_is_added_backed_up_verified_and_restored() {
    let part = async |lab: &mut Lab| {
        let long = "n".repeat(200);
        let wide = "名".repeat(200);
        let names = [
            "web 1, the old one",
            "../../etc/passwd",
            "a/b",
            "Прод, база — №1 🚀",
            "say \"hi\" | 50% & $HOME ; 'x' \\ <b>?#",
            "vm-disk1-disk10",
            &long,
            &wide,
        ];
        let repository = lab.repository().await?;
        let root = lab.hub.data_dir().join("repository");
        for (number, name) in (0..).zip(names) {
            let spec = VmSpec {
                name: name.to_owned(),
                folder: format!("folder {number}, ж"),
                disks: vec![small_disk(number)],
            };
            let (repository, root) = (repository.clone(), root.clone());
            let it = Protected::in_repository(lab, &spec, repository, root).await;
            let it = it.with_context(|| name.to_owned())?;
            let context = lab.context(&encoded(name)).await;
            let context = context.with_context(|| name.to_owned())?;
            ensure!(context.text("/context_id")? == it.context_id, "by name: {context:#}");
            ensure!(context.text("/vm_name")? == name, "as it is: {context:#}");

            let backups = it.back_up(lab, "full").await.with_context(|| name.to_owned())?;
            let backup = backups.first().context("one disk")?;
            ensure!(backup.text("/vm_name")? == name, "{backup:#}");
            it.verify(lab, backup).await?;
            let body = json!({"backup_id": backup.text("/backup_id")?, "format": "raw"});
            let restore = lab.api.run("/restores", &body).await?;
            let path = restore.text("/path")?;
            it.vm.disk(0)?.compare(Image::new(path.as_ref(), "raw"))?;

            let path = format!("/backup/chain?vm_name={}&disk_id=0", encoded(name));
            let chain = lab.api.get(&path).await?.ok()?;
            ensure!(chain.number("/chains/0/count")? == 1, "{name}: {chain:#}");
            let path = format!("/backups?vm_name={}", encoded(name));
            let listed = lab.api.all(&path).await?;
            ensure!(listed.len() == 1, "only its own: {name}: {listed:#?}");
        }
        for path in files_below(lab.hub.data_dir())? {
            let path = path.display().to_string();
            let told = names.iter().filter(|name| name.len() > 2).any(|name| path.contains(name));
            ensure!(!told && path.is_ascii(), "file names come from ids only: {path}");
        }
        Ok(())
    };
    play(&[], part).await.unwrap();
}

#[tokio::test]
async fn trap_d2_a_disk_of_capacity_0_is_rejected_with_the_reason_and_stops_no_other_vm() {
    let part = async |lab: &mut Lab| {
        let good = VmSpec::new("good", vec![small_disk(1)]);
        let bad = VmSpec::new("bad", vec![small_disk(2)]);
        lab.datastore.add_vm(&good)?;
        let vm = lab.datastore.add_vm(&bad)?;
        let descriptor = "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\n\
            createType=\"monolithicFlat\"\n\nRW 0 FLAT \"bad-flat.vmdk\" 0\n\n\
            ddb.adapterType = \"lsilogic\"\n";
        fs::write(vm.disk(0)?.top(), descriptor)?;
        fs::write(vm.home().join("bad-flat.vmdk"), "")?;

        let seen = lab.api.post("/discovery/discover-vms", &json!({})).await?.ok()?;
        ensure!(seen.list("/vms")?.len() == 1, "{seen:#}");
        ensure!(seen.list("/rejected")?.len() == 1, "{seen:#}");
        let detail = seen.text("/rejected/0/detail")?;
        ensure!(detail.contains("size 0") || detail.contains("capacity is 0"), "why: {detail}");

        for body in [json!({"vm_names": ["bad", "good"]}), json!({"all": true})] {
            let added = lab.api.post("/discovery/add-vms", &body).await?.ok()?;
            ensure!(added.list("/results")?.len() == 2, "both are answered: {added:#}");
            ensure!(added.number("/failed")? == 1, "{added:#}");
            for result in added.list("/results")? {
                if result.flag("/success")? {
                    ensure!(result.text("/vm_name")? == "good", "{added:#}");
                    continue;
                }
                let code = result.text("/error/code")?;
                ensure!(code == "discovery/vm-rejected", "rejected, not absent: {added:#}");
                let detail = result.text("/error/detail")?;
                ensure!(detail.contains("size 0") || detail.contains("capacity is 0"), "{detail}");
            }
        }
        let managed = lab.api.all("/vm-contexts").await?;
        ensure!(managed.len() == 1, "the good one only: {managed:#?}");
        Ok(())
    };
    play(&[], part).await.unwrap();
}
